"""The rate of an engine alone, and the machine that it was measured on."""

from __future__ import annotations

import platform
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from ffe.base.digests import bytes_digest, canonical_json
from ffe.base.system import cores
from ffe.engines.base import Engine


def this_machine(*how: str) -> str:
    """Return a name for this machine and a way of using it, 16 hexadecimal digits: a cache folder may be shared."""
    return bytes_digest(canonical_json([platform.node(), platform.machine(), cores(), *how]))[:16]


def images_per_second(engine: Engine, pixels: np.ndarray, seconds: float) -> float:
    """Return the rate of an engine on images in memory, uint8 (n, H, W, 3), over so many seconds at the least."""
    count, took, _ = run_for(engine, pixels, seconds)
    return count / took


def run_for(engine: Engine, pixels: np.ndarray, seconds: float) -> tuple[int, float, float]:
    """Return how many images an engine computes in so many seconds at the least, how many it took, and those of the processor.

    As many calls are in flight as it takes; one is made before the clock starts.
    """
    step = min(engine.batch_size, len(pixels))
    engine.extract(pixels[:step])
    running: deque[Callable[[], np.ndarray]] = deque()
    count = position = 0
    started, busy = time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        if len(running) == engine.in_flight:
            count += len(running.popleft()())
        running.append(engine.start(pixels[position : position + step]))
        position = (position + step) % (len(pixels) - step + 1)
    while running:
        count += len(running.popleft()())
    return count, time.perf_counter() - started, time.process_time() - busy
