"""Support vector machines on many rows, cross-validated on Nyström features that are computed once for all ``C``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ffe.heads.nystroem import choose_landmarks, machine_path, whitener
from ffe.heads.probability import probabilities_of
from ffe.heads.svm import gamma_of, kernel_of, kernel_rows, signs_of
from ffe.heads.transform import FeatureMap
from ffe.tuning.problem import Outcome, Part
from ffe.tuning.scoring import PartScore, ScoreRequest


def landmark_outcomes(request: ScoreRequest) -> list[Outcome]:
    """Solve the machines of one map and kernel in rising order of ``C``, each from the one before it."""

    def score(rising: list[Mapping[str, Any]]) -> list[list[PartScore]]:
        feature_map = FeatureMap(rising[0], request.problem.layout)
        return [_part(request, feature_map, rising, part) for part in request.problem.parts]

    return request.scored_together(_of_one_kernel(request), score)


def _of_one_kernel(request: ScoreRequest) -> Iterator[list[int]]:
    """Yield positions of sets that differ in ``C`` alone, which rises."""
    sets = request.sets
    for _, positions in request.by_feature_map():
        kernels: dict[tuple[Any, ...], list[int]] = {}
        for i in sorted(positions, key=lambda i: sets[i]["C"]):
            kernels.setdefault((sets[i]["kernel"], sets[i].get("gamma")), []).append(i)
        yield from kernels.values()


def _part(request: ScoreRequest, feature_map: FeatureMap, rising: Sequence[Mapping[str, Any]], part: Part) -> list[PartScore]:
    """Score each ``C`` on a part."""
    problem = request.problem
    inside, outside, learnt = request.mapped(feature_map, part)
    data = problem.fit_data(part[0], request.seed)
    landmarks = inside[choose_landmarks(len(inside), data.seed)]
    gamma = gamma_of(rising[0], inside)
    back = whitener(kernel_of(landmarks, landmarks, gamma))
    z, held = kernel_rows(inside, landmarks, gamma, back), kernel_rows(outside, landmarks, gamma, back)
    penalties = [parameters["C"] for parameters in rising]
    signs = signs_of(data.labels, data.classes)
    machines = signs.shape[1]
    values = len(landmarks) * (landmarks.shape[1] + machines) if gamma else landmarks.shape[1] * machines
    return [
        (probabilities_of(held @ w + b).astype(np.float32), 4 * values + learnt)
        for w, b in machine_path(z, signs, penalties, data.row_weights)
    ]
