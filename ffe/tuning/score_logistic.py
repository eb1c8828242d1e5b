"""Logistic regression, cross-validated along paths of ``C``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import threadpoolctl

from ffe.heads.logistic import coordinates_of_products, linear_probabilities, logistic_path
from ffe.heads.svm import EXACT_ROWS, inner_products
from ffe.heads.transform import FeatureMap
from ffe.tuning.kernel_cache import KernelCache
from ffe.tuning.problem import Outcome, Problem, by_feature_map


def logistic_outcomes(
    problem: Problem, views: KernelCache, sets: Sequence[Mapping[str, Any]], executions: int, seed: int
) -> list[Outcome]:
    """Fit and score every set of parameters on every part; see ``EVALUATE`` in ``ffe.tuning.search``.

    The values of ``C`` of one map are fitted in rising order, each from where
    the one before it ended; with more features than rows, in the coordinates
    of the rows' span.
    """
    outcomes: dict[int, Outcome] = {}
    for positions in by_feature_map(sets).values():
        started = time.monotonic()
        feature_map = FeatureMap(sets[positions[0]], problem.grid)
        if _is_shared(problem, views, feature_map, min(len(fit) for fit, _ in problem.parts)):
            views.products(feature_map)  # once, with all cores, before the threads ask for it
        rising = sorted(positions, key=lambda i: sets[i]["C"])
        penalties = [sets[i]["C"] for i in rising]
        with threadpoolctl.threadpool_limits(limits=1, user_api="blas"):
            paths = joblib.Parallel(n_jobs=-1, prefer="threads")(
                joblib.delayed(_path)(problem, views, feature_map, fit, score, penalties) for fit, score in problem.parts
            )
        seconds = (time.monotonic() - started) / len(positions) / len(problem.parts)
        for k, i in enumerate(rising):
            runs = np.concatenate([probabilities[k] for probabilities, _ in paths])
            outcomes[i] = Outcome((runs,), seconds, int(np.mean([size for _, size in paths])))
    return [outcomes[i] for i in range(len(sets))]


def _is_shared(problem: Problem, views: KernelCache, feature_map: FeatureMap, rows: int) -> bool:
    """Return whether one Gram matrix of all rows serves a part with so many rows to fit on."""
    wide = views.rowwise(feature_map).shape[1] > rows
    return wide and not feature_map.is_fitted_to_rows and len(problem.features) <= 2 * EXACT_ROWS


def _path(
    problem: Problem, views: KernelCache, feature_map: FeatureMap, fit: np.ndarray, score: np.ndarray, penalties: Sequence[float]
) -> tuple[list[np.ndarray], int]:
    """Return probabilities float32 (m, K) of the scored rows for each ``C``, and the bytes of a head."""
    x, labels = views.rowwise(feature_map), problem.labels[fit]
    learnt = 0
    dims = x.shape[1]
    if _is_shared(problem, views, feature_map, len(fit)):
        products = views.products(feature_map)
        square, across = products[np.ix_(fit, fit)], products[np.ix_(score, fit)]
    else:
        own = feature_map.unfitted().fit_rowwise(x[fit])
        learnt = own.size_in_bytes()
        inside, outside = own.settle(x[fit]), own.settle(x[score])
        dims = inside.shape[1]
        if dims > len(fit):
            square, across = inner_products(inside), (outside @ inside.T).astype(np.float64)
    if dims > len(fit):
        coordinates, back = coordinates_of_products(square)
        held = across @ back
    else:
        wide = np.float64 if len(problem.train) <= EXACT_ROWS else np.float32  # many rows need fewer digits, and less memory
        coordinates, held = inside.astype(wide), outside.astype(wide)
    answers, columns = [], 1
    for weights, bias in logistic_path(coordinates, labels, penalties, problem.class_weights):
        answers.append(linear_probabilities(held, weights, bias).astype(np.float32))
        columns = weights.shape[1]
    return answers, 4 * dims * columns + 8 * columns + learnt
