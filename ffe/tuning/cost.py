"""What a search will take, said before it starts. Rough: within a factor of two or three."""

from __future__ import annotations

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

_PROBE = 384


@dataclass(frozen=True)
class Cost:
    """An estimate."""

    trials: int | None  # sets of parameters in all; None where the time decides
    seconds: float  # of the search
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
    each = {name: float(kind.fit_seconds(size) * parts * (spec.executions if kind.random else 1)) for name, kind in heads.items()}
    planned = trials_planned(problem, spec)
    needed = float(sum(each[name] * trials for name, trials in planned.items()))
    trials, seconds = (sum(planned.values()), needed) if spec.seconds is None else (None, spec.seconds)
    pooled = 4 * count * sum(dims) * min(2, len(layout.parts)) + 8 * count * max(dims) // 4
    own = max(kind.search_bytes(size) for kind in heads.values())  # Gram matrices are shared
    return Cost(trials, seconds, problem.features.nbytes + pooled + own + (700 << 20), each)


def _rate() -> float:
    """Return this machine's float64 operations a second and core, in a product of matrices."""
    x = np.random.default_rng(0).random((_PROBE, _PROBE))
    x @ x
    started = time.perf_counter()
    x @ x
    return 2 * _PROBE**3 / max(time.perf_counter() - started, 1e-6) / cores()
