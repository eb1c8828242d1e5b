"""How many images go into one call of the backbone: what the first seconds show, and what memory allows."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np

from ffe.base.arrays import check_fits
from ffe.base.system import free_memory, total_memory
from ffe.base.text import counted
from ffe.engines.base import Engine
from ffe.errors import EngineError, SpecError, ran_out_of_memory
from ffe.images.loader import LEAST_AHEAD

log = logging.getLogger("ffe")

_LONG_CALL = 2.0  # seconds: progress, Ctrl-C and commits wait for a call to end
_WORTH_IT = 1.05  # a larger batch must be so much faster to be kept
_CALLS_A_LOOK = 8
_LEAST_FREE_BYTES = 512 << 20
_LEAST_FREE_SHARE = 0.05  # of small machines
_LOOK_SECONDS = 1.0


def check_batch(batch_size: int | None, size: tuple[int, int]) -> None:
    """Refuse a batch of images (height, width) whose pixels alone, with those decoded ahead, surely do not fit into memory."""
    if batch_size is not None and batch_size < 1:
        raise SpecError(f"batch_size is {batch_size}, but must be at least 1.")
    count = batch_size or 1
    check_fits(
        (5 * count + LEAST_AHEAD) * size[0] * size[1] * 3,
        f"A {'picture' if count == 1 else 'batch of ' + counted(count, 'picture')} of {size[0]}x{size[1]} pixels",
        f"give a smaller {'--batch-size or leave it out' if count > 1 else '--size'}",
    )


class BatchSize:
    """Makes the calls of an engine, and sets its batch size by what they show.

    Of the sizes that the engine names, the next smaller one is taken where calls take seconds; larger ones are tried for a
    few calls each, and kept while the rate rises. When memory runs low the batch is halved, and never grows again. A size
    that the user named (``fixed``) changes for want of memory only.
    """

    def __init__(self, engine: Engine, *, fixed: bool) -> None:
        self._engine = engine
        self._sizes = (engine.batch_size,) if fixed else engine.sizes
        self._growing = len(self._sizes) > 1 and self._sizes[-1] > engine.batch_size
        self._rates: dict[int, float] = {}
        self._calls = self._images = 0
        self._seconds = self._computing = 0.0
        self._looked_at = time.monotonic()

    def ended(self, images: int, computing: float) -> None:
        """Take in a call: its images, and how long the engine has been at work in all."""
        size = self._engine.batch_size
        smaller = [n for n in self._sizes if n < size]
        seconds, self._computing = (computing - self._computing) * self._engine.in_flight, computing
        if seconds > _LONG_CALL and smaller and not self._growing:
            self._engine.batch_size = smaller[-1]
        if not self._growing:
            return
        self._calls += 1
        if self._calls == 2:  # the first call compiles
            self._images, self._seconds = 0, computing
        elif self._calls > 2:
            self._images += images
        if self._calls == 2 + _CALLS_A_LOOK:
            self._rates[size] = self._images / max(computing - self._seconds, 1e-9)
            self._try_larger(size)

    def _try_larger(self, size: int) -> None:
        self._calls = 0
        earlier = [n for n in self._rates if n < size]
        larger = [n for n in self._sizes if n > size]
        if earlier and self._rates[size] < _WORTH_IT * self._rates[earlier[-1]]:
            self._engine.batch_size, self._growing = earlier[-1], False
        elif larger:
            self._engine.batch_size = larger[0]
        else:
            self._growing = False

    def memory_is_low(self) -> bool:
        """Look at the machine's memory, once a second; halve the batch if there is hardly any left."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return False
        self._looked_at = now
        if free_memory() > min(_LEAST_FREE_BYTES, _LEAST_FREE_SHARE * total_memory()):
            return False
        if self._engine.batch_size > 1:
            self._halve("memory is running low")
        return True

    def _halve(self, why: str) -> None:
        self._engine.batch_size = max(1, self._engine.batch_size // 2)
        self._sizes, self._growing = tuple(n for n in self._sizes if n <= self._engine.batch_size), False
        log.warning("%s, so batches have %d images from now on", why, self._engine.batch_size)

    def start(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """Begin a batch, and return a function that waits for its features, float32 (N, D); halved where memory runs out."""
        engine, tried = self._engine, self._engine.batch_size
        try:  # the batch size may have shrunk since the batch was filled
            result = engine.start(images) if len(images) <= tried else lambda: self._in_pieces(images)
        except Exception as error:
            failed = error
            return lambda: self._again(images, tried, failed)

        def wait() -> np.ndarray:
            try:
                features = result()
            except Exception as error:
                return self._again(images, tried, error)
            self.ended(len(images), engine.seconds)
            return features

        return wait

    def _in_pieces(self, images: np.ndarray) -> np.ndarray:
        step = self._engine.batch_size
        return np.concatenate([self._engine.extract(images[i : i + step]) for i in range(0, len(images), step)])

    def _again(self, images: np.ndarray, tried: int, error: Exception) -> np.ndarray:
        """Compute a batch that failed with the batch size ``tried``; where that was not for want of memory, raise its error."""
        while ran_out_of_memory(error):
            if tried == 1:
                raise EngineError(
                    "There is not enough memory to compute even one image; "
                    "close other programs, or choose a smaller --size or another --backbone."
                ) from error
            if tried <= self._engine.batch_size:  # else an earlier batch has halved it already
                self._halve("memory ran out")
            tried = self._engine.batch_size
            try:
                return self._in_pieces(images)
            except Exception as following:
                error = following
        raise error
