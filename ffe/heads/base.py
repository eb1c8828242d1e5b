"""What every head is and does; ``ffe.testing.HeadContract`` checks it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from ffe.base.arrays import RowSource
from ffe.base.feature_layout import FeatureLayout
from ffe.heads.search_space import Parameter
from ffe.heads.transform import FeatureMap, poolings_searched, space_of

Settings = dict[str, Any]

SAMPLE_ROWS = 20_000  # of many, that a head is fitted on which needs all its rows at once, or begins with
_FEWEST_OF_A_CLASS = 50


@dataclass(frozen=True, eq=False)
class FitData:
    """What a fit is told of its rows, beside their features."""

    labels: np.ndarray  # int64 (N,), in [0, classes), each class at least once
    classes: int  # number of classes, at least 2
    seed: int = 0  # start of every random choice
    class_weights: np.ndarray | None = None  # float64 (classes,), how much a row of each class counts; None = all the same
    # int64 (N,), the image that each row is a view of: a head that trains by epochs draws one row of each image for an epoch,
    # all others take all rows; None = every head takes all rows
    images: np.ndarray | None = None

    @property
    def row_weights(self) -> np.ndarray:
        """The weight of each row by its class: float64 (N,)."""
        return (
            np.ones(len(self.labels)) if self.class_weights is None else np.asarray(self.class_weights, np.float64)[self.labels]
        )

    def of(self, rows: np.ndarray) -> Self:
        """Return the same of some rows, int64 (n,)."""
        return dataclasses.replace(self, labels=self.labels[rows], images=None if self.images is None else self.images[rows])


@dataclass(frozen=True)
class SearchSize:
    """What the time and the memory of a search depend on."""

    rows: int  # in the search
    train_rows: int  # that the final head is fitted on
    fit_rows: int  # of the fit of one part, on average
    epoch_rows: int  # of an epoch, on average; fewer than ``fit_rows`` where views are drawn
    dims: float  # pooled features of a row, on average over the poolings that are tried
    # classes, parts: how many
    classes: int
    parts: int
    rate: float  # float64 operations a second of all cores together
    cores: int  # of this machine


class Head:
    """A classifier on flattened features, and what a search needs to know of it.

    Features go through the map first, then to the fit. A new head has a name,
    a space, ``fit_rowwise``, ``proba_rowwise``, ``arrays`` and ``restore``, and
    an entry in ``ffe.heads.HEADS``; everything else has a default here.
    """

    name: ClassVar[str]  # what ``--heads`` and ``--head`` take
    # its parameters, with the conditions under which they exist; ``pooling`` is one of them
    space: ClassVar[tuple[Parameter, ...]]
    # whether two fits from different seeds differ, so that trying one set of parameters more than once tells something
    random: ClassVar[bool] = False
    further_trials: ClassVar[int] = 4  # sets that a search tries beyond the first ones, where no number is asked for
    trials_at_once: ClassVar[int] = 8  # sets that are scored in one call
    least_seconds: ClassVar[float] = 0.01  # of one fit beside ``fit_seconds``, however few its rows are

    parameters: dict[str, Any]  # the values of the active parameters
    map: FeatureMap  # what it does to features first

    def __init__(self, parameters: Mapping[str, Any], layout: FeatureLayout) -> None:
        """Take values for the active parameters of ``space``, and the layout of the features."""
        self.parameters = dict(parameters)
        self.map = FeatureMap(parameters, layout)

    def fit(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        classes: int,
        *,
        seed: int = 0,
        class_weights: np.ndarray | None = None,
        images: np.ndarray | None = None,
    ) -> Self:
        """Fit on all the rows given, float32 (N, D), as they are stored; for the rest see ``FitData``.

        Nothing of the rows is held back for a score.
        """
        return self.fit_rowwise(self.map.rowwise(features), FitData(labels, classes, seed, class_weights, images))

    def fit_rowwise(self, x: np.ndarray, data: FitData) -> Self:
        """Fit, as ``fit`` does, on what ``map.rowwise`` made of the features: float32 (N, d)."""
        raise NotImplementedError

    def fit_streamed(self, source: RowSource, data: FitData) -> Self:
        """Fit, as ``fit`` does, on rows that memory may not hold, float32 (N, D) as they are stored: here on a sample of them."""
        rows = sample_of(data.labels, SAMPLE_ROWS, data.seed)
        return self.fit_rowwise(self.map.rowwise(source[rows]), data.of(rows))

    def approximation(self, rows: int, *, streamed: bool) -> str:
        """Return what is approximate in a fit on so many rows, by ``fit_streamed`` or not; empty = nothing."""
        return f"the {self.name} is fitted on {SAMPLE_ROWS:,} of them" if streamed and rows > SAMPLE_ROWS else ""

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes), in [0, 1], rows summing to 1, for float32 (N, D)."""
        return self.proba_rowwise(self.map.rowwise(features))

    def proba_rowwise(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities, as ``predict_proba`` does, for what ``map.rowwise`` made of the features."""
        raise NotImplementedError

    def proba_of_replaced(self, row: np.ndarray, out: np.ndarray, values: np.ndarray) -> np.ndarray | None:
        """Return ``predict_proba`` of one row with some cells replaced, many times over; None where asking is as quick.

        Args:
            row: float32 (D,), one grid without tokens before it.
            out: bool (n, cells), which cells are replaced.
            values: float32 (n, channels), with what.
        """
        return None

    def linear(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return what a linear head scores mapped features by: weights float64 (d, K) and bias (K,), for a softmax; else None."""
        return None

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that ``predict_proba`` needs, as plain arrays; those of the map are among them."""
        raise NotImplementedError

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what ``arrays`` returned; the map has its own already.

        Raises:
            HeadError: the arrays are damaged.
        """
        raise NotImplementedError

    @classmethod
    def from_arrays(cls, parameters: Mapping[str, Any], layout: FeatureLayout, arrays: Mapping[str, np.ndarray]) -> Self:
        """Rebuild a fitted head from ``arrays()``; it predicts the same to the last bit."""
        head = cls(parameters, layout)
        head.map.restore(arrays)
        head.restore(arrays)
        return head

    @classmethod
    def first_trials(cls, rows: int, layout: FeatureLayout) -> list[Settings]:
        """Return sets of parameters to begin a search of so many rows with, in order; what they leave out keeps its default."""
        single = [{"parts": str(1 + i)} for i in range(len(layout.parts))] if len(layout.parts) > 1 else []
        return [{}, *({"pooling": pooling} for pooling in poolings_searched(rows, layout)), *single]

    @classmethod
    def space_for(cls, layout: FeatureLayout) -> tuple[Parameter, ...]:
        """Return ``space`` as it is for features of a layout."""
        return space_of(cls.space, layout)

    @classmethod
    def fit_seconds(cls, size: SearchSize) -> float:
        """Return about how long one fit takes: within a factor of two or three."""
        return 400.0 * size.fit_rows * min(size.fit_rows, size.dims) * max(1, size.classes - 1) / size.rate

    @classmethod
    def start_seconds(cls) -> float:
        """Return about how long it takes to load and compile what its first fit needs, beside what all heads need."""
        return 0.0

    @classmethod
    def search_bytes(cls, size: SearchSize) -> int:
        """Return the memory that a search takes beside the features and what is pooled of them."""
        return 0

    @classmethod
    def search_note(cls, train_rows: int) -> str:
        """Return what a user should know before so many rows are searched; empty = nothing."""
        return ""


def sample_of(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw about ``count`` rows, as large a share of every class, and 50 of each where there are: int64 (n,), rising.

    The same for the same labels int64 (N,) and seed; all rows where they are no more.
    """
    if len(labels) <= count:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    shares = np.maximum(np.ceil(sizes * (count / len(labels))).astype(np.int64), np.minimum(sizes, _FEWEST_OF_A_CLASS))
    starts = np.cumsum(sizes) - sizes
    return np.sort(np.concatenate([order[start : start + share] for start, share in zip(starts, shares, strict=True)]))


def sklearn_weights(class_weights: np.ndarray | None) -> dict[int, float] | None:
    """Return class weights (classes,) as scikit-learn takes them."""
    return None if class_weights is None else dict(enumerate(class_weights.tolist()))
