"""``bench``: how fast this machine extracts, by every way that it has, on the user's own photos."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np

from ffe.backbones.catalog import DEFAULT, find
from ffe.backbones.registry import check_of_keras
from ffe.backbones.resolve import make_spec
from ffe.base.system import CACHE_VARIABLE, cores
from ffe.base.text import counted, rough_duration
from ffe.engines.base import Engine
from ffe.engines.factory import float_model, has_openvino, open_engine
from ffe.engines.quantize import LEAST_SAMPLE, quantized_for
from ffe.engines.throughput import images_per_second
from ffe.errors import EngineError, SourceError
from ffe.images.file_names import is_text, printable
from ffe.images.loader import ImageStream
from ffe.images.records import ImageRecord
from ffe.images.sources import scan
from ffe.specs import Decode, PreprocessSpec
from ffe.store.writer import in_row_order

log = logging.getLogger("ffe")

_ALONE_SECONDS = 4.0
_ALONE_IMAGES = 64
_MANY_IMAGES = 1_000_000  # worth a measurement of what is the fastest

# seconds that a bench is reckoned with beforehand, as they were on two cores; how long it takes is not known to a factor of two
_START, _START_OF_KERAS, _ONCE, _CALIBRATION = 3.0, 8.0, 35.0, 10.0
_CALL_OF_KERAS = 0.09  # of ``predict`` on one photo, beside the arithmetic
_GFLOPS = 60.0  # 10**9 operations a second of one core


@dataclass(frozen=True)
class BenchRow:
    """One way, measured."""

    way: str  # what ran
    # ``whole process`` from start to exit, ``backbone alone`` on decoded images in memory, ``decode alone``, or ``once``
    scope: str
    images: int  # photos in one measurement
    seconds: float  # median of the measurements
    images_per_second: float | None = None  # at that median; None for what is done once
    # fastest, slowest: images a second of the best and the worst measurement
    fastest: float | None = None
    slowest: float | None = None
    ratio: float | None = None  # to the one-at-a-time way, the median over the rounds; None for what is done once


@dataclass(frozen=True)
class BenchResult:
    """A table of ``BenchRow``; the first is the one-at-a-time way."""

    backbone: str
    size: tuple[int, int]
    photos: int
    repeats: int
    rows: tuple[BenchRow, ...]


class _Bench:
    def __init__(
        self, records: list[ImageRecord], backbone: str, size: tuple[int, int], weights: str, layer: str | None, folder: Path
    ) -> None:
        self.backbone, self.size, self.weights, self.layer = backbone, size, weights, layer
        self.folder, self.listing = folder, folder / "photos.csv"
        files = [record.file.resolve() for record in records if isinstance(record.file, Path)]
        if len(files) < len(records):
            raise SourceError("Photos are measured as files, and these are not; unpack them into a folder, and give that.")
        if odd := [printable(str(file)) for file in files if not is_text(str(file))]:
            raise SourceError(f"The name '{odd[0]}' is not valid text, which a CSV cannot hold; rename the file or folder.")
        with self.listing.open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(("path", "label"))
            lines.writerows((file, record.label) for file, record in zip(files, records, strict=True))
        self.records = in_row_order(scan(self.listing).records)  # as the measured runs see it

    def one_at_a_time(self, count: int) -> float:
        """Return the seconds that all photos would take, of a process for the first ``count``: its start-up, and its rate."""
        names = self.folder / "names.txt"
        names.write_text("".join(f"{record.file}\n" for record in self.records[:count]), "utf-8")
        command = ("ffe.commands.bench_baseline", str(names), self.backbone, *map(str, self.size), self.weights, self.layer or "")
        seconds, output = self._process(*command)
        return seconds + json.loads(output.splitlines()[-1])["loop_seconds"] * (len(self.records) / count - 1)

    def extract(self, *options: str, cache: str = "cache") -> float:
        """Return the seconds of a whole ``ffe extract`` into a new file."""
        output, (height, width) = self.folder / "features.h5", self.size
        command = ("ffe", "extract", str(self.listing), "-o", str(output), "--backbone", self.backbone)
        command += ("--size", f"{height}x{width}", "--weights", self.weights, *(("--layer", self.layer) if self.layer else ()))
        seconds, _ = self._process(*command, *options, cache=cache)
        output.unlink()
        return seconds

    def _process(self, module: str, *arguments: str, cache: str = "cache") -> tuple[float, str]:
        own = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self.folder))  # all of it goes, however the process ends
        environment = {**os.environ, **own, CACHE_VARIABLE: str(self.folder / cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], capture_output=True, text=True, env=environment, check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("ffe: ")
            raise EngineError(f"A measurement failed: {last}")
        return time.perf_counter() - started, done.stdout

    def decode(self, how: Decode) -> float:
        """Return the seconds that all threads take to read and decode the photos."""
        started = time.perf_counter()
        with ImageStream((record.file for record in self.records), PreprocessSpec(self.size, "none", decode=how)) as images:
            for _ in images:
                pass
        return time.perf_counter() - started

    def pixels(self) -> np.ndarray:
        """Return some of the photos, decoded."""
        files = (record.file for record in self.records[: 2 * _ALONE_IMAGES])
        with ImageStream(files, PreprocessSpec(self.size, "none")) as images:
            found = [item.pixels for item in images if item.pixels is not None][:_ALONE_IMAGES]
        if not found:
            raise SourceError("None of the photos could be decoded; check that the source holds pictures.")
        return np.stack([found[i % len(found)] for i in range(_ALONE_IMAGES)])

    def cache_without_int8(self) -> str:
        """Return the name of a cache with the converted models of the other one, but no quantised ones."""
        other = self.folder / "cache-without-int8"
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(self.folder / "cache" / "models", other / "models", ignore=shutil.ignore_patterns("*-int8.zip"))
        return other.name


def bench(
    source: str | os.PathLike[str],
    *,
    backbone: str = DEFAULT,
    size: int | tuple[int, int] | None = None,
    weights: str = "imagenet",
    layer: str | None = None,
    photos: int = 1000,
    slow_photos: int = 100,
    repeats: int = 3,
    on_step: Callable[[str], None] = lambda step: None,
) -> BenchResult:
    """Measure every way from photos to features, in turn, ``repeats`` times.

    At most ``photos`` of the source are taken (see ``ffe.extract``). The one-at-a-time way gets only ``slow_photos``, because
    it is slow; its seconds for all of them are reckoned from its start-up and its rate.
    """
    check_of_keras(backbone, "it cannot be measured against Keras")
    spec, found = make_spec(backbone, size, weights, layer)
    records = in_row_order(scan(source).records)[:photos]
    if len(records) < LEAST_SAMPLE:
        raise SourceError(
            f"'{source}' has {counted(len(records), 'file')}; a bench needs at least {counted(LEAST_SAMPLE, 'photo')}."
        )
    count, once = len(records), list[BenchRow]()
    slow, measured = min(slow_photos, count), defaultdict[tuple[str, str], list[float]](list)
    with tempfile.TemporaryDirectory(prefix="ffe-bench-") as name, _cache_that_goes(Path(name) / "cache"):
        runs = _Bench(records, backbone, spec.preprocess.size, weights, layer, Path(name))
        started = time.perf_counter()
        pixels = runs.pixels()
        decoding = (time.perf_counter() - started) / min(2 * _ALONE_IMAGES, count)
        seconds = _reckoned(backbone, spec.preprocess.size, count, slow, repeats, decoding)
        rounds = f"{counted(repeats, 'round')} of every way on {counted(count, 'photo')}, one at a time on {slow:,} of them"
        on_step(f"it will take about {rough_duration(seconds)}: {rounds}")
        engines: dict[str, Engine] = {}
        if has_openvino():
            on_step("converting and calibrating, into a temporary folder")
            started = time.perf_counter()
            float_model(spec, found)
            once.append(BenchRow("converting the backbone", "once", 0, time.perf_counter() - started))
            started = time.perf_counter()
            open_engine(spec, found, images=_MANY_IMAGES)
            once.append(BenchRow("choosing engine and batches", "once", 0, time.perf_counter() - started))
            float_engine = open_engine(spec, found, name="openvino")  # in the batches that were chosen
            engines[f"openvino, float32, batches of {float_engine.batch_size}"] = float_engine
            with contextlib.suppress(EngineError):  # an operation that is not written for it
                engines["winograd, float32"] = open_engine(spec, found, name="winograd")
            started = time.perf_counter()
            int8, _ = make_spec(backbone, size, weights, layer, precision="int8")
            model = quantized_for(int8, found, runs.records)
            once.append(BenchRow("calibrating int8", "once", count, time.perf_counter() - started))
            engines["openvino, int8"] = open_engine(int8, found, name="openvino", quantized=model)
        engines["keras, batches of 32"] = open_engine(spec, found, name="keras")
        ways: dict[tuple[str, str], Callable[[], float]] = {
            ("one at a time", "whole process"): lambda: runs.one_at_a_time(slow),
            ("ffe extract", "whole process"): runs.extract,
        }
        if has_openvino():
            ways["ffe extract, int8, calibration included", "whole process"] = lambda: runs.extract(
                "--precision", "int8", cache=runs.cache_without_int8()
            )
            ways["ffe extract, int8, calibration cached, fast decode", "whole process"] = lambda: runs.extract(
                "--precision", "int8", "--decode", "fast"
            )
        for way, engine in engines.items():
            ways[way, "backbone alone"] = partial(_alone, engine, pixels, count)
        ways["decode exact", "decode alone"] = lambda: runs.decode("exact")
        ways["decode fast", "decode alone"] = lambda: runs.decode("fast")
        for number, ((way, scope), measure) in itertools.product(range(repeats), ways.items()):
            on_step(f"{number + 1}/{repeats} {way}, {scope}")
            measured[way, scope].append(measure())
    yardstick = measured["one at a time", "whole process"]
    rows = [_row(way, scope, count, seconds, yardstick) for (way, scope), seconds in measured.items()]
    return BenchResult(backbone, spec.preprocess.size, count, repeats, (*rows, *once))


@contextlib.contextmanager
def _cache_that_goes(folder: Path) -> Iterator[None]:
    """Take a cache that is not the user's, and say nothing of what is kept there for the next time."""

    def warns(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    log.addFilter(warns)  # its level would tell others that nobody wants to hear of anything
    try:
        with mock.patch.dict(os.environ, {CACHE_VARIABLE: str(folder)}):
            yield
    finally:
        log.removeFilter(warns)


def _reckoned(backbone: str, size: tuple[int, int], count: int, slow: int, repeats: int, decoding: float) -> float:
    """Return about how many seconds a bench takes, from the arithmetic of the backbone, and seconds of decoding a photo."""
    row = find(backbone)
    compute = row.gflops * size[0] * size[1] / row.size**2 / (_GFLOPS * cores())  # of a photo; int8 takes about half
    whole = _START_OF_KERAS + slow * (_CALL_OF_KERAS + 1.5 * compute) + _START + count * (compute + decoding)
    if has_openvino():
        whole += 2 * _START + _CALIBRATION + count * (compute + 1.5 * decoding)
    engines = 1 + 3 * has_openvino()
    return _ONCE + repeats * (whole + engines * _ALONE_SECONDS + 1.5 * count * decoding)


def _alone(engine: Engine, pixels: np.ndarray, count: int) -> float:
    """Return the seconds that an engine alone takes for so many images."""
    return count / images_per_second(engine, pixels, _ALONE_SECONDS)


def _row(way: str, scope: str, images: int, seconds: list[float], yardstick: list[float]) -> BenchRow:
    median = statistics.median(seconds)
    ratio = statistics.median(slow / own for slow, own in zip(yardstick, seconds, strict=True))  # of neighbours in time
    return BenchRow(way, scope, images, median, images / median, images / min(seconds), images / max(seconds), ratio)
