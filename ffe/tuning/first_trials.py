"""What a search tries first: what often wins, chosen so that it shares kernels and paths and is nearly free.

The sets were chosen on the photos of ``tests/benchmarks/bench_search.py``;
KerasTuner goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ffe.heads.svm import EXACT_ROWS

FLAT_FEATURES = 16_384
FLAT_VALUES = 40_000_000  # rows times features
FLAT_BY_KERNEL = 160_000_000  # ... where one matrix product is all that looks at them

Settings = dict[str, Any]

# how many sets KerasTuner adds to those of the opening (half as many where rows are many), and how many are scored in one call
_FURTHER = {"svm": 8, "logistic": 4, "dense": 4, "forest": 0}
BATCH = {"svm": 12, "logistic": 8, "dense": 8, "forest": 1}


def further(head: str, rows: int) -> int:
    """Return how many sets KerasTuner adds to those of the opening, where no number is asked for."""
    return _FURTHER[head] // (1 if rows <= EXACT_ROWS else 2)


def poolings_searched(rows: int, grid: tuple[int, int, int]) -> tuple[str, ...]:
    """Return the poolings that a search tries.

    A grid of one cell has nothing to pool. Above 16,384 features, or 40 million
    values in all, the flat ones are left to the opening of the heads that look
    at them through a kernel: they cost the others too much.
    """
    height, width, channels = grid
    dims = height * width * channels
    if height * width == 1:
        return ("flat",)
    if dims > FLAT_FEATURES or rows * dims > FLAT_VALUES:
        return ("avg", "max", "avgmax")
    return ("flat", "avg", "max", "avgmax")


def opening(head: str, rows: int, grid: tuple[int, int, int]) -> list[Settings]:
    """Return sets of parameters, in the order to try them in; what they leave out keeps its default.

    Args:
        head: name of the head.
        rows: number of rows in the search.
        grid: (h, w, c) of the features.
    """
    poolings = poolings_searched(rows, grid)
    flat_by_kernel = "flat" not in poolings and rows * grid[0] * grid[1] * grid[2] <= FLAT_BY_KERNEL
    defaults: list[Settings] = [{}, *({"pooling": pooling} for pooling in poolings)]
    if head == "svm":
        if rows > EXACT_ROWS:
            return [{}, {"pooling": "avgmax"}, *_kernels([p for p in ("avg", "avgmax") if p in poolings], ("sqrt_l2",))]
        pooled = [pooling for pooling in poolings if pooling != "max"]
        by_kernel = ["flat"] if flat_by_kernel else []
        return [*defaults, *_kernels(pooled, ("sqrt_l2", "l2", "standard")), *_kernels(by_kernel, ("sqrt_l2", "l2"))]
    if head == "logistic":
        flat = [{"pooling": "flat", "C": 100.0}] if flat_by_kernel else []
        return [*defaults, {"scaling": "standard", "C": 0.01}, {"C": 10.0}, {"C": 1000.0}, *flat]
    if head == "dense":
        return [*defaults, {"scaling": "sqrt_l2", "learning_rate": 0.005}]
    return [{"trees": 100}]


def _kernels(poolings: Sequence[str], scalings: Sequence[str]) -> list[Settings]:
    """Return a coarse grid of machines for each map; the kernel of a map is computed once for all of them."""
    result: list[Settings] = []
    for pooling in poolings:
        for scaling in scalings:
            shared = {"pooling": pooling, "scaling": scaling}
            result += [
                {**shared, "kernel": "rbf", "C": penalty, "gamma": gamma}
                for penalty, gamma in ((30.0, 0.1), (10.0, 0.3), (3.0, 1.0))
            ]
            result.append({**shared, "kernel": "linear", "C": 0.01 if scaling == "standard" else 1.0})
    return result
