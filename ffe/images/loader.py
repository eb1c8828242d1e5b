"""Many files -> decoded images, in order, several at a time, with memory that stays flat."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Self

import numpy as np

from ffe.base.digests import bytes_digest
from ffe.base.file_stat import NO_STAMP, Stamp, stamp_to_keep
from ffe.base.forks import check_same_process
from ffe.base.system import cores
from ffe.base.text import counted, few, quoted
from ffe.errors import DecodeError, SourceError
from ffe.images.decode import CUT, DARK, ENDLESS, NOTES, UNMATCHED, decode_for_all, decode_with_hash, read_image
from ffe.images.decode_memory import one_large_file_at_once
from ffe.images.image_handle import READERS, ImageFile, ImageHandle
from ffe.images.limits import Limits
from ffe.images.phash import UNKNOWN
from ffe.images.read_ahead import Fetched, ReadAhead
from ffe.specs import AugmentSpec, PreprocessSpec

LEAST_AHEAD = 16  # images that are decoded ahead, however large
_AHEAD_BYTES = 128 << 20
_MOST_WORKERS_A_CORE = 2
_CHECK_SECONDS = 1.0
_STARVED = 0.25  # share of the time that the caller waits for images
_IDLE = 0.6  # share of the cores' time that this process uses


@dataclass(frozen=True)
class DecodedImage:
    """What became of one file, or of one view of it."""

    index: int  # position among the files given
    sha256: str  # digest of the file's content; empty if it could not be read
    pixels: np.ndarray | None  # uint8 (H, W, 3), RGB, or several of them ``packed``; None if it was not wanted, or failed
    error: DecodeError | None = None  # why it failed, or None
    phash: int = UNKNOWN  # see ``ffe.images.phash``; 0 where there are no pixels
    stat: Stamp = NO_STAMP  # of the file before it was read, see ``ffe.base.file_stat``; unknown for bytes
    view: int = 0  # which view the pixels are; 0 = the picture itself


# what to say of one file that was taken, and of several
_NOTE_TEXTS = {
    DARK: (
        "uses only the lowest part of its 16 bits, and is nearly black to a backbone ({}); {}",
        "use only the lowest part of their 16 bits, and are nearly black to a backbone ({}); {}",
        "stretch the values over the whole range, or save 8 bits",
    ),
    UNMATCHED: (
        "does not match its checksums, and is taken ({}); look at it, {}",
        "do not match their checksums, and are taken ({}); look at them, {}",
        "for the pixels may be damaged",
    ),
    CUT: ("is cut off and taken as far as it goes ({})", "are cut off and taken as far as they go ({})", ""),
    ENDLESS: ("lacks its end, but no pixel, and is taken ({})", "lack their ends, but no pixels, and are taken ({})", ""),
}


def note_text(kind: str, names: Sequence[str]) -> str:
    """Return what to say of files that were taken, though ``ffe.images.decode`` noted something of them."""
    one, several, more = _NOTE_TEXTS[kind]
    return f"{counted(len(names), 'file')} {(one if len(names) == 1 else several).format(few(quoted(names)), more)}"


def packed(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Return one picture, uint8 (H, W, 3), as it is; several, of any sizes, flattened, one behind the other: uint8 (B,)."""
    return pictures[0] if len(pictures) == 1 else np.concatenate([picture.reshape(-1) for picture in pictures])


def default_workers() -> int:
    """Return the threads that decode where the user names no number: one per core, 16 at the most."""
    return min(16, cores())


def threads_for(files: Iterable[ImageFile | None]) -> int:
    """Return the threads that both read and decode files: more than decode where they come over a network."""
    return READERS if any(isinstance(file, ImageHandle) and file.remote for file in files) else default_workers()


def _yield_cores() -> None:
    """Let this thread run only where a core is idle: on two cores MobileNet runs at 0.95 of its speed alone, without at 0.89."""
    if sys.platform == "linux":  # nowhere else do single threads have priorities
        with contextlib.suppress(OSError):  # some containers forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


