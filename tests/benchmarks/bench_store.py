"""Figures of the feature file, on features of real photos: how large it is, and how fast it is written and read.

    FFE_TEST_DATA=... python -m pytest -m benchmark -s tests/benchmarks/bench_store.py

Rates are in MB/s of features as the file would hold them uncompressed, and
every table has ``numpy.fromfile`` on the same bytes, measured in turn with the
others: times alone mean little on a shared machine. Files are in the system's
cache unless a line says "cold". ``-k`` chooses: formats, chunks, sequential, larger.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.store import schema, writer
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import write_store

pytestmark = [pytest.mark.benchmark, pytest.mark.usefixtures("weights")]

FILES = [("faces", "vgg19", 150), ("dogs_vs_cats", "mobilenet", 224)]
BLOSC = 32001
FILTERS: dict[str, dict[str, Any]] = {  # what ffe writes, and the same with the bytes of the numbers shuffled
    "none": {},
    "lzf": {"compression": "lzf"},
    "lzf, bytes shuffled": {"compression": "lzf", "shuffle": True},
    "gzip": {"compression": "gzip", "compression_opts": 1},
    "gzip, bytes shuffled": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "zstd": {"compression": BLOSC, "compression_opts": (0, 0, 0, 0, 1, 0, 5)},
    "zstd, bytes shuffled": {"compression": BLOSC, "compression_opts": (0, 0, 0, 0, 1, 1, 5)},
}
REPEATS = 3


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def write(path: Path, source: FeatureStore, values: np.ndarray, compress: str) -> None:
    places = {row.path: i for i, row in enumerate(source.rows())}
    write_store(
        path,
        spec=replace(source.spec, dtype=str(values.dtype)),  # type: ignore[arg-type]
        layout=source.layout,
        class_names=source.class_names,
        rows=source.rows(),
        features=lambda row: values[places[row.path]],
        compress=compress,  # type: ignore[arg-type]
    )


def forget(path: Path) -> None:
    """Take a file out of the system's cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def reading_rates(path: Path, size: int) -> dict[str, list[float]]:
    """Return MB/s of the ways to read a file of ``size`` bytes of features, one value for each repeat."""
    rows = np.random.default_rng(0)
    ways: dict[str, Callable[[FeatureStore], int]] = {
        "all": lambda store: store.features().shape[0],
        "shuffled": lambda store: sum(len(labels) for _, labels in store.shuffled(32)),
        "random rows": lambda store: sum(len(store.features(rows.integers(0, len(store), 32))) for _ in range(8)),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            with FeatureStore(path) as store:
                started = time.perf_counter()
                count = way(store)
                rates[name].append(size * count / len(store) / (time.perf_counter() - started) / 1e6)
    return rates


@pytest.fixture
def any_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hdf5plugin")
    monkeypatch.setattr(writer, "filter_options", FILTERS.__getitem__)


@pytest.mark.parametrize(("dataset", "backbone", "side"), FILES)
def test_formats(features_of: Any, tmp_path: Path, any_filter: None, dataset: str, backbone: str, side: int) -> None:
    """Every filter, for float32 and float16: size, and the rates of writing and of reading, checksums included."""
    with FeatureStore(features_of(dataset, backbone, side)) as source:
        full = source.features()
        for dtype in ("float32", "float16"):
            values = full.astype(dtype)
            values.tofile(tmp_path / "raw")
            zeros = float((values == 0).mean())
            print(f"\n{dataset}, {backbone} at {side}: {values.shape[0]} x {values.shape[1]} {dtype}, {zeros:.0%} zeros")
            print("| compression | size | write | all | shuffled by 32 | 32 random rows |\n|---|---|---|---|---|---|")
            for name in FILTERS:
                path = tmp_path / "f.h5"
                wrote = min(seconds(partial(write, path, source, values, name)) for _ in range(2))
                raw = [values.nbytes / seconds(partial(np.fromfile, tmp_path / "raw", dtype)) / 1e6 for _ in range(REPEATS)]
                rates = {way: statistics.median(found) for way, found in reading_rates(path, values.nbytes).items()}
                size = path.stat().st_size / values.nbytes
                cells = " | ".join(f"{rate:.0f}" for rate in (values.nbytes / wrote / 1e6, *rates.values()))
                print(f"| {name} | {size:.3f} | {cells} | (fromfile {statistics.median(raw):.0f})")


@pytest.mark.parametrize(("dataset", "backbone", "side"), FILES)
def test_chunks(
    features_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, backbone: str, side: int
) -> None:
    """Chunks of a quarter to four MiB, float32."""
    with FeatureStore(features_of(dataset, backbone, side)) as source:
        values = source.features()
        print(
            f"\n{dataset}, {backbone} at {side}\n| compression | chunk | size | write | all | shuffled by 32 | 32 random rows |"
        )
        for name in ("none", "gzip"):
            for kib in (256, 1024, 4096):
                monkeypatch.setattr(schema, "_CHUNK_BYTES", kib << 10)
                path = tmp_path / "f.h5"
                wrote = min(seconds(partial(write, path, source, values, name)) for _ in range(2))
                rates = [statistics.median(found) for found in reading_rates(path, values.nbytes).values()]
                cells = " | ".join(f"{rate:.0f}" for rate in (values.nbytes / wrote / 1e6, *rates))
                print(f"| {name} | {kib} KiB | {path.stat().st_size / values.nbytes:.3f} | {cells} |")


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize(("dataset", "backbone", "side"), FILES)
def test_sequential_against_fromfile(
    features_of: Any, tmp_path: Path, dataset: str, backbone: str, side: int, cold: bool
) -> None:
    """All features into memory, against ``numpy.fromfile``; medians of ratios of neighbours, and their span."""
    with FeatureStore(features_of(dataset, backbone, side)) as source:
        values = source.features()
        paths = {name: tmp_path / f"{name}.h5" for name in ("none", "gzip")}
        for name, path in paths.items():
            write(path, source, values, name)
    raw = tmp_path / "raw"
    values.tofile(raw)

    took: dict[str, list[float]] = {}

    def measure(name: str, path: Path, read: Callable[[], object]) -> None:
        if cold:
            forget(path)
        took.setdefault(name, []).append(seconds(read))

    for _ in range(REPEATS * 3):
        measure("fromfile", raw, lambda: np.fromfile(raw, np.float32))
        with (
            FeatureStore(paths["none"], verify=False) as plain,
            FeatureStore(paths["none"]) as none,
            FeatureStore(paths["gzip"]) as gzip,
        ):
            measure("none, not verified", paths["none"], plain.features)
            measure("none", paths["none"], none.features)
            measure("gzip", paths["gzip"], gzip.features)
    print(f"\n{dataset}, {backbone} at {side}, {'cold' if cold else 'warm'}")
    for name, found in took.items():
        ratios = sorted(base / other for base, other in zip(took["fromfile"], found, strict=True))
        rate = values.nbytes / statistics.median(found) / 1e6
        print(f"   {name}: {rate:.0f} MB/s, {statistics.median(ratios):.2f} of fromfile ({ratios[0]:.2f} to {ratios[-1]:.2f})")


LIMIT = 256 << 20
CHILD = """
import json, sys, time
import numpy as np
from pathlib import Path
from ffe.store.reader import FeatureStore
way, path, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
started, total = time.perf_counter(), 0
if way == "fromfile":
    with open(path, "rb") as file:
        while (block := np.fromfile(file, np.float32, (32 << 20) // 4)).size:
            total += block.nbytes
else:
    with FeatureStore(path) as store:
        started = time.perf_counter()  # the table of rows is read: a second for some hundred thousand
        for features, _ in store.shuffled(32, seed=1):
            total += features.nbytes
assert total == size, (total, size)
print(json.dumps(time.perf_counter() - started))
"""


def _enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


@contextlib.contextmanager
def memory_limit() -> Iterator[tuple[str, Callable[[], None]]]:
    """Give what holds a process to ``LIMIT`` bytes, in words, and what it has to call first.

    A memory cgroup counts the files that the system caches for the process, too.
    """
    for root, file in ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")):
        group = root / f"ffe-bench-{os.getpid()}"
        try:
            group.mkdir()
            (group / file).write_text(str(LIMIT))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        try:
            yield "memory cgroup, file cache included", partial(_enter, group)
        finally:
            group.rmdir()
        return
    import resource

    yield "RLIMIT_DATA; the file cache is not limited", lambda: resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))


