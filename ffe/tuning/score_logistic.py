"""Logistic regression, cross-validated along paths of ``C``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import joblib
import numpy as np

from ffe.base.blas import one_blas_thread
from ffe.heads.logistic import coordinates_of, coordinates_of_products, logistic_path
from ffe.heads.probability import probabilities_of
from ffe.heads.svm import EXACT_ROWS, inner_products
from ffe.heads.transform import FeatureMap
from ffe.tuning.problem import Outcome, Part
from ffe.tuning.scoring import PartScore, ScoreRequest


def logistic_outcomes(request: ScoreRequest) -> list[Outcome]:
    """Fit the values of ``C`` of one map in rising order; with more features than rows, in the coordinates of the rows' span."""
    problem = request.problem

    def score(rising: list[Mapping[str, Any]]) -> list[list[PartScore]]:
        feature_map = FeatureMap(rising[0], problem.layout)
        if _is_shared(request, feature_map, min(len(fit) for fit, _ in problem.parts)):
            request.cache.products(feature_map)  # once, with all cores, before the threads ask for it
        penalties = [parameters["C"] for parameters in rising]
        with one_blas_thread():
            return joblib.Parallel(n_jobs=-1, prefer="threads")(
                joblib.delayed(_part)(request, feature_map, part, penalties) for part in problem.parts
            )

    groups = (sorted(positions, key=lambda i: request.sets[i]["C"]) for _, positions in request.by_feature_map())
    return request.scored_together(groups, score)


def _is_shared(request: ScoreRequest, feature_map: FeatureMap, rows: int) -> bool:
    """Return whether one Gram matrix of all rows serves a part with so many rows to fit on."""
    return feature_map.dims > rows and not feature_map.is_fitted_to_rows and len(request.problem.features) <= 2 * EXACT_ROWS


def _part(request: ScoreRequest, feature_map: FeatureMap, part: Part, penalties: Sequence[float]) -> list[PartScore]:
    """Score each ``C`` on a part."""
    (fit, score), problem = part, request.problem
    if _is_shared(request, feature_map, len(fit)):
        learnt, dims = 0, feature_map.dims
        products = request.cache.products(feature_map)
        square, across = products[np.ix_(fit, fit)], products[np.ix_(score, fit)]
    else:
        inside, outside, learnt = request.mapped(feature_map, part)
        dims = inside.shape[1]
        if dims > len(fit):
            square, across = inner_products(inside), (outside @ inside.T).astype(np.float64)
    if dims > len(fit):
        coordinates = coordinates_of_products(square)
        held = coordinates_of(coordinates, across)
    else:
        wide = np.float64 if len(problem.train) <= EXACT_ROWS else np.float32  # many rows need fewer digits, and less memory
        coordinates, held = inside.astype(wide, copy=False), outside.astype(wide, copy=False)
    found = []
    for weights, bias in logistic_path(coordinates, problem.labels[fit], penalties, problem.class_weights):
        size = 4 * dims * weights.shape[1] + 8 * weights.shape[1] + learnt
        found.append((probabilities_of(held @ weights + bias).astype(np.float32), size))
    return found
