"""Several heads, averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from ffe.base.arrays import RowSource
from ffe.base.feature_layout import FeatureLayout
from ffe.evaluation.temperature import with_temperature
from ffe.heads import find_head
from ffe.heads.base import FitData, Head
from ffe.heads.search_space import Parameter
from ffe.heads.transform import FeatureMap


class EnsembleHead(Head):
    """The mean of the calibrated probabilities of its members; a search makes it from its best trials.

    Its one parameter is ``members``: a list of ``{"head", "parameters", "temperature"}``.
    """

    name: ClassVar[str] = "ensemble"
    random: ClassVar[bool] = True
    space: ClassVar[tuple[Parameter, ...]] = ()

    def __init__(self, parameters: Mapping[str, Any], layout: FeatureLayout) -> None:
        self.parameters = dict(parameters)
        self.map = FeatureMap({"pooling": "flat"}, layout)
        self.members = [find_head(member["head"])(member["parameters"], layout) for member in parameters["members"]]

    def fit_rowwise(self, x: np.ndarray, data: FitData) -> Self:
        """Fit every member on all rows; the map of an ensemble leaves features as they are."""
        for member in self.members:
            member.fit_rowwise(member.map.rowwise(x), data)
        return self

    def fit_streamed(self, source: RowSource, data: FitData) -> Self:
        """Fit every member; see ``Head``."""
        for member in self.members:
            member.fit_streamed(source, data)
        return self

    def approximation(self, rows: int, *, streamed: bool) -> str:
        """Return what is approximate in any member; see ``Head``."""
        texts = (member.approximation(rows, streamed=streamed) for member in self.members)
        return "; ".join(dict.fromkeys(filter(None, texts)))

    def proba_rowwise(self, x: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes); see ``Head``."""
        answers = [
            with_temperature(member.predict_proba(x), about["temperature"])
            for member, about in zip(self.members, self.parameters["members"], strict=True)
        ]
        return np.asarray(np.mean(answers, axis=0), np.float64)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of all members; those of member i are named ``i.name``."""
        return {f"{i}.{name}": array for i, member in enumerate(self.members) for name, array in member.arrays().items()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Rebuild the members; see ``Head``."""
        for i, member in enumerate(self.members):
            own = {name.partition(".")[2]: array for name, array in arrays.items() if name.startswith(f"{i}.")}
            self.members[i] = type(member).from_arrays(member.parameters, self.map.layout, own)


def head_class(name: str) -> type[Head]:
    """Return the class of a head that a model may have: an ensemble, or one of ``ffe.heads.HEADS``; else a HeadError."""
    return EnsembleHead if name == EnsembleHead.name else find_head(name)
