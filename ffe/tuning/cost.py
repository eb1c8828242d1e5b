"""What a search will take, said before it starts. Rough: within a factor of two or three."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from ffe.base.system import cores
from ffe.heads.nystroem import LANDMARKS
from ffe.heads.svm import EXACT_ROWS
from ffe.heads.transform import pooled_dims
from ffe.specs import SearchSpec
from ffe.tuning.first_trials import poolings_searched
from ffe.tuning.problem import Problem
from ffe.tuning.search import trials_planned

_PROBE = 384
_EPOCHS = 20  # that a dense head trains for, with early stopping


@dataclass(frozen=True)
class Cost:
    """An estimate.

    Attributes:
        trials: sets of parameters in all; None where the time decides.
        seconds: of the search.
        bytes: of memory, at the most.
        each: head -> seconds of one trial.
    """

    trials: int | None
    seconds: float
    bytes: int
    each: dict[str, float]


def estimate(problem: Problem, spec: SearchSpec) -> Cost:
    """Estimate time and memory of a search, from the number of rows and a short measurement of this machine."""
    rate = _rate() * cores()
    rows, parts, classes = int(np.mean([len(fit) for fit, _ in problem.parts])), len(problem.parts), problem.classes
    in_epoch = int(np.mean([len(problem.plain(fit)) for fit, _ in problem.parts])) if problem.drawn else rows
    poolings = (spec.fixed["pooling"],) if "pooling" in spec.fixed else poolings_searched(len(problem.features), problem.grid)
    dims = [pooled_dims(pooling, problem.grid) for pooling in poolings]
    mean_dims, most_dims = float(np.mean(dims)), max(dims)
    exact = len(problem.train) <= EXACT_ROWS
    # seconds of one trial on one part; the constants were measured with tests/benchmarks/bench_search.py
    each = {
        "svm": 2.5 * rows**2 * mean_dims / rate / 3 + 6e-8 * rows**2 * (1 + classes / 4)
        if exact
        else rows * LANDMARKS * (4.0 * mean_dims + 8.0 * LANDMARKS * (1 if classes == 2 else classes)) / rate,
        "logistic": 400.0 * rows * min(rows, mean_dims) * max(1, classes - 1) / rate,
        "dense": 600.0 * _EPOCHS * in_epoch * mean_dims / rate * spec.executions,
        "forest": 3e-7 * 150 * rows * np.log2(rows + 1) * np.sqrt(mean_dims) / cores() * spec.executions,
    }
    count = len(problem.features)
    planned = trials_planned(problem, spec)
    total = None if None in planned.values() else sum(filter(None, planned.values()))
    seconds = spec.seconds
    if seconds is None:
        seconds = float(sum(each[name] * parts * (trials or 0) for name, trials in planned.items()))
    gram = (
        8 * (2 * count**2 + parts * rows * count + 2 * rows**2 * cores())
        if exact and {"svm", "logistic"} & set(spec.heads)
        else 0
    )
    landmarks = 0 if exact or "svm" not in spec.heads else 16 * rows * LANDMARKS
    views = 4 * count * sum(dims) + 8 * count * most_dims // 4
    memory = problem.features.nbytes + views + gram + landmarks + (700 << 20)
    trial = {name: float(each[name] * parts) for name in spec.heads}
    return Cost(None if spec.seconds is not None else total, seconds, int(memory), trial)


def _rate() -> float:
    """Return this machine's float64 operations a second and core, in a product of matrices."""
    x = np.random.default_rng(0).random((_PROBE, _PROBE))
    x @ x
    started = time.perf_counter()
    x @ x
    return 2 * _PROBE**3 / max(time.perf_counter() - started, 1e-6) / cores()
