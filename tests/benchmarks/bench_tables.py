"""How fast feature files are exported as tables, how large these are, and that memory is the same for four times as many rows.

    python -m pytest -m benchmark -s tests/benchmarks/bench_tables.py

Rates are in MB/s of features, each in a process of its own; a plain copy of the file is measured beside them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ffe.base.digests import bytes_digest
from ffe.base.feature_layout import FeatureLayout
from ffe.exporting.table_formats import TABLE_FORMATS
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec
from ffe.store.schema import Row
from ffe.store.writer import write_store

pytestmark = pytest.mark.benchmark

DIMS = 1024
ROWS = (10_000, 40_000)

EXPORT = """
import json, resource, sys, time
from ffe.commands.export_features import export_features
started = time.perf_counter()
done = export_features(sys.argv[1], sys.argv[2], format=sys.argv[3])
seconds = time.perf_counter() - started
print(json.dumps([seconds, done.bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def write(path: Path, count: int) -> None:
    """Write features as a ReLU leaves them: half of them zero."""
    spec = ExtractSpec(BackboneSpec("fake", "random", "0" * 64), PreprocessSpec((32, 32), "none"))
    rows = [Row(f"photos/{i:07d}.jpg", bytes_digest(b"%d" % i), i % 2, "train") for i in range(count)]
    rng = np.random.default_rng(0)
    write_store(
        path,
        spec=spec,
        layout=FeatureLayout.of_shape((DIMS,)),
        class_names=("cat", "dog"),
        rows=rows,
        features=lambda row: np.maximum(rng.standard_normal(DIMS, np.float32), 0),
    )


def test_tables(tmp_path: Path) -> None:
    print("\n| format | size | MB/s | peak MiB, 10,000 rows | 40,000 rows |\n|---|---|---|---|---|")
    found: dict[str, list[tuple[float, int, float]]] = {}
    for count in ROWS:
        write(tmp_path / "f.h5", count)
        started = time.perf_counter()
        shutil.copyfile(tmp_path / "f.h5", tmp_path / "copy")
        copied = time.perf_counter() - started
        for name in TABLE_FORMATS:
            command = [sys.executable, "-c", EXPORT, tmp_path / "f.h5", tmp_path / "out", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
            found.setdefault(name, []).append(tuple(json.loads(done.stdout)))
            for path in tmp_path.glob("out*"):
                path.unlink()
    size = ROWS[1] * DIMS * 4
    for name, ((_, _, small), (seconds, written, large)) in found.items():
        print(f"| {name} | {written / size:.2f} | {size / 1e6 / seconds:,.0f} | {small:.0f} | {large:.0f} |")
        per_row = (ROWS[1] - ROWS[0]) * 3000 / 2**20  # names and digests, which an open feature file holds
        assert large - small < per_row
    print(f"a plain copy of the file: {size / 1e6 / copied:,.0f} MB/s")
