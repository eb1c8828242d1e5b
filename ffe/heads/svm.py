"""Support vector machine, linear or RBF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from ffe.errors import HeadError
from ffe.heads.base import Validation
from ffe.heads.feature_map import POOLING, SCALING, FeatureMap
from ffe.heads.probability import fit_temperature, softmax, two_columns
from ffe.heads.space import Parameter

_CALIBRATION_FOLDS = 3

MAX_ROWS = 10_000  # a Gram matrix of 0.8 GB, and some copies


class SvmHead:
    """scikit-learn's ``SVC``, one against one, on a kernel that is computed once.

    The Gram matrix is one matrix product; the fits for the final head and for
    its calibration all read it. Probabilities are a softmax of the decision
    values with one temperature, fitted on rows that the scoring machine had
    not seen; they never change the answer.
    """

    name: ClassVar[str] = "svm"
    random: ClassVar[bool] = False
    parallel: ClassVar[bool] = True
    space: ClassVar[tuple[Parameter, ...]] = (
        POOLING,
        SCALING,
        Parameter("kernel", "rbf", ("linear", "rbf")),
        Parameter("C", 10.0, low=1e-3, high=1e3, log=True),
        Parameter(
            "gamma",
            1.0,
            low=0.05,
            high=20.0,
            log=True,
            when=("kernel", ("rbf",)),
        ),
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
        """Fit; see ``ffe.heads.base.Head.fit``. The validation rows are not used."""
        check_rows(len(features))
        x = self._map.fit(features).transform(features)
        rbf = self.parameters["kernel"] == "rbf"
        self._classes = classes
        # scikit-learn's "scale", 1 / (d * variance), times the parameter
        variance = float(x.var(dtype=np.float64)) or 1.0
        self._gamma = self.parameters["gamma"] / (x.shape[1] * variance) if rbf else 0.0
        kernel = self._kernel(x, x)
        support, pairs, self._bias = _fit_pairs(kernel, labels, classes, self.parameters["C"])
        self._temperature = self._calibrate(kernel, labels, seed)
        if rbf:
            self._vectors, self._pairs = x[support], pairs.astype(np.float32)
        else:
            self._vectors, self._pairs = np.empty((0, 0), np.float32), (x[support].T @ pairs).astype(np.float32)
        return self

    def _calibrate(self, kernel: np.ndarray, labels: np.ndarray, seed: int) -> float:
        """Return the temperature, from scores of rows that the machine had not seen."""
        from sklearn.model_selection import StratifiedKFold

        folds = min(_CALIBRATION_FOLDS, int(np.bincount(labels, minlength=self._classes).min()))
        if folds < 2:
            return 1.0
        scores = np.empty((len(labels), self._classes))
        for train, held in StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels):
            support, pairs, bias = _fit_pairs(kernel[np.ix_(train, train)], labels[train], self._classes, self.parameters["C"])
            scores[held] = _class_scores(kernel[np.ix_(held, train[support])] @ pairs + bias, self._classes)
        return fit_temperature(scores, labels)

    def _kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        products = (a @ b.T).astype(np.float64)
        if self.parameters["kernel"] == "linear":
            return products
        squares_a = np.einsum("ij,ij->i", a, a, dtype=np.float64)
        squares_b = np.einsum("ij,ij->i", b, b, dtype=np.float64)
        distances = np.maximum(squares_a[:, None] + squares_b[None, :] - 2 * products, 0)
        return np.exp(-self._gamma * distances)

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes); see ``ffe.heads.base.Head.predict_proba``."""
        x = self._map.transform(features)
        rows = self._kernel(x, self._vectors) if len(self._vectors) else x
        return softmax(self._temperature * _class_scores(rows @ self._pairs + self._bias, self._classes))

    def found(self) -> dict[str, Any]:
        """Nothing is found by the fit."""
        return {}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the machine as arrays.

        ``vectors`` float32 (m, d), empty for a linear kernel; ``pairs`` float32
        (m or d, P) and ``bias`` float64 (P,) for the P pairs of classes;
        ``constants`` float64 (3,): classes, gamma, temperature; and those of the map.
        """
        return {
            "vectors": self._vectors,
            "pairs": self._pairs,
            "bias": self._bias,
            "constants": np.asarray([self._classes, self._gamma, self._temperature], np.float64),
            **self._map.arrays(),
        }

    @classmethod
    def from_arrays(cls, parameters: Mapping[str, Any], grid: tuple[int, int, int], arrays: Mapping[str, np.ndarray]) -> Self:
        """Rebuild a fitted head."""
        head = cls(parameters, grid)
        head._map.restore(arrays)
        head._vectors, head._pairs, head._bias = arrays["vectors"], arrays["pairs"], arrays["bias"]
        classes, head._gamma, head._temperature = (float(value) for value in arrays["constants"])
        head._classes = int(classes)
        return head


def check_rows(rows: int) -> None:
    """Check a number of training rows.

    Raises:
        HeadError: the Gram matrix would take too much memory.
    """
    if rows > MAX_ROWS:
        raise HeadError(
            f"The svm head takes at most {MAX_ROWS:,} training rows, and there are {rows:,}; "
            "leave it out: --heads dense,forest,logistic."
        )


def _fit_pairs(kernel: np.ndarray, labels: np.ndarray, classes: int, penalty: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit on a Gram matrix; return (support (m,), pairs (m, P), bias (P,)).

    ``kernel(x, support) @ pairs + bias`` is positive for the first class of a
    pair (i < j); with two classes it is positive for class 1, as in scikit-learn.
    """
    from sklearn.svm import SVC

    machine = SVC(C=penalty, kernel="precomputed", cache_size=500).fit(kernel, labels)
    support, coefficients = machine.support_, machine.dual_coef_
    if classes == 2:
        return support, coefficients.T, machine.intercept_
    owner = labels[support]
    columns = []
    for first in range(classes):
        for second in range(first + 1, classes):
            column = np.where(owner == first, coefficients[second - 1], 0.0)
            columns.append(np.where(owner == second, coefficients[first], column))
    return support, np.stack(columns, axis=1), machine.intercept_


def _class_scores(decisions: np.ndarray, classes: int) -> np.ndarray:
    """Turn decision values (N, P) of pairs into scores (N, classes).

    As scikit-learn's ``decision_function_shape='ovr'``: the votes, and within
    equal votes the summed confidence, squeezed below a third of a vote.
    """
    if classes == 2:
        return two_columns(decisions[:, 0])
    votes = np.zeros((len(decisions), classes))
    confidence = np.zeros((len(decisions), classes))
    pair = 0
    for first in range(classes):
        for second in range(first + 1, classes):
            value = decisions[:, pair]
            confidence[:, first] += value
            confidence[:, second] -= value
            votes[:, first] += value >= 0
            votes[:, second] += value < 0
            pair += 1
    return votes + confidence / (3 * (np.abs(confidence) + 1))
