"""What a search works on, and what became of one set of parameters."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ffe.base.arrays import RowSource
from ffe.base.feature_layout import FeatureLayout
from ffe.heads.base import FitData

Part = tuple[np.ndarray, np.ndarray]  # rows to fit on, and rows to score on: int64 (n,) and (m,)


@dataclass(frozen=True, eq=False)
class AllRows:
    """The rows that the final head is fitted on, where a search looks at some of them alone; they stay in their files."""

    source: RowSource  # float32 (n, D)
    labels: np.ndarray  # int64 (n,)
    image: np.ndarray  # int64 (n,), the first row of the image that each row shows


@dataclass(frozen=True)
class Problem:
    """Rows, and which of them to fit and to score on; only those to fit on may be views, behind the plain rows of all images."""

    features: np.ndarray  # float32 (N, D)
    labels: np.ndarray  # int64 (N,), in [0, classes)
    train: np.ndarray  # int64 (n,), the rows that the final head is fitted on
    parts: Sequence[Part]  # (rows to fit on, rows to score on) of each fold; one pair where there is a validation split
    classes: int  # number of classes
    layout: FeatureLayout  # of a row of features
    class_weights: np.ndarray | None = None  # float64 (classes,), how much a row of each class counts; None = all the same
    image: np.ndarray | None = None  # int64 (N,), the plain row of the image that each row shows; None = there are no views
    drawn: bool = False  # heads that train by epochs draw one row of each image for an epoch
    groups: np.ndarray | None = None  # int64 (plain rows,), which of them belong together; None = none do

    images: np.ndarray | None = None  # int64 (plain rows,), which images of the split they are
    every: AllRows | None = None  # None = ``train`` has all

    def plain(self, rows: np.ndarray) -> np.ndarray:
        """Return those of some rows that are no views."""
        return rows if self.image is None else rows[self.image[rows] == rows]

    def with_views(self, rows: np.ndarray) -> np.ndarray:
        """Return some plain rows, int64 (n,), and behind them all views of their images."""
        if self.image is None:
            return rows
        views = np.isin(self.image, rows) & (self.image != np.arange(len(self.image)))
        return np.concatenate([rows, np.flatnonzero(views)])

    def fit_data(self, rows: np.ndarray, seed: int) -> FitData:
        """Return what a fit on some rows is told of them."""
        images = self.image[rows] if self.image is not None and self.drawn else None
        return FitData(self.labels[rows], self.classes, seed, self.class_weights, images)

    @property
    def fitted_rows(self) -> int:
        """How many rows the final head is fitted on."""
        return len(self.train) if self.every is None else len(self.every.labels)

    @functools.cached_property
    def scored(self) -> np.ndarray:
        """The rows to score on, int64 (m,), part after part."""
        return np.concatenate([score for _, score in self.parts])

    @property
    def scored_groups(self) -> np.ndarray | None:
        """Which of the scored rows belong together: int64 (m,); None = none do."""
        return None if self.groups is None else self.groups[self.scored]


@dataclass(frozen=True)
class Outcome:
    """What one set of parameters came to."""

    runs: tuple[np.ndarray, ...]  # probabilities of the scored rows, float32 (m, classes), of each execution
    seconds: float  # one fit, on average
    size: int  # bytes of the fitted head
    found: Mapping[str, Any] = field(default_factory=dict)  # parameters that the fits themselves found (the epoch to stop at)
    # by name, a value for each epoch; empty where there are no epochs
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)


def fold_parts(train: np.ndarray, folds: np.ndarray) -> list[Part]:
    """Return (fit, score) for every fold; ``folds`` int64 (n,) goes with the rows ``train`` (n,)."""
    return [(train[folds != k], train[folds == k]) for k in range(int(folds.max()) + 1)]