@pytest.mark.parametrize("compress", ["none", "gzip"])
@pytest.mark.parametrize(("dataset", "backbone", "side"), FILES)
def test_shuffled_from_a_file_larger_than_memory(
    features_of: Any, tmp_path: Path, dataset: str, backbone: str, side: int, compress: str
) -> None:
    """Shuffled batches of 32 from ten times more features than the process may have memory, against ``numpy.fromfile``."""
    path, raw = tmp_path / "f.h5", tmp_path / "raw"
    with FeatureStore(features_of(dataset, backbone, side)) as source:
        values = source.features()
        repeats = -(-10 * LIMIT // values.nbytes)
        rows = [Row(f"{i}/{row.path}", row.sha256, row.label, "") for i in range(repeats) for row in source.rows()]
        places = {row.sha256: i for i, row in enumerate(source.rows())}
        write_store(
            path,
            spec=source.spec,
            layout=source.layout,
            class_names=source.class_names,
            rows=rows,
            features=lambda row: values[places[row.sha256]],
            compress=compress,  # type: ignore[arg-type]
        )
    with raw.open("wb") as file:
        for _ in range(repeats):
            values.tofile(file)
    size = repeats * values.nbytes
    assert size >= 10 * LIMIT
    took: dict[str, list[float]] = {"fromfile": [], "shuffled": []}
    with memory_limit() as (how, enter):
        for _ in range(4):
            for way, file_ in (("fromfile", raw), ("shuffled", path)):
                forget(file_)
                command = [sys.executable, "-c", CHILD, way, str(file_), str(size)]
                done = subprocess.run(command, capture_output=True, text=True, preexec_fn=enter, check=False)
                assert done.returncode == 0, done.stderr
                took[way].append(json.loads(done.stdout))
    ratios = sorted(base / other for base, other in zip(took["fromfile"], took["shuffled"], strict=True))
    rates = {way: size / statistics.median(found) / 1e6 for way, found in took.items()}
    print(
        f"\n{dataset}, {backbone} at {side}, {compress}: {size / 2**30:.1f} GiB of features, at most {LIMIT >> 20} MiB ({how}): "
        f"fromfile {rates['fromfile']:.0f} MB/s, shuffled {rates['shuffled']:.0f} MB/s, "
        f"{statistics.median(ratios):.2f} of fromfile ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )
