"""The loop, on a network of one layer: what is kept, when it ends, what it notes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from ffe.base.clock import Clock
from ffe.errors import DataError, SpecError
from ffe.finetuning.epochs import Epoch, best_of, tensorboard_log
from ffe.finetuning.schedule import learning_rate
from ffe.finetuning.trainer import Step, Trainer, loss_and_accuracy
from ffe.specs import TrainingSpec

ROWS = 40


class Source:
    """Two classes that one number tells apart."""

    def __init__(self, scale: float = 1.0, on_take: Callable[[], None] = lambda: None) -> None:
        generator = np.random.default_rng(0)
        self.labels = np.arange(ROWS) % 2
        self.x = (generator.normal(size=(ROWS, 3)) + 2 * self.labels[:, None]).astype(np.float32) * scale
        self.views: list[int] = []
        self._on_take = on_take

    def take(self, rows: np.ndarray, view: int) -> np.ndarray:
        self._on_take()
        self.views.append(view)
        return self.x[rows]


def one_layer(classes: int = 2) -> keras.Model:
    inputs = keras.Input((3,))
    return keras.Model(inputs, keras.layers.Dense(1 if classes == 2 else classes, kernel_initializer="zeros")(inputs))


def trainer_for(spec: TrainingSpec, source: Source, clock: Clock | None = None, **callbacks: Callable[..., None]) -> Trainer:
    train, valid = np.arange(30), np.arange(30, ROWS)
    return Trainer(spec, source.labels, np.ones(3), train, valid, clock or Clock(time.monotonic()), **callbacks)  # type: ignore[arg-type]


def test_it_learns_and_notes_every_epoch() -> None:
    source, told, steps = Source(), [], []
    spec = TrainingSpec(("0",), (4,), (0.1,), batch_size=8)
    trainer = trainer_for(spec, source, on_epoch=told.append, on_step=steps.append)
    model = one_layer()
    trainer.stage(1, model, source)
    assert told == trainer.epochs
    assert [(epoch.stage, epoch.epoch) for epoch in told] == [(1, n) for n in range(5)]
    first, *others = told
    assert (first.loss, first.accuracy, first.learning_rate) == (None, None, None)
    assert first.valid_loss == pytest.approx(math.log(2))
    assert others[-1].valid_loss < 0.5 < first.valid_loss
    assert others[-1].valid_accuracy > 0.8
    assert [epoch.elapsed for epoch in told] == sorted(epoch.elapsed for epoch in told)
    assert steps[:5] == [Step(1, 1, 1, 4), Step(1, 1, 2, 4), Step(1, 1, 3, 4), Step(1, 1, 4, 4), Step(1, 2, 1, 4)]
    assert set(source.views) == {0, 1, 2, 3, 4}  # the plain images validate


def test_the_best_weights_are_kept_and_patience_ends_a_stage() -> None:
    """With such a learning rate the first epoch is the best, or none is."""
    source = Source()
    spec = TrainingSpec(("0",), (50,), (5.0,), batch_size=8, patience=2)
    trainer, model = trainer_for(spec, source), one_layer()
    trainer.stage(1, model, source)
    best = best_of(trainer.epochs)
    assert best.valid_loss == min(epoch.valid_loss for epoch in trainer.epochs)
    assert len(trainer.epochs) - 1 - best.epoch == 2
    logits = model.predict_on_batch(source.x[30:])
    assert loss_and_accuracy(np.asarray(logits), source.labels[30:])[0] == pytest.approx(best.valid_loss, abs=1e-6)


def test_a_later_stage_begins_with_the_best_of_the_ones_before() -> None:
    source = Source()
    spec = TrainingSpec(("0", "all"), (3, 2), (0.1, 5.0), batch_size=8, patience=0)
    trainer, model = trainer_for(spec, source), one_layer()
    trainer.stage(1, model, source)
    before = best_of(trainer.epochs)
    trainer.stage(2, model, source)
    assert [epoch.stage for epoch in trainer.epochs] == [1, 1, 1, 1, 2, 2]
    assert sum(epoch.epoch == 0 for epoch in trainer.epochs) == 1
    assert best_of(trainer.epochs).valid_loss <= before.valid_loss
    logits = model.predict_on_batch(source.x[30:])
    best = best_of(trainer.epochs)
    assert loss_and_accuracy(np.asarray(logits), source.labels[30:])[0] == pytest.approx(best.valid_loss, abs=1e-6)


def test_a_budget_ends_an_epoch_in_its_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = [0]
    clock = SimpleNamespace(monotonic=lambda: 0.02 * taken[0])  # a step takes a fiftieth of a second
    monkeypatch.setattr("ffe.finetuning.trainer.time", clock)

    def count() -> None:
        taken[0] += 1

    source, steps = Source(on_take=count), []
    spec = TrainingSpec(("0",), (1000,), (0.01,), batch_size=1, patience=0, seconds=1.5)
    trainer = trainer_for(spec, source, Clock(0.0, spec.seconds), on_step=steps.append)
    trainer.stage(1, one_layer(), source)
    assert steps[-1].done < steps[-1].total == 30
    assert len(trainer.epochs) < 10
    assert trainer.epochs[-1].epoch >= 1
    last = trainer.epochs[-1].epoch
    assert trainer.ended_early == (
        f"the 1.5 s were over after epoch {last} of 1000, so the training ended there, and the best weights so far are kept"
    )


@pytest.mark.parametrize("seconds", [None, 1e6])
def test_epochs_and_patience_are_no_end_of_time(seconds: float | None) -> None:
    source = Source()
    spec = TrainingSpec(("0",), (2,), (0.1,), batch_size=8, seconds=seconds)
    trainer = trainer_for(spec, source, Clock(time.monotonic(), seconds))
    trainer.stage(1, one_layer(), source)
    assert trainer.ended_early is None


def test_a_loss_that_is_no_number_is_refused() -> None:
    source = Source(scale=1e30)
    spec = TrainingSpec(("0",), (3,), (10.0,), batch_size=8)
    with pytest.raises(DataError) as raised:
        trainer_for(spec, source).stage(1, one_layer(), source)
    assert str(raised.value) == ("The loss of epoch 1 in stage 1 is no number any more; give a smaller --learning-rate than 10.")


def test_what_was_learnt_before_outlives_a_loss_that_is_no_number(caplog: pytest.LogCaptureFixture) -> None:
    """The second stage comes to nothing, and the weights of the first are kept."""
    source = Source()
    spec = TrainingSpec(("0", "all"), (3, 3), (0.1, 10.0), batch_size=8)
    trainer, model = trainer_for(spec, source), one_layer()
    trainer.stage(1, model, source)
    learnt, epochs = model.get_weights(), list(trainer.epochs)
    source.x[:30] *= np.float32(1e30)
    trainer.stage(2, model, source)
    for found, expected in zip(model.get_weights(), learnt, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert trainer.epochs == epochs
    assert (
        "The loss of epoch 1 in stage 2 is no number any more, so the stage ends with the best weights so far; "
        "give a smaller --learning-rate than 10."
    ) in caplog.text


def test_the_same_seed_gives_the_same_epochs_and_another_another() -> None:
    def losses(seed: int) -> list[float]:
        source = Source()
        trainer = trainer_for(TrainingSpec(("0",), (3,), (0.05,), batch_size=8, seed=seed), source)
        trainer.stage(1, one_layer(), source)
        return [epoch.valid_loss for epoch in trainer.epochs]

    assert losses(1) == pytest.approx(losses(1), abs=1e-7)
    assert losses(1) != pytest.approx(losses(2), abs=1e-7)


def test_several_classes() -> None:
    source = Source()
    source.labels = np.arange(ROWS) % 3
    source.x = (np.eye(3)[source.labels] + np.random.default_rng(0).normal(0, 0.1, (ROWS, 3))).astype(np.float32)
    trainer = trainer_for(TrainingSpec(("0",), (5,), (0.5,), batch_size=8), source)
    trainer.stage(1, one_layer(3), source)
    assert trainer.epochs[0].valid_loss == pytest.approx(math.log(3))
    assert best_of(trainer.epochs).valid_accuracy == 1
    assert trainer.epochs[-1].accuracy == pytest.approx(1)


def test_schedules() -> None:
    def rates(name: str, epochs: int, hold: int = 10) -> list[float]:
        return [learning_rate(name, 0.001, epoch, epochs, hold) for epoch in range(epochs)]  # type: ignore[arg-type]

    assert rates("constant", 3) == [0.001] * 3
    falling = rates("exponential", 13)
    assert falling[:10] == [0.001] * 10
    assert falling[10:] == pytest.approx([0.001 * math.exp(-0.1 * n) for n in (1, 2, 3)])
    assert rates("exponential", 2, hold=1) == pytest.approx([0.001, 0.001 * math.exp(-0.1)])
    often_written = [0.001 if epoch < 10 else 0.001 * math.exp(0.1 * (10 - epoch)) for epoch in range(30)]
    assert rates("exponential", 30, hold=11) == pytest.approx(often_written)
    cosine = rates("cosine", 4)
    assert cosine[0] == 0.001
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[2] == pytest.approx(0.0005)
    assert cosine[-1] > 0


def test_the_rates_of_the_schedule_are_the_optimizers() -> None:
    source = Source()
    spec = TrainingSpec(("0",), (3,), (0.1,), schedule="cosine", batch_size=30, patience=0)
    trainer, model = trainer_for(spec, source), one_layer()
    seen = []
    trainer.on_step = lambda step: seen.append(float(model.optimizer.learning_rate))
    trainer.stage(1, model, source)
    assert seen == pytest.approx([0.1, 0.075, 0.025])
    assert [epoch.learning_rate for epoch in trainer.epochs[1:]] == pytest.approx(seen)


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    epochs = [Epoch(1, n, None if not n else 1 / n, 0.5, 0.3 + n, 0.9, 0.1 if n else None, 1.0, 1.0, True) for n in range(3)]
    with tensorboard_log(tmp_path) as add:
        for epoch in epochs:
            add(epoch)
    found = {}
    for run in ("train", "validation"):
        accumulator = EventAccumulator(str(tmp_path / run))
        accumulator.Reload()
        for tag in accumulator.Tags()["tensors"]:
            events = accumulator.Tensors(tag)
            found[run, tag] = {event.step: event.tensor_proto.float_val[0] for event in events}
    assert found["validation", "epoch_loss"] == pytest.approx({0: 0.3, 1: 1.3, 2: 2.3})
    assert found["train", "epoch_loss"] == pytest.approx({1: 1.0, 2: 0.5})
    assert found["train", "epoch_learning_rate"] == pytest.approx({1: 0.1, 2: 0.1})


def test_options_that_do_not_fit() -> None:
    assert TrainingSpec(("6", "19"), (15,), (1e-4, 1e-5)).epochs == (15, 15)
    for options, message in (
        (
            {"unfreeze": ("6", "19"), "epochs": (1, 2, 3)},
            "--unfreeze names 2 stages, but --epochs 3; give one value for each stage",
        ),
        (
            {"unfreeze": ("6",), "learning_rate": (0.1, 0.01)},
            "--unfreeze names 1 stage, but --learning-rate 2; give one value for each stage, or a single one for all.",
        ),
        ({"unfreeze": ("",)}, "--unfreeze names no layers; write, for example, --unfreeze 6, --unfreeze 6,19 or --unfreeze all."),
        ({"unfreeze": ("6",), "epochs": (0,)}, "epochs are 0, but each must be from 1 to 10000."),
        ({"unfreeze": ("6",), "learning_rate": (-1.0,)}, "learning rates are -1, but each must be above 0, and at most 10."),
        ({"unfreeze": ("6",), "dropout": 1.0}, "dropout is 1, but must be from 0 to 0.95."),
        ({"unfreeze": ("6",), "seconds": 0.0}, "a budget of 0 seconds cannot be kept; give one above 0."),
        ({"unfreeze": ("6",), "optimizer": "sgd"}, "optimizer is 'sgd', but must be one of adam, rmsprop."),
        ({"unfreeze": ("6",), "batch_size": 0}, "batch_size is 0, but must be from 1 to 4096."),
    ):
        with pytest.raises(SpecError) as raised:
            TrainingSpec(**options)  # type: ignore[arg-type]
        assert str(raised.value).startswith(message)
    spec = TrainingSpec(("6", "all"), (3, 4), seconds=5.0)
    assert TrainingSpec.from_json(spec.to_json()) == spec
