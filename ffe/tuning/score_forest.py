"""Random forests, cross-validated on one tall forest for all numbers of trees."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np

from ffe.heads.forest import new_forest
from ffe.heads.transform import FeatureMap
from ffe.tuning.problem import Outcome, Part, Problem
from ffe.tuning.scoring import ScoreRequest

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

_TREES_HELD = 50
_BLOCK_ROWS = 4_096


def forest_outcomes(request: ScoreRequest) -> list[Outcome]:
    """Grow the tallest of the forests that differ in ``trees`` alone, and read the others from its first trees.

    From the same seed, a forest of 400 trees begins with those of one of 100. Fifty trees are held at a time: of those before
    them, their answers are summed.
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
        heights = {sets[i]["trees"] for i in positions}
        answers: dict[int, list[np.ndarray]] = {i: [] for i in positions}  # of each part of each execution
        nodes: dict[int, list[int]] = {i: [] for i in positions}
        for execution in range(executions):
            for part in problem.parts:
                forest = new_forest(tall, request.seed + execution, problem.class_weights)
                for trees, sums, count in _growing(forest, problem, x, part, heights):
                    for i in (i for i in positions if sets[i]["trees"] == trees):
                        answers[i].append((sums / trees).astype(np.float32))
                        nodes[i].append(count)
        fits = executions * parts * sum(sets[i]["trees"] for i in positions)
        for i in positions:
            seconds = (time.monotonic() - started) * sets[i]["trees"] / fits
            size = int(np.mean(nodes[i])) * (20 + 4 * problem.classes)
            runs = tuple(np.concatenate(answers[i][run * parts : (run + 1) * parts]) for run in range(executions))
            outcomes[i] = Outcome(runs, seconds, size)
    return [outcomes[i] for i in range(len(sets))]


def _growing(
    forest: RandomForestClassifier, problem: Problem, x: np.ndarray, part: Part, heights: set[int]
) -> Iterator[tuple[int, np.ndarray, int]]:
    """Grow a forest on a part; yield (trees, the sum of their answers float64 (m, classes), their nodes) at each height.

    x float32 (N, d). Its trees do not depend on how many are grown at once.
    """
    (fit, score), grown, nodes = part, 0, 0
    inside, labels, held = x[fit], problem.labels[fit], np.ascontiguousarray(x[score], np.float32)
    sums = np.zeros((len(held), problem.classes))
    blocks = [slice(start, start + _BLOCK_ROWS) for start in range(0, len(held), _BLOCK_ROWS)]

    def add(block: slice, trees: Sequence[DecisionTreeClassifier]) -> None:
        for tree in trees:
            sums[block] += tree.predict_proba(held[block], check_input=False)

    for height in sorted(heights | set(range(_TREES_HELD, max(heights), _TREES_HELD))):
        trees = forest.set_params(n_estimators=height, warm_start=True).fit(inside, labels).estimators_[grown:]
        joblib.Parallel(n_jobs=-1, prefer="threads")(joblib.delayed(add)(block, trees) for block in blocks)
        nodes += sum(tree.tree_.node_count for tree in trees)
        forest.estimators_[grown:] = [None] * len(trees)  # only how many there are decides which are grown next
        grown = height
        if height in heights:
            yield height, sums, nodes
