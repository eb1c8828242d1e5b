"""What was learnt when: loss and accuracy of every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Epoch:
    """One epoch of a stage; or the state before the first, whose number is 0.

    Attributes:
        stage: number of the stage, from 1.
        epoch: number within the stage, from 1; 0 = before the first step of the first stage.
        loss, accuracy: mean over the images as they were trained on, dropout and
            changing weights included; None in epoch 0.
        valid_loss, valid_accuracy: of the validation images, after the epoch.
        learning_rate: of its steps; None in epoch 0.
        seconds: the epoch, validation included.
        elapsed: seconds since the whole call began, all preparation included.
        best: whether its weights were the best of all so far.
    """

    stage: int
    epoch: int
    loss: float | None
    accuracy: float | None
    valid_loss: float
    valid_accuracy: float
    learning_rate: float | None
    seconds: float
    elapsed: float
    best: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


class TensorBoardLog:
    """Writes epochs as TensorBoard reads them: a run for training, and one for validation.

    The scalars are called as Keras's own callback calls them, so that runs of
    both stand in one chart; the step is the number of the epoch over all stages.

    Args:
        folder: for the log files; made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary import DirectoryOutput, Writer

        self._writers = {name: Writer(DirectoryOutput(str(folder / name))) for name in ("train", "validation")}
        self._step = 0

    def add(self, epoch: Epoch) -> None:
        """Write one epoch."""
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
                self._writers[run].add_scalar(name, value, self._step)
        for writer in self._writers.values():
            writer.flush()
        self._step += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for writer in self._writers.values():
            writer.close()


def best_of(epochs: Sequence[Epoch]) -> Epoch:
    """Return the epoch whose weights were kept."""
    return next(epoch for epoch in reversed(epochs) if epoch.best)
