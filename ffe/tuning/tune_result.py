"""What a search came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ffe.evaluation.comparison import Comparison
from ffe.evaluation.reject import SelectiveScores
from ffe.evaluation.scores import Evaluation
from ffe.evaluation.temperature import Calibration
from ffe.heads.base import Head
from ffe.tuning.leak_claim import Leak
from ffe.tuning.setup import TrainedViews
from ffe.tuning.trial import Trial


@dataclass(frozen=True)
class TuneResult:
    """What a search, or a training, came to."""

    output: Path | None  # the model file; None if none was asked for
    head: Head  # the fitted winner
    leaderboard: tuple[Trial, ...]  # all trials, the one chosen first; the one trial of ``train``
    evaluation: Evaluation  # scores on the test rows, which nothing had seen before
    calibration: Calibration  # what the temperature does, on the rows that scored the winner
    rivals: tuple[str, ...]  # the two heads that the comparison is about; empty where there is one alone
    comparison: Comparison | None  # of the trial chosen and the first of another head, on the rows that scored them
    leak: Leak | None  # what near copies would have brought; None where there are none
    answered: SelectiveScores | None  # share and accuracy above the threshold, on the test rows
    class_weights: tuple[float, ...] | None  # of each class; None = all the same
    rows: dict[str, int]  # how many images went to train, valid and test, and how many were left out
    features: tuple[Path, ...] = ()  # the feature files that the head looks at
    views: TrainedViews | None = None  # of the training images; None where the feature file has none
    approximations: tuple[str, ...] = ()  # what was done with some of the rows, or nearly, because they are many; for people
    validation: str = ""  # what the trials were scored on, for people
    known: int = 0  # trials that an interrupted run had finished
    seconds: float = 0.0  # the whole call
    metric: str = "accuracy"  # what the scores of the leaderboard are
    apart: str = ""  # that validation and test differ by more than chance, for people; empty = they do not
    classes: tuple[str, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe tune --json`` prints."""
        return {
            "output": None if self.output is None else str(self.output),
            "head": self.head.name,
            "parameters": self.head.parameters,
            "features": [str(path) for path in self.features],
            "evaluation": {"test": self.evaluation.to_json()},
            **{name: _plain(getattr(self, name)) for name in _JSON_FIELDS},
        }


_JSON_FIELDS = (
    *("calibration", "rivals", "comparison", "leak", "answered", "class_weights", "leaderboard"),
    *("rows", "views", "approximations", "validation", "metric", "known", "seconds"),
)


def _plain(value: Any) -> Any:
    """Return what JSON takes."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.to_json() if hasattr(value, "to_json") else value
