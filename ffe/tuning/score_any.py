"""Cross-validation by fitting a head on each part: for heads without a scorer, and what the fast ones are held to."""

from __future__ import annotations

import time

import numpy as np

from ffe.heads.transform import size_in_bytes
from ffe.tuning.problem import Outcome
from ffe.tuning.scoring import ScoreRequest


def fit_each(request: ScoreRequest) -> list[Outcome]:
    """Fit and score every set of parameters on every part."""
    kind, problem = request.head, request.problem
    outcomes = []
    for parameters in request.sets:
        started, runs, sizes = time.monotonic(), [], []
        x = request.cache.rowwise(kind(parameters, problem.layout).map)
        for execution in range(request.executions if kind.random else 1):
            probabilities = []
            for fit, score in problem.parts:
                head = kind(parameters, problem.layout).fit_rowwise(x[fit], problem.fit_data(fit, request.seed + execution))
                probabilities.append(head.proba_rowwise(x[score]))
                sizes.append(size_in_bytes(head.arrays()))
            runs.append(np.concatenate(probabilities).astype(np.float32))
        outcomes.append(Outcome(tuple(runs), (time.monotonic() - started) / len(sizes), int(np.mean(sizes))))
    return outcomes
