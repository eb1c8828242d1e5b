"""What a search will take, said before it starts. Rough: within a factor of two or three."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from ffe.base.system import cores
from ffe.heads import find_head
from ffe.heads.base import SearchSize
from ffe.heads.transform import part_layout, pooled_dims, poolings_searched
from ffe.specs import SearchSpec
from ffe.tuning.problem import Problem
from ffe.tuning.search import trials_planned

_PROBE, _ROUNDS = 384, 5
_LIBRARIES = 1.5  # seconds in which scikit-learn and SciPy load
_ORACLE = 3.0  # and KerasTuner, in a process of its own


@dataclass(frozen=True)
class Cost:
    """An estimate."""

    trials: int | None  # sets of parameters in all, at the most; None where the time alone decides
    seconds: float  # of the search, as far as they grow with the rows
    overhead: float  # the others: what loads, what is compiled, and the least that each fit takes; 0 where time is limited
    bytes: int  # of memory, at the most
    each: dict[str, float]  # head -> seconds of one trial


def estimate(problem: Problem, spec: SearchSpec) -> Cost:
    """Estimate time and memory of a search, from the number of rows and a short measurement of this machine."""
    rows, parts = int(np.mean([len(fit) for fit, _ in problem.parts])), len(problem.parts)
    count = len(problem.features)
    layout = part_layout(problem.layout, str(spec.fixed.get("parts", "all")))
    poolings = (spec.fixed["pooling"],) if "pooling" in spec.fixed else poolings_searched(count, layout)
    dims = [pooled_dims(pooling, layout) for pooling in poolings]
    size = SearchSize(
        rows=count,
        train_rows=len(problem.train),
        fit_rows=rows,
        epoch_rows=int(np.mean([len(problem.plain(fit)) for fit, _ in problem.parts])) if problem.drawn else rows,
        dims=float(np.mean(dims)),
        classes=problem.classes,
        parts=parts,
        rate=_rate() * cores(),
        cores=cores(),
    )
    heads = {name: find_head(name) for name in spec.heads}
    fits = {name: parts * (spec.executions if kind.random else 1) for name, kind in heads.items()}
    each = {name: float(kind.fit_seconds(size) * fits[name]) for name, kind in heads.items()}
    planned = trials_planned(problem, spec)
    trials: int | None = sum(count for count, _ in planned.values())
    seconds = float(sum(each[name] * count for name, (count, _) in planned.items()))
    overhead = _LIBRARIES + _ORACLE * any(asks for _, asks in planned.values())
    overhead += sum(kind.start_seconds() + planned[name][0] * fits[name] * kind.least_seconds for name, kind in heads.items())
    if spec.seconds is not None:
        seconds, overhead = spec.seconds if spec.trials is None else min(spec.seconds, seconds + overhead), 0.0
        trials = None if spec.trials is None else trials
    pooled = 4 * count * sum(dims) * min(2, len(layout.parts)) + 8 * count * max(dims) // 4
    own = max(kind.search_bytes(size) for kind in heads.values())  # Gram matrices are shared
    return Cost(trials, seconds, overhead, problem.features.nbytes + pooled + own + (700 << 20), each)


def _rate() -> float:
    """Return this machine's float64 operations a second and core, in a product of matrices."""
    x = np.random.default_rng(0).random((_PROBE, _PROBE))
    x @ x
    least = math.inf
    for _ in range(_ROUNDS):  # other programs disturb some
        started = time.perf_counter()
        x @ x
        least = min(least, time.perf_counter() - started)
    return 2 * _PROBE**3 / max(least, 1e-6) / cores()
