"""Several heads, averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from ffe.evaluation.temperature import with_temperature
from ffe.heads.base import Head
from ffe.heads.search_space import Parameter
from ffe.heads.transform import FeatureMap


class EnsembleHead:
    """The mean of the calibrated probabilities of its members.

    Its one parameter is ``members``: a list of ``{"head", "parameters",
    "temperature"}``. It is never searched; a search makes it from its best
    trials (``ffe.tuning.ensemble_search``).
    """

    name: ClassVar[str] = "ensemble"
    random: ClassVar[bool] = True
    space: ClassVar[tuple[Parameter, ...]] = ()

    def __init__(self, parameters: Mapping[str, Any], grid: tuple[int, int, int]) -> None:
        from ffe.heads import find_head

        self.parameters = dict(parameters)
        self.map = FeatureMap({"pooling": "flat"}, grid)
        self._grid = grid
        self._members: list[Head] = [find_head(m["head"])(m["parameters"], grid) for m in parameters["members"]]

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
        """Fit every member on all rows; see ``ffe.heads.base.Head``."""
        for member in self._members:
            member.fit(features, labels, classes, seed=seed, class_weights=class_weights, images=images)
        return self

    fit_rowwise = fit  # its map does nothing to a row

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes); see ``ffe.heads.base.Head``."""
        answers = [
            with_temperature(member.predict_proba(features), about["temperature"])
            for member, about in zip(self._members, self.parameters["members"], strict=True)
        ]
        return np.asarray(np.mean(answers, axis=0), np.float64)

    proba_rowwise = predict_proba

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of all members; those of member i are named ``i.name``."""
        return {f"{i}.{name}": array for i, member in enumerate(self._members) for name, array in member.arrays().items()}

    @classmethod
    def from_arrays(cls, parameters: Mapping[str, Any], grid: tuple[int, int, int], arrays: Mapping[str, np.ndarray]) -> Self:
        """Rebuild a fitted head."""
        head = cls(parameters, grid)
        for i, member in enumerate(head._members):
            own = {name.partition(".")[2]: array for name, array in arrays.items() if name.startswith(f"{i}.")}
            head._members[i] = type(member).from_arrays(member.parameters, grid, own)
        return head
