"""What a bake-off of backbones came to: one row for each, which of them are worth taking, and which one to take."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ffe.comparing.ranking import rank
from ffe.evaluation.comparison import Comparison
from ffe.evaluation.scores import Evaluation


@dataclass(frozen=True)
class Contestant:
    """What one backbone came to."""

    name: str  # as the user named it
    reason: str = ""  # why there is no result; empty = there is one. What is unknown then is None
    evaluation: Evaluation | None = None  # scores on the test images
    images_per_second: float | None = None  # of the extraction, decoding included, on this machine; None = not known
    rate_is_rough: bool = False  # whether few images were timed, of which beginning took a share: it is at least so high
    features: int | None = None  # values that are stored of a photo
    bytes_per_photo: int | None = None  # that they take in the feature file
    size: tuple[int, int] | None = None  # (height, width) of the input in pixels
    model: Path | None = None  # the model file, backbone and head
    model_bytes: int | None = None  # its size
    features_file: Path | None = None  # what was extracted
    head: str | None = None  # name of the winning head
    trials: int | None = None  # of the search
    extract_seconds: float = 0.0  # that the features took, in this run or in the earlier ones that made them
    search_seconds: float = 0.0  # that the search took, or had taken
    reused: bool = False  # whether the features were there already
    searched_before: bool = False  # whether the model was there already, from a run of the same command
    comparison: Comparison | None = None  # of the best and this one; None for the best
    as_good: bool = False  # whether it is the best, or as good as far as the test images tell
    dominated_by: str = ""  # a backbone that is as accurate and as fast, and better in one of the two; empty = there is none
    # of the test images, float64 (m, K)
    probabilities: np.ndarray = field(default_factory=lambda: np.empty((0, 0)), repr=False, compare=False)

    @property
    def on_frontier(self) -> bool:
        """Whether none of the others is better in both accuracy and rate."""
        return not self.reason and self.images_per_second is not None and not self.dominated_by

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **{name: value for name, value in vars(self).items() if name != "probabilities"},
            "evaluation": None if self.evaluation is None else self.evaluation.to_json(),
            "model": None if self.model is None else str(self.model),
            "features_file": None if self.features_file is None else str(self.features_file),
            "comparison": None if self.comparison is None else self.comparison.to_json(),
            "on_frontier": self.on_frontier,
            "seconds": self.extract_seconds + self.search_seconds,
        }


@dataclass(frozen=True)
class BakeoffResult:
    """What a bake-off of backbones came to."""

    folder: Path  # where feature files and models lie
    backbones: tuple[Contestant, ...]  # in the order in which they were named
    # best, second: names of the two with the highest accuracy on the test images, the one with the lower log loss first where
    # that is equal; empty = there are not so many
    best: str
    second: str
    take: str  # the fastest of those that are as good as the best, as far as the test images tell; empty = there is none
    classes: tuple[str, ...]  # names of the classes
    rows: dict[str, int]  # how many images train, validate and test, and how many are left out; empty = nothing was extracted
    budget: float  # seconds that there were
    seed: int  # of every random choice
    interrupted: bool  # whether it was ended before all were searched for
    seconds: float  # the whole call

    def backbone(self, name: str) -> Contestant:
        """Return a backbone by its name."""
        return next(one for one in self.backbones if one.name == name)

    @property
    def frontier(self) -> tuple[Contestant, ...]:
        """Those that no other beats in both accuracy and rate, the fastest first."""
        return tuple(sorted((one for one in self.backbones if one.on_frontier), key=lambda one: -(one.images_per_second or 0)))

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe bakeoff --json`` prints."""
        return {
            **vars(self),
            "folder": str(self.folder),
            "backbones": [one.to_json() for one in self.backbones],
            "frontier": [one.name for one in self.frontier],
            "comparison": self.backbone(self.second).to_json()["comparison"] if self.second else None,
        }


def judged(
    found: Sequence[Contestant], labels: np.ndarray, groups: np.ndarray | None
) -> tuple[tuple[Contestant, ...], list[str], str]:
    """Compare all backbones with the best of them, on test images with labels int64 (m,) and groups int64 (m,).

    Return them with their comparisons and with what dominates them, the names of those that have a result, best first, and the
    name of the fastest of those that are as good as the best; where no rate is known, of the best. None dominates that one.
    """
    done = {one.name: one for one in found if one.evaluation is not None}
    order, against, as_good = rank(list(done.values()), labels, groups)
    ranked = tuple(
        dataclasses.replace(
            one,
            comparison=against.get(one.name),
            as_good=one.name in as_good,
            dominated_by=next((name for name in order if _dominates(done[name], one)), "") if one.name in done else "",
        )
        for one in found
    )
    fastest = sorted((name for name in order if name in as_good), key=lambda name: -(done[name].images_per_second or 0))
    take, beaten_by = (fastest[0] if fastest else ""), {one.name: one.dominated_by for one in ranked}
    while beaten_by.get(take):  # by one that is as accurate and faster, where few test images tell nothing
        take = beaten_by[take]
    return ranked, order, take


def _dominates(one: Contestant, other: Contestant) -> bool:
    """Return whether one is as accurate and as fast as another, and better in one of the two."""
    assert one.evaluation is not None
    assert other.evaluation is not None
    if one.images_per_second is None or other.images_per_second is None:
        return False
    better = (
        (round(one.evaluation.accuracy, 9), one.images_per_second),
        (
            round(other.evaluation.accuracy, 9),
            other.images_per_second,
        ),
    )
    return better[0] != better[1] and all(mine >= its for mine, its in zip(*better, strict=True))
