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

_OWN = 1e-12  # of the sum of squared lengths of the rows
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
            z = coordinates_of_products(inner_products(x))
            ((weights, bias),) = logistic_path(z, data.labels, [self.parameters["C"]], data.class_weights)
            weights = x.T.astype(np.float64) @ weights_of_rows(z, weights)
        else:
            coordinates = x.astype(np.float64 if len(x) <= EXACT_ROWS else np.float32)
            ((weights, bias),) = logistic_path(coordinates, data.labels, [self.parameters["C"]], data.class_weights)
        self._weights = np.asarray(weights, np.float32)
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


def coordinates_of_products(products: np.ndarray) -> np.ndarray:
    """Return z float64 (n, n), lower triangular, with the inner products of rows x, whose Gram matrix float64 (n, n) is given.

    ``coordinates_of`` finds those of other rows. Both are of rows that have, beside what they share, 1e-12 of the sum
    of their squared lengths each for itself, so that rows may repeat each other.
    """
    n = len(products)
    return np.linalg.cholesky(products + np.eye(n) * max(_OWN * products.trace(), np.finfo(np.float64).tiny))


def coordinates_of(z: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return the coordinates float64 (m, n) of rows whose products float64 (m, n) with the rows of ``z`` are given."""
    from scipy.linalg import solve_triangular

    return np.asarray(solve_triangular(z, across.T, lower=True, check_finite=False).T)


def weights_of_rows(z: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return by how much each row counts, float64 (n, K), in the sum of rows that weights (n, K) of ``z`` stand for."""
    from scipy.linalg import solve_triangular

    return np.asarray(solve_triangular(z, weights, lower=True, trans="T", check_finite=False))


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
