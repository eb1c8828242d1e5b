"""What a million images cost whoever holds their names, without a single photo: bytes and seconds of processor.

    python -m pytest -m benchmark -s tests/benchmarks/bench_million_names.py

``FFE_BENCH_NAMES`` is another number of them. Whole runs, over as many tiny pictures as ``FFE_BENCH_PICTURES`` says, of the
``FFE_BENCH_SOURCES``, through the ``FFE_BENCH_RUNNER``, each as a process of its own, say what the memory of the driver, but for
mapped files, grows by for each of them:

    python -m pytest -m benchmark -s tests/benchmarks/bench_million_names.py -k whole
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import resource
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
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
from tests.images.archives import put_parquet, put_tar

pytestmark = pytest.mark.benchmark
COUNT = int(os.environ.get("FFE_BENCH_NAMES", 1_000_000))
SHARDS, DIMS = 8, 4
ROOT = Path(__file__).resolve().parent.parent.parent
PICTURES = [int(count) for count in os.environ.get("FFE_BENCH_PICTURES", "20000,100000").split(",")]
SOURCES = os.environ.get("FFE_BENCH_SOURCES", "csv,tar,parquet,bucket").split(",")
RUNNER = os.environ.get("FFE_BENCH_RUNNER", "local")
CLASSES = 100
T = TypeVar("T")


def held() -> int:
    """Return the bytes that this process holds in its own memory: what lies in mapped files is not among them."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
    return int(lines["RssAnon"].split()[0]) << 10


def measured(what: str, make: Callable[[], T]) -> T:
    """Make something, and print what the process holds for it, by image."""
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


def picture(number: int) -> bytes:
    """Return a BMP of 8x8 pixels, another one for each number."""
    head = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 246, 0, 54, 40, 8, 8, 1, 24, 0, 192, 2835, 2835, 0, 0)
    return head + 6 * hashlib.sha256(str(number).encode()).digest()


def name(number: int) -> str:
    """Return the path of a picture, in a folder for each class."""
    return f"class_{number % CLASSES:03d}/image_{number:09d}.bmp"


def put(folder: Path, kind: str, count: int) -> str:
    """Make a source of so many pictures."""
    folder.mkdir()
    if kind == "bucket":
        return f"made://{count}"
    if kind == "tar":
        return str(put_tar(folder / "pictures.tar", ((name(i), picture(i)) for i in range(count))))
    if kind == "parquet":
        pictures, labels = [picture(i) for i in range(count)], [i % CLASSES for i in range(count)]
        return str(put_parquet(folder / "pictures.parquet", pictures, [f"class_{i}" for i in range(CLASSES)], 1000, label=labels))
    with (folder / "list.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "label"])
        for i in range(count):
            place = folder / name(i)
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(picture(i))
            lines.writerow([name(i), f"class_{i % CLASSES}"])
    return str(folder / "list.csv")


@pytest.mark.parametrize("kind", SOURCES)
def test_whole_runs_at_the_driver(tmp_path: Path, kind: str) -> None:
    """The first run, and a second one that has nothing to do."""
    pytest.importorskip("pyarrow")
    said = []
    for count in PICTURES:
        source, output = put(tmp_path / str(count), kind, count), tmp_path / f"{count}.h5"
        time.sleep(3)  # the time of a file that was only just written tells nothing: the second run would read it again
        for _ in range(2):
            run = [sys.executable, __file__, source, str(output), RUNNER]
            told = subprocess.run(
                run, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
            ).stdout
            said.append(json.loads(told.splitlines()[-1]))
    for which, (few, many) in enumerate(zip(said[:2], said[-2:], strict=True), 1):
        peak, end = ((many[what] - few[what]) / (PICTURES[-1] - PICTURES[0]) for what in ("peak", "held"))
        within = (many["later"] - many["first"]) / (PICTURES[-1] - PICTURES[0])
        print(
            f"{kind}, {RUNNER}, run {which}: {peak:.0f} bytes a picture at the peak ({many['when']}), {end:.0f} at the end, "
            f"{within:.0f} from picture {PICTURES[0]:,} of the larger run on; "
            f"{many['seconds']:.1f} s of processor for {PICTURES[-1]:,}, {many['peak'] / 1e6:.0f} MB",
            flush=True,
        )


class Memory(threading.Thread):
    """Looks every 5 ms at what this process holds that no file does."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.phase, self.when = 0, "listing", ""
        self.first = self.later = 0  # once so many were computed as the smaller run has, and the peak from there on

    def run(self) -> None:
        while True:
            if (now := held()) > self.peak:
                self.peak, self.when = now, self.phase
            self.later = max(self.later, now) if self.first else 0
            time.sleep(0.005)


def main(source: str, output: str, runner: str) -> None:
    """Run one extraction, and print what it held."""
    import fsspec

    from ffe.extraction.run import extract
    from ffe.images import parquet_archive

    class Bucket(fsspec.AbstractFileSystem):  # type: ignore[misc]
        """As many objects as the name of the bucket says."""

        protocol = "made"

        def info(self, path: str, **_: object) -> dict[str, object]:
            if not path.endswith(".bmp"):
                return {"name": path, "size": 0, "type": "directory"}
            of_s3 = {"Key": path, "LastModified": datetime(2026, 1, 1, tzinfo=UTC), "ETag": f'"{path}"', "Size": 246}
            return {**of_s3, "StorageClass": "STANDARD", "type": "file", "size": 246, "name": path}

        def find(self, path: str, **_: object) -> dict[str, dict[str, object]]:
            bucket, *folder = self._strip_protocol(path).split("/")
            numbers = range(int(folder[0][-3:]), int(bucket), CLASSES) if folder else range(int(bucket))
            return {one: self.info(one) for one in (f"{bucket}/{name(i)}" for i in numbers)}

        def ls(self, path: str, **_: object) -> list[dict[str, object]]:
            if "/" in (bucket := self._strip_protocol(path)):
                return [*self.find(path).values()]
            return [self.info(f"{bucket}/class_{number:03d}") for number in range(CLASSES)]

        def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: object) -> bytes:
            return picture(int(path[-13:-4]))[start:end]

    fsspec.register_implementation("made", Bucket)
    parquet_archive._KEPT_BYTES = 1 << 20  # which is a bound, and not reached by so few bytes
    memory = Memory()
    memory.start()
    started, options = time.process_time(), {"backbone": "fake", "size": 32, "batch_size": 64, "runner": runner}

    def progress(told: object) -> None:
        memory.phase = "computing" if told.done < told.total else "writing"  # type: ignore[attr-defined]
        memory.first = memory.first or (held() if told.done >= PICTURES[0] else 0)  # type: ignore[attr-defined]

    extract(source, output, progress=progress, **options)
    seconds = time.process_time() - started
    said = {name: getattr(memory, name) for name in ("peak", "when", "first", "later")}
    print(json.dumps({**said, "held": held(), "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
