"""Images that are read over a network, many at once, in threads of their own, with the bytes on their way bounded."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from ffe.errors import DecodeError, SourceError, one_line
from ffe.images.image_handle import READERS, ImageHandle
from ffe.images.object_store import Failures

_MOST_READERS = 128
_MOST_BYTES = 256 << 20  # that are being read, or wait to be decoded
_GUESS = 1 << 20  # of an image whose size nobody tells


@dataclass(frozen=True)
class Fetched:
    """What reading an image gave; ``release`` is called when its bytes are needed no more."""

    handle: ImageHandle
    content: bytes | DecodeError
    seconds: float  # that it took
    release: Callable[[], None]


_Done = Callable[[Fetched | SourceError], None]


class ReadAhead:
    """Reads images in threads, begun in the order in which they are asked for; nobody waits for what hangs when it is closed."""

    def __init__(self, max_bytes: int) -> None:
        self.readers = 0  # threads, and images that are asked for at once
        self._max_bytes = max_bytes
        self._waiting: SimpleQueue[tuple[ImageHandle, _Done] | None] = SimpleQueue()
        self._closed = False
        self._room = threading.Condition()
        self._taken = 0
        self._failures = Failures()
        self.more()

    def read(self, handle: ImageHandle, done: _Done) -> None:
        """Read an image, and call ``done`` with what came of it; SourceError where all are in vain."""
        self._waiting.put((handle, done))

    def more(self) -> None:
        """Ask for twice as many at once."""
        for _ in range(min(self.readers or READERS, _MOST_READERS - self.readers)):
            threading.Thread(target=self._work, name="ffe-read", daemon=True).start()
            self.readers += 1

    def close(self) -> None:
        """Begin no more."""
        with self._room:
            self._closed = True
            self._room.notify_all()
        for _ in range(self.readers):
            self._waiting.put(None)

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None and not self._closed:
            handle, done = job
            try:
                self._read(handle, done)
            except BaseException as error:  # whoever waits for it must not wait for ever
                done(SourceError(f"'{handle.name}' cannot be read ({one_line(error)})."))

    def _read(self, handle: ImageHandle, done: _Done) -> None:
        needed = max(0, handle.stamp[0]) or _GUESS
        with self._room:
            self._room.wait_for(lambda: self._closed or not self._taken or self._taken + needed <= _MOST_BYTES)
            self._taken += needed
        started = time.perf_counter()
        content: bytes | DecodeError
        try:
            content = handle.read(self._max_bytes)
        except DecodeError as error:
            content = error
        seconds = time.perf_counter() - started
        if isinstance(content, bytes):
            with self._room:
                self._taken += len(content) - needed
            needed = len(content)
        failure = content if isinstance(content, DecodeError) else None
        done(self._failures.in_vain(handle, failure) or Fetched(handle, content, seconds, lambda: self._release(needed)))

    def _release(self, count: int) -> None:
        with self._room:
            self._taken -= count
            self._room.notify_all()
