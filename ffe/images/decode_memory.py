"""Large files wait for each other, so that the threads that decode take no more memory together than there is."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from ffe.base.system import total_memory

_BYTES_A_PIXEL = 20  # at the worst, a WebP: its two canvases, the picture inside it, Pillow's copy, and RGB
_SMALL_PIXELS = 1 << 22  # do not ask
_SHARE = 0.5

_LARGE_BYTES = 32 << 20

_alone = threading.Lock()
_changed = threading.Condition()
_taken = 0


def _begin_anew() -> None:
    """In a forked process nobody holds what threads of the other one held."""
    global _alone, _changed, _taken
    _alone, _changed, _taken = threading.Lock(), threading.Condition(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


@contextlib.contextmanager
def reserved_memory(pixels: int) -> Iterator[None]:
    """Wait until a picture of so many pixels fits beside the others that are being decoded, or until it is alone.

    Together they take at most half of the machine's memory.
    """
    if pixels <= _SMALL_PIXELS:
        yield
        return
    global _taken
    needed, most = _BYTES_A_PIXEL * pixels, _SHARE * total_memory()
    with _changed:
        _changed.wait_for(lambda: not _taken or _taken + needed <= most)
        _taken += needed
    try:
        yield
    finally:
        with _changed:
            _taken -= needed
            _changed.notify_all()


@contextlib.contextmanager
def one_large_file_at_once(file: Path | bytes) -> Iterator[None]:
    """Let one large file at a time be read into memory, and held there."""
    with contextlib.ExitStack() as stack:
        if isinstance(file, Path) and _size(file) > _LARGE_BYTES:
            stack.enter_context(_alone)
        yield


def _size(file: Path) -> int:
    try:
        return os.stat(file).st_size
    except (OSError, ValueError):  # reading it says why
        return 0
