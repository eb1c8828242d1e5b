"""How long it takes to find the photos most like one, in a file of 100,000 rows x 1,024 features.

    python -m pytest -m benchmark -s tests/benchmarks/bench_similar.py

FFE_BENCH_ROWS takes another number of rows. Beside it stands the time of reading the file alone, in the same run.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ffe.backbones.resolve import make_spec
from ffe.base.feature_layout import FeatureLayout
from ffe.dataset.neighbours import nearest
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import write_store

pytestmark = pytest.mark.benchmark

ROWS, DIMS, REPEATS, WANTED = int(os.environ.get("FFE_BENCH_ROWS", "100000")), 1024, 7, 0.5


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_similar(tmp_path: Path, dtype: str) -> None:
    block = np.random.default_rng(0).normal(size=(4096, DIMS)).astype(dtype)
    rows = [Row(f"{i:07d}.jpg", f"{i:064x}", i % 2, "") for i in range(ROWS)]
    write_store(
        tmp_path / "f.h5",
        spec=replace(make_spec("fake")[0], dtype=dtype),  # type: ignore[arg-type]
        layout=FeatureLayout.of_shape((1, 1, DIMS)),
        class_names=("cat", "dog"),
        rows=rows,
        features=lambda row: np.roll(block[int(row.path[:7]) % 4096], int(row.path[:7]) // 4096),
    )
    started = time.perf_counter()
    with FeatureStore(tmp_path / "f.h5") as store:
        print(f"\n{ROWS:,} x {DIMS:,}, {dtype}: opened in {time.perf_counter() - started:.2f} s")
        asked = store.features(np.asarray([7]))[0]
        took, reading = [], []
        for _ in range(REPEATS):
            started = time.perf_counter()
            for _ in store.batches(4096):
                pass
            reading.append(time.perf_counter() - started)
            started = time.perf_counter()
            found = nearest(store, asked, 10)
            took.append(time.perf_counter() - started)
    assert (found[0].row, found[0].similarity) == (7, 1.0)
    alone = statistics.median(reading)
    print(f"similar {statistics.median(took):.3f} s ({min(took):.3f} to {max(took):.3f}), reading alone {alone:.3f} s")
    assert statistics.median(took) <= WANTED
