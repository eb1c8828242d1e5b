"""What every head promises; ``ffe.testing.HeadContract`` checks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from ffe.heads.space import Parameter


@dataclass(frozen=True)
class Validation:
    """Rows that a fit may watch to stop early, and must not learn from.

    Attributes:
        features: float32 (N, D).
        labels: int64 (N,), in [0, classes).
    """

    features: np.ndarray
    labels: np.ndarray


class Head(Protocol):
    """A classifier on flattened features.

    Attributes:
        name: what ``--heads`` and ``--head`` take.
        space: its parameters, with the conditions under which they exist.
        random: whether two fits from different seeds differ, so that trying
            one set of parameters more than once tells something.
        parallel: whether several fits may run in threads of one process.
        parameters: the values of the active parameters.
    """

    name: ClassVar[str]
    space: ClassVar[tuple[Parameter, ...]]
    random: ClassVar[bool]
    parallel: ClassVar[bool]
    parameters: dict[str, Any]

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
        validation: Validation | None = None,
    ) -> Self:
        """Fit on all the rows given; nothing of them is held back for a score.

        Args:
            features: float32 (N, D), flattened from the grid.
            labels: int64 (N,), in [0, classes), each class at least once.
            classes: number of classes, at least 2.
            seed: start of every random choice.
            validation: for heads that stop early.
        """
        ...

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes), in [0, 1], rows summing to 1, for float32 (N, D)."""
        ...

    def found(self) -> dict[str, Any]:
        """Return parameters that the fit itself found, to be fixed in a refit (the epoch to stop at)."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that ``predict_proba`` needs, as plain arrays."""
        ...

    @classmethod
    def from_arrays(cls, parameters: Mapping[str, Any], grid: tuple[int, int, int], arrays: Mapping[str, np.ndarray]) -> Self:
        """Rebuild a fitted head from ``arrays()``; it predicts the same to the last bit."""
        ...


def size_in_bytes(head: Head) -> int:
    """Return the bytes of a fitted head's arrays."""
    return sum(array.nbytes for array in head.arrays().values())
