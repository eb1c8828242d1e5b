"""Logistic regression with an L2 penalty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np

from ffe.base.arrays import RowSource
from ffe.base.feature_layout import FeatureLayout
from ffe.heads.base import FitData, Head, SearchSize, Settings, sklearn_weights
from ffe.heads.passes import fit_linear, logistic_loss, wide_pca_text
from ffe.heads.probability import probabilities_of, two_columns
from ffe.heads.search_space import Parameter
from ffe.heads.svm import EXACT_ROWS, gram_bytes, inner_products
from ffe.heads.transform import FEATURE_SPACE, is_flat_by_kernel, stored

_TOLERANCE = 1e-7  # tight enough that the answer does not depend on where the fit began


class LogisticHead(Head):
    """scikit-learn's ``LogisticRegression`` on scaled features.

    Where there are more features than rows, it is fitted in the coordinates of
    the rows' span: with an L2 penalty the solution lies in it, and the loss is
    the same, so the result is exact and many times cheaper (the representer
    theorem; see Hastie & Tibshirani 2004, Biostatistics 5:329).
    """

    name: ClassVar[str] = "logistic"
    space: ClassVar[tuple[Parameter, ...]] = (
        *FEATURE_SPACE,
        Parameter("C", 100.0, low=1e-4, high=1e4, log=True, tried=(1e-3, 1e3)),
    )

    @classmethod
    def first_trials(cls, rows: int, layout: FeatureLayout) -> list[Settings]:
        """Add to the defaults what often wins, and shares their paths; see ``Head``."""
        flat = [{"pooling": "flat", "C": 100.0}] if is_flat_by_kernel(rows, layout) else []
        return [*super().first_trials(rows, layout), {"scaling": "standard", "C": 0.01}, {"C": 10.0}, {"C": 1000.0}, *flat]

    @classmethod
    def search_bytes(cls, size: SearchSize) -> int:
        """Return the memory of the Gram matrices, which an svm shares; see ``Head``."""
        return gram_bytes(size) if size.train_rows <= EXACT_ROWS else 0

    def fit_rowwise(self, x: np.ndarray, data: FitData) -> Self:
        """Fit on mapped rows; see ``Head``. The seed is not used."""
        x = self.map.fit_rowwise(x).transform_rowwise(x)
        if x.shape[1] > x.shape[0]:
            coordinates, back = coordinates_of_products(inner_products(x))
        else:
            coordinates, back = x.astype(np.float64 if len(x) <= EXACT_ROWS else np.float32), None
        ((weights, bias),) = logistic_path(coordinates, data.labels, [self.parameters["C"]], data.class_weights)
        self._weights = np.asarray(weights if back is None else x.T.astype(np.float64) @ (back @ weights), np.float32)
        self._bias = np.asarray(bias, np.float64)
        return self

    def fit_streamed(self, source: RowSource, data: FitData) -> Self:
        """Find the same optimum in passes over the rows; see ``Head``."""
        weights, self._bias = fit_linear(source, self.map, data, self.parameters["C"], logistic_loss)
        self._weights = weights.astype(np.float32)
        return self

    def approximation(self, rows: int, *, streamed: bool) -> str:
        """Return nothing, but for a PCA that is too wide; see ``Head``."""
        return wide_pca_text(self.map) if streamed else ""

    def proba_rowwise(self, x: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes) for mapped rows; see ``Head``."""
        return probabilities_of(self.map.transform_rowwise(x) @ self._weights + self._bias)

    def linear(self) -> tuple[np.ndarray, np.ndarray]:
        """Return weights and bias; see ``Head``."""
        weights, bias = self._weights.astype(np.float64), self._bias[None]
        if weights.shape[1] == 1:
            weights, bias = two_columns(weights[:, 0]), two_columns(bias[:, 0])
        return weights, bias[0]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return ``weights`` float32 (d, K or 1), ``bias`` float64 (K or 1,), and those of the map."""
        return {"weights": self._weights, "bias": self._bias, **self.map.arrays()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what ``arrays`` returned."""
        self._weights, self._bias = stored(arrays, "weights", 2), stored(arrays, "bias", 1)


def coordinates_of_products(products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return z and back, both float64 (n, r), for the Gram matrix float64 (n, n) of rows x.

    z has the same inner products as the rows. ``(y @ x.T) @ back`` are the coordinates
    of other rows y, and ``x.T @ back @ w`` takes weights w of z to weights of x.
    """
    values, vectors = np.linalg.eigh(products)
    kept = values > values[-1] * 1e-10
    roots = np.sqrt(values[kept])
    return vectors[:, kept] * roots, vectors[:, kept] / roots


def logistic_path(
    x: np.ndarray, labels: np.ndarray, penalties: Sequence[float], class_weights: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Fit for one ``C`` after the other, each from where the one before it ended; a rising order is the quickest.

    Takes x float64 (n, d) and labels int64 (n,); yields weights (d, K or 1) and bias (K or 1,).
    """
    from sklearn.linear_model import LogisticRegression

    # not newton-cholesky, though it needs fewer steps: it changes Python's warnings, which threads share
    model = LogisticRegression(max_iter=5000, tol=_TOLERANCE, warm_start=True, class_weight=sklearn_weights(class_weights))
    for penalty in penalties:
        model.set_params(C=penalty).fit(x, labels)
        yield model.coef_.T.copy(), model.intercept_.copy()
