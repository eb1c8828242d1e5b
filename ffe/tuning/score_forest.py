"""Random forests, cross-validated on one tall forest for all numbers of trees."""

from __future__ import annotations

import time
from typing import Any

import joblib
import numpy as np

from ffe.heads.forest import new_forest
from ffe.heads.transform import FeatureMap
from ffe.tuning.problem import Outcome
from ffe.tuning.scoring import ScoreRequest


def forest_outcomes(request: ScoreRequest) -> list[Outcome]:
    """Grow the tallest of the forests that differ in ``trees`` alone, and read the others from its first trees.

    From the same seed, a forest of 400 trees begins with those of one of 100.
    """
    problem, sets, executions = request.problem, request.sets, request.executions
    parts = len(problem.parts)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, parameters in enumerate(sets):
        key = tuple(sorted((name, str(value)) for name, value in parameters.items() if name != "trees"))
        groups.setdefault(key, []).append(i)
    outcomes: dict[int, Outcome] = {}
    for positions in groups.values():
        started = time.monotonic()
        tall = max((sets[i] for i in positions), key=lambda parameters: parameters["trees"])
        x = request.cache.rowwise(FeatureMap(tall, problem.layout))
        answers: dict[int, list[np.ndarray]] = {i: [] for i in positions}  # of each part of each execution
        nodes: dict[int, list[int]] = {i: [] for i in positions}
        for execution in range(executions):
            for fit, score in problem.parts:
                forest = new_forest(tall, request.seed + execution, problem.class_weights).fit(x[fit], problem.labels[fit])
                held = np.ascontiguousarray(x[score], np.float32)
                each = joblib.Parallel(n_jobs=-1, prefer="threads")(
                    joblib.delayed(tree.predict_proba)(held) for tree in forest.estimators_
                )
                sums = np.cumsum(each, axis=0)
                counts = np.cumsum([tree.tree_.node_count for tree in forest.estimators_])
                for i in positions:
                    trees = sets[i]["trees"]
                    answers[i].append((sums[trees - 1] / trees).astype(np.float32))
                    nodes[i].append(int(counts[trees - 1]))
        fits = executions * parts * sum(sets[i]["trees"] for i in positions)
        for i in positions:
            seconds = (time.monotonic() - started) * sets[i]["trees"] / fits
            size = int(np.mean(nodes[i])) * (20 + 4 * problem.classes)
            runs = tuple(np.concatenate(answers[i][run * parts : (run + 1) * parts]) for run in range(executions))
            outcomes[i] = Outcome(runs, seconds, size)
    return [outcomes[i] for i in range(len(sets))]
