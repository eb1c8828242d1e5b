"""Large files wait for each other, so that the threads that decode take no more memory together than there is."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from ffe.base.file_stat import NO_STAMP, stamp_now
from ffe.base.system import total_memory
from ffe.images.image_handle import ImageFile, ImageHandle

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
    """Wait until a picture fits into half of the machine's memory beside the others that are decoded, or until it is alone."""
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
def one_large_file_at_once(file: ImageFile | bytes) -> Iterator[None]:
    """Let one large file at a time be read into memory, and held there."""
    stamp = NO_STAMP if isinstance(file, bytes) else file.stamp if isinstance(file, ImageHandle) else stamp_now(file)
    large = stamp[0] > _LARGE_BYTES
    with _alone if large else contextlib.nullcontext():
        yield
