"""What a search works on, and what became of one set of parameters."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ffe.base.system import free_memory
from ffe.heads.svm import inner_products
from ffe.heads.transform import FeatureMap

_KEPT_SHARE = 0.2  # of the free memory, for views that several trials share
_KEPT_AT_LEAST = 256 << 20


@dataclass(frozen=True)
class Problem:
    """Rows, and which of them to fit and to score on.

    Rows to fit on may be views of images; the plain row of each image stands
    before all views. Rows to score on are plain.

    Attributes:
        features: float32 (N, D).
        labels: int64 (N,), in [0, classes).
        train: int64 (n,), the rows that the final head is fitted on.
        parts: (rows to fit on, rows to score on) of each fold; one pair where
            there is a validation split.
        classes: number of classes.
        grid: (h, w, c) of the features.
        class_weights: float64 (classes,), how much a row of each class counts; None = all the same.
        image: int64 (N,), the plain row of the image that each row shows; None = there are no views.
        drawn: heads that train by epochs draw one row of each image for an epoch.
    """

    features: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    parts: Sequence[tuple[np.ndarray, np.ndarray]]
    classes: int
    grid: tuple[int, int, int]
    class_weights: np.ndarray | None = None
    image: np.ndarray | None = None
    drawn: bool = False

    def plain(self, rows: np.ndarray) -> np.ndarray:
        """Return those of some rows that are no views."""
        return rows if self.image is None else rows[self.image[rows] == rows]

    def with_views(self, rows: np.ndarray) -> np.ndarray:
        """Return some plain rows, int64 (n,), and behind them all views of their images."""
        if self.image is None:
            return rows
        views = np.isin(self.image, rows) & (self.image != np.arange(len(self.image)))
        return np.concatenate([rows, np.flatnonzero(views)])

    def images(self, rows: np.ndarray) -> np.ndarray | None:
        """Return what a fit on some rows takes as ``images``: see ``ffe.heads.base.Head.fit``."""
        return self.image[rows] if self.image is not None and self.drawn else None

    @functools.cached_property
    def scored(self) -> np.ndarray:
        """The rows to score on, int64 (m,), part after part."""
        return np.concatenate([score for _, score in self.parts])


@dataclass(frozen=True)
class Outcome:
    """What one set of parameters came to.

    Attributes:
        runs: probabilities of the scored rows, float32 (m, classes), of each execution.
        seconds: one fit, on average.
        size: bytes of the fitted head.
        found: parameters that the fits themselves found (the epoch to stop at).
        curves: by name, a value for each epoch; empty where there are no epochs.
    """

    runs: tuple[np.ndarray, ...]
    seconds: float
    size: int
    found: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)


def fold_parts(train: np.ndarray, folds: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (fit, score) for every fold; ``folds`` int64 (n,) goes with the rows ``train`` (n,)."""
    return [(train[folds != k], train[folds == k]) for k in range(int(folds.max()) + 1)]


class Views:
    """What several trials share: pooled and normalised rows, and their inner products.

    The views used last are kept, up to a fifth of the memory that is free.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = threading.RLock()
        self._limit = max(_KEPT_AT_LEAST, int(free_memory() * _KEPT_SHARE))

    def rowwise(self, feature_map: FeatureMap) -> np.ndarray:
        """Return float32 (N, d): the half of the map that needs no fitting, of all rows."""
        if feature_map.pooling == "flat" and feature_map.scaling in {"none", "standard"}:
            return self.problem.features
        scaling = "none" if feature_map.scaling == "standard" else feature_map.scaling
        return self._keep(("rows", feature_map.pooling, scaling), lambda: feature_map.rowwise(self.problem.features))

    def products(self, feature_map: FeatureMap) -> np.ndarray:
        """Return the Gram matrix float64 (N, N) of ``rowwise``."""
        key = ("products", feature_map.pooling, feature_map.scaling)
        return self._keep(key, lambda: inner_products(self.rowwise(feature_map)))

    def row_sums(self, feature_map: FeatureMap) -> np.ndarray:
        """Return float64 (N,): the sum of each row of ``rowwise``."""
        key = ("sums", feature_map.pooling, feature_map.scaling)
        return self._keep(key, lambda: self.rowwise(feature_map).sum(axis=1, dtype=np.float64))

    def _keep(self, key: tuple[Any, ...], make: Any) -> np.ndarray:
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = make()
            self._kept.move_to_end(key)
            while sum(array.nbytes for array in self._kept.values()) > self._limit and len(self._kept) > 1:
                self._kept.popitem(last=False)
            return found


def by_feature_map(sets: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], list[int]]:
    """Group sets of parameters by what they do to the features; return positions by key."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, parameters in enumerate(sets):
        key = tuple(parameters.get(name) for name in ("pooling", "scaling", "components"))
        groups.setdefault(key, []).append(i)
    return groups
