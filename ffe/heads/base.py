"""What every head promises; ``ffe.testing.HeadContract`` checks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from ffe.heads.search_space import Parameter
from ffe.heads.transform import FeatureMap


class Head(Protocol):
    """A classifier on flattened features.

    Attributes:
        name: what ``--heads`` and ``--head`` take.
        space: its parameters, with the conditions under which they exist.
        random: whether two fits from different seeds differ, so that trying
            one set of parameters more than once tells something.
        parameters: the values of the active parameters.
        map: what it does to features first.
    """

    name: ClassVar[str]
    space: ClassVar[tuple[Parameter, ...]]
    random: ClassVar[bool]
    parameters: dict[str, Any]
    map: FeatureMap

    def __init__(self, parameters: Mapping[str, Any], grid: tuple[int, int, int]) -> None:
        """Take values for the active parameters of ``space``, and (h, w, c) of the features."""
        ...

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
        """Fit on all the rows given; nothing of them is held back for a score.

        Args:
            features: float32 (N, D), flattened from the grid.
            labels: int64 (N,), in [0, classes), each class at least once.
            classes: number of classes, at least 2.
            seed: start of every random choice.
            class_weights: float64 (classes,), how much a row of each class counts; None = all the same.
            images: int64 (N,), the image that each row is a view of: a head that
                trains by epochs draws one row of each image for an epoch, all
                others take all rows; None = every head takes all rows.
        """
        ...

    def fit_rowwise(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        classes: int,
        *,
        seed: int = 0,
        class_weights: np.ndarray | None = None,
        images: np.ndarray | None = None,
    ) -> Self:
        """Fit, as ``fit`` does, on what ``map.rowwise`` made of the features: float32 (N, d)."""
        ...

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes), in [0, 1], rows summing to 1, for float32 (N, D)."""
        ...

    def proba_rowwise(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities, as ``predict_proba`` does, for what ``map.rowwise`` made of the features."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that ``predict_proba`` needs, as plain arrays."""
        ...

    @classmethod
    def from_arrays(cls, parameters: Mapping[str, Any], grid: tuple[int, int, int], arrays: Mapping[str, np.ndarray]) -> Self:
        """Rebuild a fitted head from ``arrays()``; it predicts the same to the last bit."""
        ...


class MappedHead:
    """What all heads share: features go through the map, then to the fit.

    A head is ``fit_rowwise`` and ``proba_rowwise``; the rest is here.
    """

    parameters: dict[str, Any]
    map: FeatureMap

    def __init__(self, parameters: Mapping[str, Any], grid: tuple[int, int, int]) -> None:
        self.parameters = dict(parameters)
        self.map = FeatureMap(parameters, grid)

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
        """Fit; see ``Head.fit``."""
        x = self.map.rowwise(features)
        return self.fit_rowwise(x, labels, classes, seed=seed, class_weights=class_weights, images=images)

    def fit_rowwise(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        classes: int,
        *,
        seed: int = 0,
        class_weights: np.ndarray | None = None,
        images: np.ndarray | None = None,
    ) -> Self:
        """Fit on mapped rows; see ``Head.fit_rowwise``."""
        raise NotImplementedError

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes); see ``Head.predict_proba``."""
        return self.proba_rowwise(self.map.rowwise(features))

    def proba_rowwise(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities of mapped rows; see ``Head.proba_rowwise``."""
        raise NotImplementedError


def row_weights(labels: np.ndarray, class_weights: np.ndarray | None) -> np.ndarray:
    """Return float64 (N,), the weight of each row by its class."""
    return np.ones(len(labels)) if class_weights is None else np.asarray(class_weights, np.float64)[labels]


def size_in_bytes(head: Head) -> int:
    """Return the bytes of a fitted head's arrays."""
    return sum(array.nbytes for array in head.arrays().values())
