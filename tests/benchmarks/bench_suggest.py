"""How long it takes to choose photos to label, out of 100,000 rows x 1,024 features, and how much memory.

    python -m pytest -m benchmark -s tests/benchmarks/bench_suggest.py

FFE_BENCH_ROWS takes another number of rows. Memory is what the process takes beyond opening the file, held against the
features, which are four bytes each.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ffe
from ffe.backbones.resolve import make_spec
from ffe.base.feature_layout import FeatureLayout
from ffe.store.schema import Row
from ffe.store.writer import write_store

pytestmark = pytest.mark.benchmark

ROWS, DIMS = int(os.environ.get("FFE_BENCH_ROWS", "100000")), 1024

_RUN = """
import resource, sys, time
import ffe
from ffe.predictor import Predictor
Predictor(sys.argv[1])
with ffe.FeatureStore(sys.argv[2]) as store:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    for _ in store.batches(4096):
        pass
    reading = time.perf_counter() - started
for by in ("margin", "entropy"):
    started = time.perf_counter()
    found = ffe.suggest(sys.argv[1], sys.argv[2], sys.argv[3], by=by, overwrite=True)
    print(f"{by} {time.perf_counter() - started:.2f} s, reading alone {reading:.2f} s, {found.considered} photos")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
"""


def test_suggest(tmp_path: Path) -> None:
    block = np.random.default_rng(0).normal(size=(4096, DIMS)).astype(np.float32)

    def write(name: str, count: int, classes: tuple[str, ...]) -> Path:
        write_store(
            tmp_path / name,
            spec=make_spec("fake")[0],
            layout=FeatureLayout.of_shape((1, 1, DIMS)),
            class_names=classes,
            rows=[Row(f"{i:07d}.jpg", f"{len(classes)}{i:063x}", i % 2 if classes else -1, "") for i in range(count)],
            features=lambda row: np.roll(block[int(row.path[:7]) % 4096], int(row.path[:7]) // 4096),
        )
        return tmp_path / name

    ffe.train(write("labelled.h5", 200, ("cat", "dog")), tmp_path / "m.ffe", head="logistic", with_backbone=False)
    rows = write("f.h5", ROWS, ())
    done = subprocess.run(
        [sys.executable, "-c", _RUN, tmp_path / "m.ffe", rows, tmp_path / "next.csv"], capture_output=True, text=True, check=True
    )
    *said, more = done.stdout.splitlines()
    print(
        f"\n{ROWS:,} x {DIMS:,}:",
        *said,
        f"{int(more) / 2**20:.0f} MiB more at the most, of features {4 * ROWS * DIMS / 2**20:.0f} MiB",
    )
    assert int(more) < 160 << 20
