"""Rows of a file in batches, in its order or mixed, in memory that stays flat."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ffe.store.row_reader import RowReader

_WINDOW_BYTES = 16 << 20
_AHEAD = 2  # windows that are being read while one is used


def batches(rows: RowReader, size: int, rng: np.random.Generator | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield features float32 (n, D) and row numbers int64 (n,) of all rows once, n <= ``size``; the next are read meanwhile.

    To mix, with ``rng``, chunks are drawn at random, as many as fill a window of 16 MiB, and every row is read to a place in it
    that is drawn at random, too. What fills no batch at the end of a window is drawn again in the next.
    """
    (total, dims), step = rows.blocks.shape, rows.blocks.step
    chunks = np.arange(-(-total // step))
    if rng is not None:
        rng.shuffle(chunks)
    held = max(1, _WINDOW_BYTES // (4 * dims * step), -(-size // step))

    def windows(pool: ThreadPoolExecutor) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, Future[None]]]:
        """Begin to read a window: its features, row numbers, and places for the rows of the one before that fill no batch."""
        carried = 0
        for start in range(0, len(chunks), held):
            some = (np.sort(chunks[start : start + held])[:, None] * step + np.arange(step)).reshape(-1)
            some = some[some < total]
            places = np.arange(carried + len(some)) if rng is None else rng.permutation(carried + len(some))
            features, numbers = np.empty((len(places), dims), np.float32), np.empty(len(places), np.int64)
            numbers[places[carried:]] = some
            reading = pool.submit(rows.load_into, features, some, places[carried:], threads=1)
            yield features, numbers, places[:carried], reading
            carried = len(places) % size

    left = np.empty((0, dims), np.float32), np.empty(0, np.int64)
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="ffe-batches") as pool:
        plan = windows(pool)
        ahead = deque(itertools.islice(plan, _AHEAD))
        while ahead:
            features, numbers, free, reading = ahead.popleft()
            ahead.extend(itertools.islice(plan, 1))
            reading.result()
            features[free], numbers[free] = left
            whole = len(numbers) - len(numbers) % size if ahead else len(numbers)
            for start in range(0, whole, size):
                some = slice(start, min(start + size, whole))
                yield features[some], numbers[some]
            left = features[whole:], numbers[whole:]
