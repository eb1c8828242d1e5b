"""What a million images cost whoever holds their names, without a single photo: bytes and seconds of processor.

    python -m pytest -m benchmark -s tests/benchmarks/bench_million_names.py

``FFE_BENCH_NAMES`` is another number of them.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from ffe.backbones.resolve import make_spec
from ffe.base.feature_layout import FeatureLayout
from ffe.base.shard_names import shard_path
from ffe.commands.pack import pack
from ffe.extraction.shards import shard_of
from ffe.images.sources import list_images
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import in_row_order, write_store

pytestmark = pytest.mark.benchmark
COUNT = int(os.environ.get("FFE_BENCH_NAMES", 1_000_000))
SHARDS, DIMS = 8, 4
T = TypeVar("T")


def measured(what: str, make: Callable[[], T]) -> T:
    """Make something, and print what the process holds for it, by image."""

    def held() -> int:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()

    before, started = held(), time.process_time()
    made = make()
    print(f"{what}: {(held() - before) / COUNT:.0f} bytes an image, {time.process_time() - started:.1f} s of processor")
    return made


def test_names_at_the_driver_and_in_shards(tmp_path: Path) -> None:
    lines = (f"photos/class_{i % 100:03d}/image_{i:09d}.jpg,class_{i % 100:03d}\n" for i in range(COUNT))
    with (tmp_path / "list.csv").open("w", encoding="utf-8") as file:
        file.write("path,label\n")
        file.writelines(lines)
    found = measured("\nlisting a CSV", lambda: list_images(tmp_path / "list.csv"))
    records = measured("in the order of the rows", lambda: in_row_order(found.records))
    rows = measured(
        "rows",
        lambda: [
            Row(one.path, os.urandom(32).hex(), one.label, "", 0, 7919 * i, "", (100_000 + i, 10**18 + i))
            for i, one in enumerate(records)
        ],
    )
    spec, _ = make_spec("fake")
    features = np.ones(DIMS, np.float32)
    files = [shard_path(tmp_path / "names.h5", number, SHARDS) for number in range(1, SHARDS + 1)]
    for number, place in enumerate(files, 1):
        write_store(
            place,
            spec=spec,
            layout=FeatureLayout.of_shape((DIMS,)),
            class_names=found.class_names,
            rows=[row for row in rows if shard_of(row.path, SHARDS) == number],
            features=lambda _: features,
        )
    print(f"on the disk: {sum(file.stat().st_size for file in files) / COUNT - 4 * DIMS:.0f} bytes a row without its features")
    measured("shown as one file", lambda: pack(files, tmp_path / "names.h5", virtual=True))
    print(f"that file: {(tmp_path / 'names.h5').stat().st_size / COUNT:.0f} bytes a row")
    store = measured("opening it", lambda: FeatureStore(tmp_path / "names.h5"))
    assert len(store) == COUNT
    store.close()
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
