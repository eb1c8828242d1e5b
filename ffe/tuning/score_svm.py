"""Support vector machines, cross-validated on kernels that are computed once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import joblib
import numpy as np

from ffe.base.blas import one_blas_thread
from ffe.evaluation.temperature import softmax
from ffe.heads.svm import EXACT_ROWS, class_scores, fit_pairs, inner_products, rbf_kernel
from ffe.heads.transform import FeatureMap
from ffe.tuning.problem import Outcome, Part, Problem
from ffe.tuning.score_svm_nystroem import landmark_outcomes
from ffe.tuning.scoring import PartScore, ScoreRequest


def svm_outcomes(request: ScoreRequest) -> list[Outcome]:
    """Fit all values of C and gamma on one Gram matrix, which serves all parts where the map is not fitted to rows.

    What does not converge in a million steps is scored as it is.
    """
    problem = request.problem
    if len(problem.train) > EXACT_ROWS:  # as the final fit will be
        return landmark_outcomes(request)

    def score(sets: list[Mapping[str, Any]]) -> list[list[PartScore]]:
        feature_map = FeatureMap(sets[0], problem.layout)
        kernels = [_PartKernel(request, feature_map, part) for part in problem.parts]
        # the libraries let go of Python's lock; with several fits under way, each gets one thread of BLAS
        with one_blas_thread():
            jobs = [joblib.delayed(kernel.score)(parameters, problem) for parameters in sets for kernel in kernels]
            fitted = joblib.Parallel(n_jobs=-1, prefer="threads")(jobs)
        return [fitted[part :: len(kernels)] for part in range(len(kernels))]

    return request.scored_together((positions for _, positions in request.by_feature_map()), score)


class _PartKernel:
    """The inner products of one part under one map."""

    def __init__(self, request: ScoreRequest, feature_map: FeatureMap, part: Part) -> None:
        fit, score = part
        self.labels, self.learnt = request.problem.labels[fit], 0
        if feature_map.is_fitted_to_rows:
            inside, outside, self.learnt = request.mapped(feature_map, part)
            products = inner_products(np.concatenate([inside, outside]))
            sums, self.dims = inside.sum(axis=1, dtype=np.float64), inside.shape[1]
            fit, score = np.arange(len(inside)), np.arange(len(inside), len(products))
        else:
            products = request.cache.products(feature_map)
            sums, self.dims = request.cache.row_sums(feature_map)[fit], feature_map.dims
        self.square, self.across = products[np.ix_(fit, fit)], products[np.ix_(score, fit)]
        self.lengths = products.diagonal()[score]
        # what gamma_of takes from the rows themselves, here without a copy of them
        values = len(fit) * self.dims
        variance = self.square.trace() / values - (sums.sum() / values) ** 2
        self.scale = 1 / (self.dims * (variance if variance > 0 else 1.0))

    def score(self, parameters: Mapping[str, Any], problem: Problem) -> PartScore:
        """Fit one machine, and score it."""
        square, across = self.square, self.across
        rbf = parameters["kernel"] == "rbf"
        if rbf:
            gamma, diagonal = parameters["gamma"] * self.scale, square.diagonal()
            square, across = rbf_kernel(square, diagonal, diagonal, gamma), rbf_kernel(across, self.lengths, diagonal, gamma)
        support, pairs, bias, _ = fit_pairs(square, self.labels, problem.classes, parameters["C"], problem.class_weights)
        scores = class_scores(across[:, support] @ pairs + bias, problem.classes)
        values = len(support) * (self.dims + pairs.shape[1]) if rbf else self.dims * pairs.shape[1]
        return softmax(scores).astype(np.float32), 4 * values + self.learnt
