"""Files -> decoded images -> batches -> features. Extraction and prediction both run on this."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, field, replace

import numpy as np

from ffe.engines.base import Engine
from ffe.errors import DataError, DecodeError
from ffe.extraction.batch_size import BatchSize
from ffe.extraction.stage_times import Stages
from ffe.images.image_handle import ImageFile
from ffe.images.loader import DecodedImage, ImageStream

_LEAST_TAKEN = 4096
_MOST_WAITING = 2048  # files that need no backbone are passed on at the latest when so many have come by


@dataclass(frozen=True)
class ImageFeatures(DecodedImage):
    """What became of one file, or of one view of it, without its pixels."""

    features: np.ndarray | None = None  # float32 (D,); None if they were known already, or the file failed


def noting(pictures: Iterable[tuple[str, ImageFile | bytes]], names: dict[int, str]) -> Iterator[ImageFile | bytes]:
    """Yield the files of pictures, and note their names by position."""
    for index, (name, file) in enumerate(pictures):
        names[index] = name
        yield file


def feature_rows(batches: Iterable[list[ImageFeatures]], dims: int, refusal: Callable[[int, DecodeError], str]) -> np.ndarray:
    """Return float32 (N, dims), a row for every image; what could not be decoded raises DecodeError with its ``refusal``."""
    rows: list[np.ndarray] = []
    for item in itertools.chain.from_iterable(batches):
        if item.error is not None:
            raise DecodeError(item.error.reason, refusal(item.index, item.error))
        assert item.features is not None
        rows.append(item.features)
    return np.stack(rows) if rows else np.empty((0, dims), np.float32)


class Taken:
    """What is being computed, until ``kept`` says that its features are there: (digest, view)."""

    def __init__(self, kept: Callable[[str, int], bool]) -> None:
        self._kept = kept
        self._keys: set[tuple[str, int]] = set()
        self._most = _LEAST_TAKEN

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._keys or self._kept(*key)

    def add(self, key: tuple[str, int]) -> None:
        """Note what is being computed; once there are many, forget what is kept by now."""
        self._keys.add(key)
        if len(self._keys) >= self._most:
            self._keys = {key for key in self._keys if not self._kept(*key)}
            self._most = max(_LEAST_TAKEN, 2 * len(self._keys))


@dataclass(eq=False)
class Pipeline:
    """Pushes files through the backbone in batches, several at once, in order."""

    images: ImageStream  # the files, being decoded
    open_engine: Callable[[], Engine]  # called once, when the first image needs it
    _: KW_ONLY
    batch_size: int | None = None  # images in a batch; None = what the engine and the first seconds make best
    dtype: str = "float32"  # that features are stored in; they are rounded to it here, so prediction sees what training saw
    # says of (digest, view) that its features are there already; where it is given, equal files are computed once
    known: Callable[[str, int], bool] | None = None
    sizer: BatchSize | None = None  # what earlier files showed of the same engine; None = nothing yet
    engine: Engine | None = field(default=None, init=False)  # None until the first image needed it

    def __post_init__(self) -> None:
        self._taken = None if self.known is None else Taken(self.known)
        self._running: deque[tuple[list[DecodedImage], Callable[[], np.ndarray] | None]] = deque()
        self._waited = 0.0
        self._idle = self._others()
        self.images.known = self._skip

    @property
    def stages(self) -> Stages:
        """Where the time went so far."""
        return Stages(
            read=self.images.read_seconds,
            decode=self.images.decode_seconds,
            decoding=self.images.decoding,
            backbone=0.0 if self.engine is None else self.engine.seconds,
            processor=max(0.0, self._others() - self._idle),
            shared=self.engine is not None and self.engine.on_cpu,
            waited_for_images=self.images.waited,
            waited_for_backbone=self._waited,
        )

    def _others(self) -> float:
        """Return the processor time of all threads but those that read and decode."""
        return time.process_time() - self.images.thread_seconds

    def _skip(self, sha256: str, view: int) -> bool:
        return self._taken is not None and (sha256, view) in self._taken

    def __iter__(self) -> Iterator[list[ImageFeatures]]:
        """Yield what became of the files, batch by batch, in order."""
        waiting: list[DecodedImage] = []
        wanted = 0
        for item in self.images:
            if item.pixels is not None and self._skip(item.sha256, item.view):  # an equal file came by since it was decoded
                item = replace(item, pixels=None)
            if item.pixels is not None:
                if self._taken is not None:
                    self._taken.add((item.sha256, item.view))
                wanted += 1
                self._open()
            waiting.append(item)
            if (self.engine is not None and wanted >= self.engine.batch_size) or len(waiting) == _MOST_WAITING:
                yield from self._start(waiting)
                waiting, wanted = [], 0
        if waiting:
            yield from self._start(waiting)
        while self._running:
            yield self._finish(*self._running.popleft())

    def _open(self) -> None:
        if self.engine is None:
            before = self._others()
            self.engine = self.open_engine()
            self._idle += self._others() - before
            self.sizer = self.sizer or BatchSize(self.engine, fixed=self.batch_size is not None)

    def _start(self, items: list[DecodedImage]) -> Iterator[list[ImageFeatures]]:
        """Start a batch; yield an earlier one if there are as many on their way as the engine takes."""
        pixels = [item.pixels for item in items if item.pixels is not None]
        while self._running and (self.engine is None or len(self._running) >= self.engine.in_flight):
            yield self._finish(*self._running.popleft())
        result = None
        if pixels:
            assert self.sizer is not None
            if self.sizer.memory_is_low():
                self.images.ahead = max(2, self.images.ahead // 2)
            result = self.sizer.start(np.stack(pixels))
        self._running.append((items, result))

    def _finish(self, items: list[DecodedImage], result: Callable[[], np.ndarray] | None) -> list[ImageFeatures]:
        rows: Iterator[np.ndarray] = iter(())
        if result is not None:
            started = time.perf_counter()
            features = result()
            self._waited += time.perf_counter() - started
            with np.errstate(over="ignore"):  # what does not fit is refused below
                features = features.astype(self.dtype, copy=False).astype(np.float32, copy=False)
            if not np.isfinite(features).all():
                hint = "use --dtype float32" if self.dtype != "float32" else "check the weights, or use --precision float32"
                raise DataError(f"The backbone gave features that are NaN or too large for {self.dtype}; {hint}.")
            rows = iter(features)
        own = [None if item.pixels is None else next(rows) for item in items]
        return [ImageFeatures(**vars(replace(item, pixels=None)), features=row) for item, row in zip(items, own, strict=True)]
