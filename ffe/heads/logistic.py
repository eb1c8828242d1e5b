"""Logistic regression with an L2 penalty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from ffe.heads.base import Validation
from ffe.heads.feature_map import POOLING, SCALING, FeatureMap
from ffe.heads.probability import softmax, two_columns
from ffe.heads.space import Parameter


class LogisticHead:
    """scikit-learn's ``LogisticRegression`` on scaled features.

    Where there are more features than rows, it is fitted in the coordinates of
    the rows' span: with an L2 penalty the solution lies in it, and the loss is
    the same, so the result is exact and many times cheaper (the representer
    theorem; see Hastie & Tibshirani 2004, Biostatistics 5:329).
    """

    name: ClassVar[str] = "logistic"
    random: ClassVar[bool] = False
    parallel: ClassVar[bool] = True
    space: ClassVar[tuple[Parameter, ...]] = (
        POOLING,
        SCALING,
        Parameter("C", 100.0, low=1e-4, high=1e4, log=True),
    )

    def __init__(self, parameters: Mapping[str, Any], grid: tuple[int, int, int]) -> None:
        self.parameters = dict(parameters)
        self._map = FeatureMap(parameters["pooling"], parameters["scaling"], grid)

    def fit(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        classes: int,
        *,
        seed: int = 0,
        validation: Validation | None = None,
    ) -> Self:
        """Fit; see ``ffe.heads.base.Head.fit``. The seed and the validation rows are not used."""
        from sklearn.linear_model import LogisticRegression

        x = self._map.fit(features).transform(features)
        back = None
        if x.shape[1] > x.shape[0]:
            x, back = _coordinates_of_rows(x)
        # not newton-cholesky, though it needs fewer steps: it changes Python's warnings, which threads share
        model = LogisticRegression(C=self.parameters["C"], max_iter=2000).fit(x, labels)
        weights = model.coef_.T if back is None else back @ model.coef_.T
        self._weights = np.asarray(weights, np.float32)
        self._bias = np.asarray(model.intercept_, np.float64)
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes); see ``ffe.heads.base.Head.predict_proba``."""
        scores = self._map.transform(features) @ self._weights + self._bias
        return softmax(scores if scores.shape[1] > 1 else two_columns(scores[:, 0]))

    def found(self) -> dict[str, Any]:
        """Nothing is found by the fit."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return ``weights`` float32 (d, K or 1), ``bias`` float64 (K or 1,), and those of the map."""
        return {"weights": self._weights, "bias": self._bias, **self._map.arrays()}

    @classmethod
    def from_arrays(cls, parameters: Mapping[str, Any], grid: tuple[int, int, int], arrays: Mapping[str, np.ndarray]) -> Self:
        """Rebuild a fitted head."""
        head = cls(parameters, grid)
        head._map.restore(arrays)
        head._weights, head._bias = arrays["weights"], arrays["bias"]
        return head


def _coordinates_of_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (z, back): z (n, r) has the inner products of x (n, d), and w = back @ v takes weights back.

    From the Gram matrix x @ x.T = U S U.T: z = U sqrt(S), back = x.T U / sqrt(S).
    """
    gram = (x @ x.T).astype(np.float64)
    values, vectors = np.linalg.eigh(gram)
    kept = values > values[-1] * 1e-7
    roots = np.sqrt(values[kept])
    vectors = vectors[:, kept]
    return vectors * roots, (x.T @ vectors.astype(np.float32)).astype(np.float64) / roots
