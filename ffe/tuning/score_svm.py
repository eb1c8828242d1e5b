"""Support vector machines, cross-validated on kernels that are computed once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import threadpoolctl

from ffe.heads.probability import softmax
from ffe.heads.svm import EXACT_ROWS, class_scores, fit_pairs, inner_products, rbf_kernel
from ffe.heads.transform import FeatureMap
from ffe.tuning.kernel_cache import KernelCache
from ffe.tuning.problem import Outcome, Problem, by_feature_map
from ffe.tuning.score_svm_nystroem import landmark_outcomes


def svm_outcomes(
    problem: Problem, views: KernelCache, sets: Sequence[Mapping[str, Any]], executions: int, seed: int
) -> list[Outcome]:
    """Fit and score every set of parameters on every part; see ``EVALUATE`` in ``ffe.tuning.search``.

    One Gram matrix serves all values of C and gamma and, where the map is not
    fitted to rows, all parts. The scores are those of scikit-learn's ``SVC``;
    what does not converge in a million steps is scored as it is.
    """
    if len(problem.train) > EXACT_ROWS:  # as the final fit will be
        return landmark_outcomes(problem, views, sets, executions, seed)
    outcomes: dict[int, Outcome] = {}
    for positions in by_feature_map(sets).values():
        started = time.monotonic()
        feature_map = FeatureMap(sets[positions[0]], problem.grid)
        chosen = [sets[i] for i in positions]
        parts = [_Part(problem, views, feature_map, fit, score) for fit, score in problem.parts]
        # the libraries let go of Python's lock; with several fits under way, each gets one thread of BLAS
        with threadpoolctl.threadpool_limits(limits=1, user_api="blas"):
            jobs = [joblib.delayed(part.fit)(parameters, problem) for parameters in chosen for part in parts]
            fitted = joblib.Parallel(n_jobs=-1, prefer="threads")(jobs)
        seconds = (time.monotonic() - started) / len(jobs)
        for k, i in enumerate(positions):
            mine = fitted[k * len(parts) : (k + 1) * len(parts)]
            runs = np.concatenate([probabilities for probabilities, _ in mine])
            outcomes[i] = Outcome((runs,), seconds, int(np.mean([size for _, size in mine])))
    return [outcomes[i] for i in range(len(sets))]


class _Part:
    """The inner products of one part under one map."""

    def __init__(self, problem: Problem, views: KernelCache, feature_map: FeatureMap, fit: np.ndarray, score: np.ndarray) -> None:
        x = views.rowwise(feature_map)
        self.labels, self.learnt = problem.labels[fit], 0
        if feature_map.is_fitted_to_rows:
            own = feature_map.unfitted().fit_rowwise(x[fit])
            self.learnt = own.size_in_bytes()
            inside, outside = own.settle(x[fit]), own.settle(x[score])
            products = inner_products(np.concatenate([inside, outside]))
            sums, self.dims = inside.sum(axis=1, dtype=np.float64), inside.shape[1]
            fit, score = np.arange(len(inside)), np.arange(len(inside), len(products))
        else:
            products = views.products(feature_map)
            sums, self.dims = views.row_sums(feature_map)[fit], x.shape[1]
        self.square, self.across = products[np.ix_(fit, fit)], products[np.ix_(score, fit)]
        self.lengths = products.diagonal()[score]
        # what gamma_of takes from the rows themselves, here without a copy of them
        values = len(fit) * self.dims
        variance = self.square.trace() / values - (sums.sum() / values) ** 2
        self.scale = 1 / (self.dims * (variance if variance > 0 else 1.0))

    def fit(self, parameters: Mapping[str, Any], problem: Problem) -> tuple[np.ndarray, int]:
        """Return probabilities float32 (m, K) of the scored rows, and the bytes of the machine."""
        square, across = self.square, self.across
        rbf = parameters["kernel"] == "rbf"
        if rbf:
            gamma, diagonal = parameters["gamma"] * self.scale, square.diagonal()
            square, across = rbf_kernel(square, diagonal, diagonal, gamma), rbf_kernel(across, self.lengths, diagonal, gamma)
        support, pairs, bias, _ = fit_pairs(square, self.labels, problem.classes, parameters["C"], problem.class_weights)
        scores = class_scores(across[:, support] @ pairs + bias, problem.classes)
        values = len(support) * (self.dims + pairs.shape[1]) if rbf else self.dims * pairs.shape[1]
        return softmax(scores).astype(np.float32), 4 * values + self.learnt
