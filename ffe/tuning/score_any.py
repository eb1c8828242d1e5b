"""Cross-validation by fitting each head on each part: the slow way that the fast ones are held to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ffe.heads.base import Head, size_in_bytes
from ffe.tuning.kernel_cache import KernelCache
from ffe.tuning.problem import Outcome, Problem


def fit_each(
    kind: type[Head], problem: Problem, views: KernelCache, sets: Sequence[Mapping[str, Any]], executions: int, seed: int
) -> list[Outcome]:
    """Fit and score every set of parameters on every part; see ``EVALUATE`` in ``ffe.tuning.search``."""
    outcomes = []
    for parameters in sets:
        started, runs, sizes = time.monotonic(), [], []
        x = views.rowwise(kind(parameters, problem.grid).map)
        for execution in range(executions if kind.random else 1):
            probabilities = []
            for fit, score in problem.parts:
                head = kind(parameters, problem.grid).fit_rowwise(
                    x[fit],
                    problem.labels[fit],
                    problem.classes,
                    seed=seed + execution,
                    class_weights=problem.class_weights,
                    images=problem.images(fit),
                )
                probabilities.append(head.proba_rowwise(x[score]))
                sizes.append(size_in_bytes(head))
            runs.append(np.concatenate(probabilities).astype(np.float32))
        seconds = (time.monotonic() - started) / len(sizes)
        outcomes.append(Outcome(tuple(runs), seconds, int(np.mean(sizes))))
    return outcomes
