"""Would threads write the shards of a feature file faster than one after another?

    python -m pytest -m benchmark -s tests/benchmarks/bench_shards.py

Both ways in turn, over rows that were computed in another order than that of the file: otherwise nothing is left to write.
Compressed ones are not tried: HDF5 breaks where two threads write chunks.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.backbones.resolve import make_spec
from ffe.base.digests import bytes_digest
from ffe.base.feature_layout import FeatureLayout
from ffe.extraction.shards import shard_of
from ffe.store.journal import Journal
from ffe.store.schema import Row
from ffe.store.writer import write_store

ROUNDS = 4
ROWS, DIMS, SHARDS = 100_000, 1024, 4


@pytest.mark.benchmark
def test_shards_in_threads(tmp_path: Path) -> None:
    spec, layout = make_spec("fake")[0], FeatureLayout.of_shape((DIMS,))
    block = np.maximum(np.random.default_rng(0).standard_normal((997, DIMS), np.float32), 0)
    rows: dict[int, list[Row]] = {number: [] for number in range(1, SHARDS + 1)}
    for i in range(ROWS):
        rows[shard_of(f"cat/{i}.jpg", SHARDS)].append(Row(f"cat/{i}.jpg", bytes_digest(str(i).encode()), 0, ""))
    journals = {number: Journal(tmp_path / f"{number}.h5", spec) for number in rows}
    for number, journal in journals.items():
        for first in range(0, len(rows[number]), 256):
            names = [row.sha256 for row in rows[number][first : first + 256]]
            journal.append(names, [block[(first + i) % 997] for i in range(len(names))], layout)
        journal.flush()

    def write(number: int) -> None:
        features = lambda row: journals[number].row(row.sha256)  # noqa: E731
        whole: dict[str, Any] = {"spec": spec, "layout": layout, "class_names": ["cat"]}
        write_store(tmp_path / f"{number}.h5", rows=rows[number], features=features, **whole)

    with ThreadPoolExecutor(SHARDS) as pool:
        ways: dict[str, Callable[[Callable[[int], None], Iterable[int]], Iterable[None]]] = {"in turn": map, "threads": pool.map}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(ROUNDS):
            for name in sorted(ways, reverse=bool(number % 2)):
                started = time.perf_counter()
                list(ways[name](write, rows))
                seconds[name].append(time.perf_counter() - started)
    ratios = [one / other for one, other in zip(seconds["in turn"], seconds["threads"], strict=True)]
    took = {name: f"{statistics.median(found):.1f} s" for name, found in seconds.items()}
    print(f"{took}, gain {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    for journal in journals.values():
        journal.discard()
        journal.close()
