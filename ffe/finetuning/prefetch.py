"""Rows in an order -> batches, the next ones made ready while one is trained on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np

_AHEAD = 3  # batches


class BatchSource(Protocol):
    """What flows into the part of a network that is trained."""

    def take(self, rows: np.ndarray, view: int) -> np.ndarray:
        """Return (n, ...) for rows int64 (n,), as the model takes them; view 0 = the plain images."""


def batches(source: BatchSource, order: np.ndarray, size: int, view: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows int64 (n,), what the source has for them), n = size but for the last batch.

    A thread makes them, a few ahead; it ends with the iterator, which raises whatever the source raises.
    """
    worker = ThreadPoolExecutor(1, thread_name_prefix="ffe-batches")
    begun: deque[tuple[np.ndarray, Future[np.ndarray]]] = deque()
    try:
        for start in range(0, len(order) + _AHEAD * size, size):
            if start < len(order):
                rows = order[start : start + size]
                begun.append((rows, worker.submit(source.take, rows, view)))
            if start >= _AHEAD * size and begun:
                rows, made = begun.popleft()
                yield rows, made.result()
    finally:
        worker.shutdown(cancel_futures=True)
