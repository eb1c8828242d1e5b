"""Many files -> decoded images, in order, several at a time, with memory that stays flat."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffe.errors import DecodeError
from ffe.images.decode import decode, read_image
from ffe.keys import bytes_digest


@dataclass(frozen=True)
class DecodedImage:
    """What became of one file.

    Attributes:
        index: position among the files given.
        sha256: digest of the file's content; empty if it could not be read.
        pixels: uint8 (H, W, 3), RGB; None if it was not wanted, or failed.
        error: why it failed, or None.
    """

    index: int
    sha256: str
    pixels: np.ndarray | None
    error: DecodeError | None = None


def default_workers() -> int:
    """Return the threads that decode where the user names no number: one per core, 16 at the most."""
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _yield_cores() -> None:
    """Let this thread run only where a core is idle, so that decoding never slows a backbone on the CPU.

    On two cores extraction with MobileNet then runs at 0.95 of the backbone
    alone, and at 0.89 without (``tests/benchmarks/bench_extraction.py``).
    Only Linux gives priorities to single threads.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def stream(
    files: Iterable[Path | bytes],
    size: tuple[int, int],
    *,
    workers: int | None = None,
    ahead: int = 64,
    known: Callable[[str], bool] = lambda sha256: False,
) -> Iterator[DecodedImage]:
    """Read and decode files in threads, and yield them in the order given.

    Pillow lets go of Python's lock while it decodes and resizes, so threads
    use all cores, and go on while the caller runs the backbone.

    Args:
        files: paths, or the bytes of image files.
        size: (height, width) in pixels.
        workers: threads; None = one per core.
        ahead: images decoded ahead of the caller, at the most.
        known: says of a digest that its pixels are not wanted.
    """

    def work(index: int, file: Path | bytes) -> DecodedImage:
        sha256 = ""
        try:
            data = file if isinstance(file, bytes) else read_image(file)
            sha256 = bytes_digest(data)
            if known(sha256):
                return DecodedImage(index, sha256, None)
            return DecodedImage(index, sha256, decode(data, size))
        except DecodeError as error:
            return DecodedImage(index, sha256, None, error)

    pool = ThreadPoolExecutor(workers or default_workers(), thread_name_prefix="ffe-decode", initializer=_yield_cores)
    running: deque[Future[DecodedImage]] = deque()
    try:
        for index, file in enumerate(files):
            if len(running) >= ahead:
                yield running.popleft().result()
            running.append(pool.submit(work, index, file))
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