class ImageStream:
    """Reads and decodes files in threads, and yields them in the order given.

    Decoders let go of Python's lock, so threads use all cores while the caller runs the backbone. Where he has to wait because
    the threads wait for the disk, more threads are taken on. What comes over a network has threads of its own, see
    ``ffe.images.read_ahead``.

    ``known`` says of a digest and a view that its pixels are not wanted, ``views`` which views of the file at a position are;
    it is decoded once for all of them. ``augment`` None = there are none. With several ways to prepare pictures, for several
    backbones, each file is decoded once too, and its pixels are ``packed``.
    """

    def __init__(
        self,
        files: Iterable[ImageFile | bytes],
        preprocess: PreprocessSpec | Sequence[PreprocessSpec],
        *,
        workers: int | None = None,
        known: Callable[[str, int], bool] = lambda sha256, view: False,
        limits: Limits = Limits(),  # noqa: B008 (a frozen value)
        views: Callable[[int], Sequence[int]] = lambda index: (0,),
        augment: AugmentSpec | None = None,
    ) -> None:
        self.known = known
        self.workers = workers or default_workers()  # threads now; up to two a core where reading is slow and none is named
        self._ways = (preprocess,) if isinstance(preprocess, PreprocessSpec) else tuple(preprocess)
        pixels = sum(math.prod(way.size) for way in self._ways)
        self.ahead = max(LEAST_AHEAD, min(1024, _AHEAD_BYTES // (pixels * 3)))  # of the caller; may be set
        # of all threads together: reading files; processor time of decoding and resizing (``decoding``: with waiting for a
        # core), and of all that they do. ``waited``: of the caller, for an image
        self.read_seconds = self.decode_seconds = self.thread_seconds = self.decoding = self.waited = 0.0
        self.noted: dict[str, list[int]] = {kind: [] for kind in NOTES}  # positions of files by what was noted, in no order
        self._files = enumerate(files)
        self._limits = limits
        self._views = views
        self._augment = augment
        self._lock = threading.Lock()
        self._most = _MOST_WORKERS_A_CORE * cores() if workers is None else self.workers
        self._running: deque[Future[list[DecodedImage]]] = deque()
        self._waiting: SimpleQueue[tuple[int, ImageFile | Fetched | bytes, Future[list[DecodedImage]]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []  # that decode what waits
        self._closed = False
        self._ahead: ReadAhead | None = None  # None until something comes over a network
        self._process = os.getpid()
        self._checked_at = time.monotonic()
        self._seen = (0.0, 0.0, 0.0, 0.0)

    def prefetch(self) -> None:
        """Begin to decode, before the first image is asked for."""
        for index, file in itertools.islice(self._files, max(0, self.ahead - len(self._running))):
            outcome: Future[list[DecodedImage]] = Future()
            self._running.append(outcome)
            if isinstance(file, ImageHandle) and file.remote:
                self._ahead = self._ahead or ReadAhead(self._limits.bytes)
                self._ahead.read(file, partial(self._take, index, outcome))
            else:
                self._take(index, outcome, file)

    def _take(self, index: int, outcome: Future[list[DecodedImage]], file: ImageFile | Fetched | bytes | SourceError) -> None:
        """Put what is to be decoded behind what waits."""
        if isinstance(file, SourceError):
            outcome.set_exception(file)
            return
        self._waiting.put((index, file, outcome))
        if len(self._threads) < self.workers:
            with self._lock:  # threads that read ask for more, too
                while len(self._threads) < self.workers and not self._closed:
                    self._threads.append(threading.Thread(target=self._work, name="ffe-decode", daemon=True))
                    self._threads[-1].start()

    def __iter__(self) -> Iterator[DecodedImage]:
        """Yield what became of each file, in order: one item, or one for each view, without pixels where they are known."""
        self.prefetch()
        while self._running:
            check_same_process(self._process, "Images that are being read")
            started = time.perf_counter()
            items = self._running.popleft().result()
            self.waited += time.perf_counter() - started
            self._adapt_workers()
            self.prefetch()
            yield from items

    def _work(self) -> None:
        """Decode what has waited longest, until the stream is closed."""
        _yield_cores()
        while (job := self._waiting.get()) is not None and not self._closed:
            index, file, outcome = job
            try:
                with one_large_file_at_once(b"" if isinstance(file, Fetched) else file):
                    outcome.set_result(self._decoded(index, file))
            except BaseException as error:
                outcome.set_exception(error)

    def _decoded(self, index: int, file: ImageFile | Fetched | bytes) -> list[DecodedImage]:
        thread_started, started, read, decode_started = time.thread_time(), time.perf_counter(), None, 0.0
        sha256, stat = "", NO_STAMP
        try:
            if isinstance(file, Fetched):
                assert self._ahead is not None
                started -= file.seconds * self.workers / self._ahead.readers  # as if those that decode had read
                stat = file.handle.stamp
                if isinstance(file.content, DecodeError):
                    raise file.content
                data = file.content
            else:
                if not isinstance(file, bytes):
                    stat = file.stamp if isinstance(file, ImageHandle) else stamp_to_keep(file)
                data = read_image(file, self._limits.bytes)
            sha256 = bytes_digest(data)
            read, decode_started = time.perf_counter(), time.thread_time()
            views = self._views(index)
            wanted = {view for view in views if not self.known(sha256, view)}
            if not wanted:
                return [DecodedImage(index, sha256, None, stat=stat, view=view) for view in views]
            notes: list[str] = []
            if len(self._ways) == 1:
                picture, phash = decode_with_hash(data, self._ways[0], self._limits, notes)
                pictures = [picture]
            else:
                pictures, phash = decode_for_all(data, self._ways, self._limits, notes)
            with self._lock:
                for note in notes:
                    self.noted[note].append(index)
            made = dict.fromkeys(wanted, packed(pictures))
            if self._augment is not None:
                from ffe.images.augment import augment  # it loads OpenCV

                made = {view: packed([augment(one, self._augment, sha256, view) for one in pictures]) for view in wanted}
            return [DecodedImage(index, sha256, made.get(view), None, phash, stat, view) for view in views]
        except DecodeError as error:
            return [DecodedImage(index, sha256, None, error, stat=stat)]
        finally:
            if isinstance(file, Fetched):
                file.release()
            thread_ended, ended = time.thread_time(), time.perf_counter()
            with self._lock:
                self.thread_seconds += thread_ended - thread_started
                self.read_seconds += (read or ended) - started
                if read is not None:
                    self.decoding += ended - read
                    self.decode_seconds += thread_ended - decode_started

    def _adapt_workers(self) -> None:
        """Take on as many threads again, if the caller waits, and the threads wait for files rather than for cores."""
        now = time.monotonic()
        if (self._ahead is None and self.workers >= self._most) or now - self._checked_at < _CHECK_SECONDS:
            return
        seen = (self.waited, time.process_time(), self.read_seconds, self.decoding)
        passed = now - self._checked_at
        waited, computed, reading, decoding = (new - old for new, old in zip(seen, self._seen, strict=True))
        if waited > _STARVED * passed and computed < _IDLE * passed * cores() and reading > decoding:
            if self._ahead is not None:
                self._ahead.more()
            else:
                self.workers = min(2 * self.workers, self._most)
        self._checked_at, self._seen = now, seen

    def note_texts(self, name: Callable[[int], str]) -> list[str]:
        """Return a sentence for each kind of file that was taken and had better be looked at; ``name`` of a position."""
        return [note_text(kind, [name(index) for index in sorted(where)]) for kind, where in self.noted.items() if where]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._ahead is not None:
            self._ahead.close()
        with self._lock:
            self._closed = True
        for _thread in self._threads:  # one for each
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()
