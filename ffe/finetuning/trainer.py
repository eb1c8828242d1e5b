"""The loop: epochs of steps, validation after each, the best weights in the end. Keras's own API, on any of its backends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ffe.base.clock import Clock
from ffe.engines.devices import keras_gpus, predicted
from ffe.errors import DataError
from ffe.finetuning.epochs import Epoch
from ffe.finetuning.optimizers import make_optimizer
from ffe.finetuning.prefetch import BatchSource, batches
from ffe.finetuning.schedule import learning_rate
from ffe.heads.mlp import Orders
from ffe.specs import TrainingSpec

if TYPE_CHECKING:
    import keras

log = logging.getLogger("ffe")

_Scores = tuple[float, float]  # loss and accuracy


@dataclass(frozen=True)
class Step:
    """How far an epoch is: its stage and number, and its steps so far."""

    stage: int
    epoch: int
    done: int
    total: int


@dataclass(eq=False)
class Trainer:
    """Trains the parts of one network, stage after stage."""

    spec: TrainingSpec
    labels: np.ndarray  # int64 (N,), in [0, K)
    weights: np.ndarray  # float64 (K,), how much a row of each class counts in training
    train: np.ndarray  # int64, rows to learn from
    valid: np.ndarray  # int64, rows to choose by
    clock: Clock
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    on_step: Callable[[Step], None] = lambda step: None
    epochs: list[Epoch] = field(default_factory=list, init=False)  # what happened so far
    out_of_time: bool = field(default=False, init=False)  # whether the clock ended it before its epochs or the patience did
    interrupted: bool = field(default=False, init=False)  # whether Ctrl-C did

    def __post_init__(self) -> None:
        self._orders = Orders(len(self.train), self.spec.seed)
        self._best, self._view = np.inf, 0

    @property
    def improved(self) -> bool:
        """Whether an epoch was better than the start."""
        return any(told.best for told in self.epochs if told.epoch)

    @property
    def ended_early(self) -> str | None:
        """That the time was over, or that it was interrupted; None where the epochs or the patience ended the training."""
        if not (self.out_of_time or self.interrupted):
            return None
        spec, last, stages = self.spec, self.epochs[-1], len(self.spec.unfreeze)
        time_was = "time was" if spec.seconds is None else f"{spec.seconds:g} s were"
        ended = "command was interrupted" if self.interrupted else f"{time_was} over"
        where = f"epoch {last.epoch} of {spec.epochs[last.stage - 1]}"
        where += f" in stage {last.stage} of {stages}" if stages > 1 else ""
        return f"the {ended} after {where}, so the training ended there, and the best weights so far are kept"

    def stage(self, number: int, model: keras.Model, source: BatchSource) -> None:
        """Train one stage, from 1; the model ends with the best weights of all epochs so far.

        It takes what the source gives to logits (n, 1 or K), and holds the best weights so far. Ctrl-C ends it likewise, once
        there are weights that are better than the start; before, it is raised, as is a DataError where the loss is no number.
        Of losses that differ in their last bits alone, another processor may find another one the least.
        """
        spec, start, count = self.spec, self.spec.learning_rate[number - 1], self.spec.epochs[number - 1]
        optimizer = make_optimizer(spec.optimizer, start, spec.weight_decay)
        compile_for(model, optimizer)
        if not self.epochs:
            began = time.monotonic()
            self._add_epoch((number, 0), None, self._validate(model, source), None, began)
        best, since = model.get_weights(), 0
        try:
            for epoch in range(1, count + 1):
                if self.clock.is_over and len(self.epochs) > 1:
                    self.out_of_time = True
                    break
                began = time.monotonic()
                rate = learning_rate(spec.schedule, start, epoch - 1, count, spec.hold)
                optimizer.learning_rate = rate
                trained = self._learn(model, source, number, epoch)
                validated = self._validate(model, source)
                if not np.isfinite([*trained, *validated]).all():
                    what = f"The loss of epoch {epoch} in stage {number} is no number any more"
                    advice = f"give a smaller --learning-rate than {start:g}."
                    if not self.improved:
                        raise DataError(f"{what}; {advice}")
                    log.warning("%s, so the stage ends with the best weights so far; %s", what, advice)
                    break
                if validated[0] < self._best:  # taken before anybody is told, who may interrupt
                    best, since = model.get_weights(), 0
                else:
                    since += 1
                self._add_epoch((number, epoch), trained, validated, rate, began)
                if since == spec.patience != 0:
                    break
        except KeyboardInterrupt:
            self.interrupt()
        model.set_weights(best)

    def interrupt(self) -> None:
        """Take in that the user wants it to end; a KeyboardInterrupt where no epoch was better, so that nothing is to be kept."""
        if not self.improved:
            raise KeyboardInterrupt
        self.interrupted = True
        log.warning("interrupted; the best weights so far are tested and written, and Ctrl-C once more ends at once")

    def _learn(self, model: keras.Model, source: BatchSource, number: int, epoch: int) -> _Scores:
        """Take the steps of one epoch; return loss and accuracy over them."""
        order, size = self.train[next(self._orders)], self.spec.batch_size
        total = -(-len(order) // size)
        self._view += 1
        sums, seen = np.zeros(2), 0
        for done, (rows, x) in enumerate(batches(source, order, size, self._view), start=1):
            model.reset_metrics()  # some versions of Keras do so by themselves, others go on adding up
            labels = self.labels[rows]
            wanted = labels.astype(np.float32)[:, None] if model.output_shape[-1] == 1 else labels
            of_batch: Any = model.train_on_batch(x, wanted, sample_weight=self.weights[labels])
            sums += len(rows) * np.asarray(of_batch, np.float64)
            seen += len(rows)
            self.on_step(Step(number, epoch, done, total))
            if self.clock.is_over:
                self.out_of_time = self.out_of_time or done < total
                break
        loss, accuracy = (sums / seen).tolist()
        return loss, accuracy

    def _validate(self, model: keras.Model, source: BatchSource) -> _Scores:
        logits = [predicted(model, x) for _, x in batches(source, self.valid, self.spec.batch_size)]
        return loss_and_accuracy(np.concatenate(logits), self.labels[self.valid])

    def _add_epoch(
        self, which: tuple[int, int], trained: _Scores | None, validated: _Scores, rate: float | None, began: float
    ) -> None:
        """Remember an epoch (stage, number), and tell of it."""
        better = validated[0] < self._best
        self._best = min(self._best, validated[0])
        times = (time.monotonic() - began, self.clock.elapsed)
        loss, accuracy = trained or (None, None)
        self.epochs.append(Epoch(*which, loss, accuracy, *validated, rate, *times, better))
        self.on_epoch(self.epochs[-1])


def compile_for(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Give a model of logits its loss: of class 1 against class 0 where there is one, else of all classes."""
    import keras

    ops = keras.ops
    single = model.output_shape[-1] == 1

    def right(y_true: Any, y_pred: Any) -> Any:
        if single:
            return ops.cast(ops.equal(y_pred > 0, y_true > 0.5), "float32")
        return ops.cast(ops.equal(ops.cast(ops.reshape(y_true, (-1,)), "int64"), ops.argmax(y_pred, axis=-1)), "float32")

    loss = keras.losses.BinaryCrossentropy if single else keras.losses.SparseCategoricalCrossentropy
    # On TensorFlow's CPU, XLA is many times slower than the graph; see ffe.engines.keras.
    on_cpu = keras.config.backend() == "tensorflow" and not keras_gpus()
    model.compile(
        optimizer,
        loss(from_logits=True),
        metrics=[keras.metrics.MeanMetricWrapper(right, name="accuracy")],
        jit_compile=False if on_cpu else "auto",
    )


def loss_and_accuracy(logits: np.ndarray, labels: np.ndarray) -> _Scores:
    """Return the mean cross entropy and the share of right answers of logits (n, 1 or K)."""
    scores = logits.astype(np.float64)
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    shifted = scores - scores.max(axis=1, keepdims=True)
    loss = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return float(loss.mean()), float((scores.argmax(axis=1) == labels).mean())
