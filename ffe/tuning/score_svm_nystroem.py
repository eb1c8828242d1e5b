"""Support vector machines on many rows, cross-validated on Nyström features that are computed once for all ``C``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ffe.heads.base import row_weights
from ffe.heads.nystroem import choose_landmarks, machine_path, whitener
from ffe.heads.probability import softmax, two_columns
from ffe.heads.svm import gamma_of, kernel_of, kernel_rows, signs_of
from ffe.heads.transform import FeatureMap
from ffe.tuning.kernel_cache import KernelCache
from ffe.tuning.problem import Outcome, Problem, by_feature_map


def landmark_outcomes(
    problem: Problem, views: KernelCache, sets: Sequence[Mapping[str, Any]], executions: int, seed: int
) -> list[Outcome]:
    """Fit and score every set of parameters on every part; see ``EVALUATE`` in ``ffe.tuning.search``.

    The machines of one map and kernel are solved in rising order of ``C``, each from the one before it.
    """
    outcomes: dict[int, Outcome] = {}
    for positions in by_feature_map(sets).values():
        feature_map = FeatureMap(sets[positions[0]], problem.grid)
        kernels: dict[tuple[Any, ...], list[int]] = {}
        for i in positions:
            kernels.setdefault((sets[i]["kernel"], sets[i].get("gamma")), []).append(i)
        for alike in kernels.values():
            started = time.monotonic()
            rising = sorted(alike, key=lambda i: sets[i]["C"])
            parts = [_part(problem, views, feature_map, [sets[i] for i in rising], *part, seed) for part in problem.parts]
            seconds = (time.monotonic() - started) / len(alike) / len(parts)
            for k, i in enumerate(rising):
                runs = np.concatenate([answers[k] for answers, _ in parts])
                outcomes[i] = Outcome((runs,), seconds, int(np.mean([size for _, size in parts])))
    return [outcomes[i] for i in range(len(sets))]


def _part(
    problem: Problem,
    views: KernelCache,
    feature_map: FeatureMap,
    rising: Sequence[Mapping[str, Any]],
    fit: np.ndarray,
    score: np.ndarray,
    seed: int,
) -> tuple[list[np.ndarray], int]:
    """Return probabilities float32 (m, K) of the scored rows for each ``C``, and the bytes of a head."""
    x, own = views.rowwise(feature_map), feature_map.unfitted()
    inside = own.fit_rowwise(x[fit]).settle(x[fit])
    outside, labels = own.settle(x[score]), problem.labels[fit]
    landmarks = inside[choose_landmarks(len(inside), seed)]
    gamma = gamma_of(rising[0], inside)
    back = whitener(kernel_of(landmarks, landmarks, gamma))
    z, held = kernel_rows(inside, landmarks, gamma, back), kernel_rows(outside, landmarks, gamma, back)
    weights, penalties = row_weights(labels, problem.class_weights), [parameters["C"] for parameters in rising]
    each = [list(machine_path(z, signs, penalties, weights)) for signs in signs_of(labels, problem.classes)]
    answers = []
    for k in range(len(rising)):
        scores = np.stack([held @ path[k][0] + path[k][1] for path in each], axis=1)
        answers.append(softmax(two_columns(scores[:, 0]) if problem.classes == 2 else scores).astype(np.float32))
    values = len(landmarks) * (landmarks.shape[1] + len(each)) if gamma else landmarks.shape[1] * len(each)
    return answers, 4 * values + own.size_in_bytes()
