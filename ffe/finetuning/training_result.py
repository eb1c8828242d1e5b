"""What a training came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffe.evaluation.comparison import Comparison
from ffe.evaluation.scores import Evaluation
from ffe.evaluation.temperature import Calibration
from ffe.finetuning.epochs import Epoch, best_of
from ffe.heads.base import Head


@dataclass(frozen=True)
class Stage:
    """What a stage was to train."""

    number: int  # from 1
    unfreeze: str  # as it was asked for
    layers: int  # of the backbone, counted from its end, that are unfrozen
    first: str  # the first of them; empty if there are none
    learning: int  # how many of them have weights that learn
    cut: str  # the last layer of the part that stays as it is; empty = there is none


@dataclass(frozen=True, eq=False)
class HeadScores:
    """A head, judged."""

    calibration: Calibration  # its temperature, fitted on the validation images
    evaluation: Evaluation  # its scores on the test images
    valid: np.ndarray  # its probabilities of the validation images, before the temperature, float64 (n, K)
    test: np.ndarray  # its probabilities of the test images, with it, float64 (m, K)
    tested: tuple[str, ...]  # m digests of the test images, in the order of ``test``


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a training came to."""

    output: Path  # the model file
    head: Head  # the head, apart from its backbone
    stages: tuple[Stage, ...]  # what each was to train
    epochs: tuple[Epoch, ...]  # what happened
    judged: HeadScores  # its scores, and what it says of the images that validate and test
    before: Evaluation | None = None  # scores of the model that was fine-tuned, on the same test images; None = there was none
    comparison: Comparison | None = None  # of the two; None = there was none
    class_weights: tuple[float, ...] | None  # of each class; None = all the same
    rows: dict[str, int]  # how many images train, validate and test, and how many are left out
    skipped: int  # files that could not be read
    seconds: float  # the whole call
    classes: tuple[str, ...]  # names of the classes
    reused: bool = False  # whether activations of an earlier run were at hand
    # that the time was over, or that it was interrupted, in a sentence without its full stop; None = neither
    ended_early: str | None = None
    interrupted: bool = False  # whether Ctrl-C ended the training; the best weights until then are the result
    # whether no epoch was better than the model that was fine-tuned, so that the output is a copy of its file. The scores
    # are those of that model then, and there is no comparison
    unchanged: bool = False

    @property
    def evaluation(self) -> Evaluation:
        """The scores on the test images."""
        return self.judged.evaluation

    @property
    def best(self) -> Epoch:
        """The epoch whose weights the model has."""
        return best_of(self.epochs)

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe finetune --json`` and ``ffe scratch --json`` print."""
        return {
            "output": str(self.output),
            "head": self.head.name,
            "parameters": self.head.parameters,
            "stages": [asdict(stage) for stage in self.stages],
            "history": [epoch.to_json() for epoch in self.epochs],
            "best": self.best.to_json(),
            "ended_early": self.ended_early,
            "interrupted": self.interrupted,
            "unchanged": self.unchanged,
            "evaluation": {"test": self.evaluation.to_json()},
            "calibration": self.judged.calibration.to_json(),
            "before": None if self.before is None else self.before.to_json(),
            "comparison": None if self.comparison is None else self.comparison.to_json(),
            "class_weights": None if self.class_weights is None else list(self.class_weights),
            "rows": self.rows,
            "skipped": self.skipped,
            "seconds": self.seconds,
        }
