"""Rows in an order -> batches, the next ones made ready while one is trained on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Protocol

import numpy as np

_AHEAD = 2


class BatchSource(Protocol):
    """What flows into the part of a network that is trained."""

    def take(self, rows: np.ndarray, view: int) -> np.ndarray:
        """Return (n, ...) for rows int64 (n,), as the model takes them; view 0 = the plain images."""
        ...


def batches(source: BatchSource, order: np.ndarray, size: int, view: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows int64 (n,), what the source has for them), n = size but for the last batch.

    A thread makes them, two ahead; it ends with the iterator, which raises whatever the source raises.
    """
    ready: queue.Queue[tuple[np.ndarray, np.ndarray] | BaseException | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def put(item: tuple[np.ndarray, np.ndarray] | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for start in range(0, len(order), size):
                if stopped.is_set():
                    return
                rows = order[start : start + size]
                put((rows, source.take(rows, view)))
            put(None)
        except BaseException as error:  # it belongs to whoever asks for the next batch
            put(error)

    worker = threading.Thread(target=work, name="ffe-batches", daemon=True)
    worker.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        worker.join()
