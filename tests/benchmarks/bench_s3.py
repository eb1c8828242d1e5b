"""How fast photos come from a bucket, against the same from the disk.

    pip install "moto[server]"
    FFE_TEST_DATA=... python -m pytest -m benchmark -s tests/benchmarks/bench_s3.py

The bucket is moto's server in a process of its own, on the same cores: what it
takes of the processor is taken from the backbone, which a real bucket does not.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import psutil
import pytest
from s3_server import bucket_of

from ffe.extraction.run import extract
from ffe.images.loader import ImageStream
from ffe.images.sources import list_images
from ffe.specs import PreprocessSpec

pytest.importorskip("moto")
pytestmark = pytest.mark.benchmark

ROUNDS = 3


@pytest.fixture(autouse=True)
def weights(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # it remembers the server of the test before
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(shared / "weights"))


def servers_seconds() -> float:
    """Return the processor time of moto's process."""
    return sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children())


@pytest.mark.parametrize(("backbone", "size", "dataset"), [(None, None, "dogs_vs_cats"), ("vgg19", 150, "flowers")])
def test_extraction_from_a_bucket(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str | None, size: int | None, dataset: str
) -> None:
    folder, rates = shared / "images" / dataset, dict[str, list[float]](disk=[], bucket=[])
    with bucket_of(folder) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        extract(folder, tmp_path / "warm.h5", backbone=backbone, size=size)  # converts the backbone
        for number in range(ROUNDS):
            sources = [("disk", folder), ("bucket", "s3://photos")]
            for where, source in reversed(sources) if number % 2 else sources:  # some machines are fast at first
                before, started = servers_seconds(), time.perf_counter()
                done = extract(source, tmp_path / f"{where}{number}.h5", backbone=backbone, size=size)  # type: ignore[arg-type]
                taken, passed = servers_seconds() - before, time.perf_counter() - started
                rates[where].append(done.images_per_second)
                print(
                    f"{where}: {done.images_per_second:.1f}/s, limited by {done.stages.limit}; the server took "
                    f"{taken:.1f} s of processor in {passed:.1f} s"
                )
                assert done.skipped == 0
    disk, bucket = (statistics.median(rates[where]) for where in ("disk", "bucket"))
    print(f"{backbone or 'default'}: disk {disk:.1f}/s, bucket {bucket:.1f}/s, ratio {bucket / disk:.2f}")
    assert bucket / disk >= 0.7


def test_ways_to_read(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading alone: fsspec's own groups of requests, threads, and the stream with decoding."""
    with bucket_of(shared / "images" / "flowers") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        records = list_images("s3://photos").records
        files, keys = fsspec.filesystem("s3"), [record.file.path for record in records]  # type: ignore[union-attr]

        def threads(count: int) -> None:
            with ThreadPoolExecutor(count) as pool:
                list(pool.map(lambda record: record.file.read(1 << 30), records))

        def stream() -> None:
            with ImageStream([record.file for record in records], PreprocessSpec((224, 224), "none")) as images:
                assert all(item.error is None for item in images)

        ways = {"cat of all": lambda: files.cat(keys), "stream": stream}
        ways |= {f"{count} threads": lambda count=count: threads(count) for count in (1, 8, 16, 32, 64)}
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            print(f"{name}: {len(records) / (time.perf_counter() - started):.0f}/s")
