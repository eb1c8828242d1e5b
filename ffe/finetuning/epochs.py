"""What was learnt when: loss and accuracy of every epoch."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Epoch:
    """One epoch of a stage; or the state before the first, whose number is 0."""

    stage: int  # its number, from 1
    epoch: int  # number within the stage, from 1; 0 = before the first step of the first stage
    loss: float | None  # mean over the images as they were trained on, dropout and changing weights included; None in epoch 0
    accuracy: float | None  # likewise
    valid_loss: float  # of the validation images, after the epoch
    valid_accuracy: float
    learning_rate: float | None  # of its steps; None in epoch 0
    seconds: float  # the epoch, validation included
    elapsed: float  # seconds since the whole call began, all preparation included
    best: bool  # whether its weights were the best of all so far

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


@contextlib.contextmanager
def tensorboard_log(folder: Path) -> Iterator[Callable[[Epoch], None]]:
    """Lend what writes an epoch as TensorBoard reads it: a run for training, and one for validation.

    Scalars have the names of Keras's own callback, so that runs of both stand in one chart; the step counts epochs of all stages.
    """
    from tensorboard.summary import DirectoryOutput, Writer

    writers = {name: Writer(DirectoryOutput(str(folder / name))) for name in ("train", "validation")}
    steps = itertools.count()

    def add(epoch: Epoch) -> None:
        step = next(steps)
        values = {
            ("train", "epoch_loss"): epoch.loss,
            ("train", "epoch_accuracy"): epoch.accuracy,
            ("train", "epoch_learning_rate"): epoch.learning_rate,
            ("train", "stage"): float(epoch.stage),
            ("validation", "epoch_loss"): epoch.valid_loss,
            ("validation", "epoch_accuracy"): epoch.valid_accuracy,
        }
        for (run, name), value in values.items():
            if value is not None:
                writers[run].add_scalar(name, value, step)
        for writer in writers.values():
            writer.flush()

    try:
        yield add
    finally:
        for writer in writers.values():
            writer.close()


def best_of(epochs: Sequence[Epoch]) -> Epoch:
    """Return the epoch whose weights were kept."""
    return next(epoch for epoch in reversed(epochs) if epoch.best)
