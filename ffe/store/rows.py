"""Stored rows -> arrays, each row held against its checksum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ffe.errors import StoreError
from ffe.machine import cores
from ffe.store.blocks import Blocks
from ffe.store.checksums import row_checksums

UNREADABLE = (OSError, RuntimeError, ValueError)  # what HDF5 says of a damaged chunk
_PIECE_BYTES = 4 << 20
_WORTH_THREADS = 16 << 20
_MOST_THREADS = 4
_BUFFER_BYTES = 32 << 20


class Rows:
    """Reads features of a file.

    Args:
        blocks: the stored rows.
        crc32: uint32 (N,), the checksum that each row must have; None = they are not checked.
        path: the file, for messages.
        names: N names of the rows, for messages.
    """

    def __init__(self, blocks: Blocks, crc32: np.ndarray | None, path: Path, names: Sequence[str]) -> None:
        self.blocks = blocks
        self._crc32 = crc32
        self._path = path
        self._names = names

    def stored(self, first: int, count: int) -> np.ndarray:
        """Return rows (count, D) in the type that they are stored in.

        Raises:
            StoreError: one of them is damaged.
        """
        block = np.empty((count, self.blocks.shape[1]), self.blocks.dtype)
        self._fill(first, block)
        return block

    def load(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Read rows into memory, on several cores where there are many.

        Args:
            rows: int64 (n,), in any order; None = all.

        Returns:
            float32 (n, D).

        Raises:
            StoreError: one of them is damaged.
            IndexError: there is no such row.
        """
        wanted = np.arange(self.blocks.shape[0]) if rows is None else np.asarray(rows, np.int64)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < self.blocks.shape[0]:
            raise IndexError(f"'{self._path}' has the rows 0 to {self.blocks.shape[0] - 1}.")
        result = np.empty((len(wanted), self.blocks.shape[1]), np.float32)
        self._load_into(result, wanted)
        return result

    def batches(self, size: int, rng: np.random.Generator | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield all rows once, in the file's order or mixed; the next rows are read while a batch is used.

        To mix, chunks are drawn at random, as many as fill a buffer of 32 MiB,
        and the rows of the buffer are dealt out at random.

        Args:
            size: rows of a batch; only the last may have fewer.
            rng: mixes; None = the file's order.

        Returns:
            (float32 (n, D), int64 (n,)): features, and which rows they are.

        Raises:
            StoreError: a row is damaged.
        """
        total, step = self.blocks.shape[0], self.blocks.step
        chunks = np.arange(-(-total // step))
        if rng is not None:
            rng.shuffle(chunks)
        held = max(1, _BUFFER_BYTES // (4 * self.blocks.shape[1] * step), -(-size // step))

        def read(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            rows = (np.sort(some)[:, None] * step + np.arange(step)).reshape(-1)
            rows = rows[rows < total]
            buffer = np.empty((size - 1 + len(rows), self.blocks.shape[1]), np.float32)  # room for what is left of the last one
            self._load_into(buffer[size - 1 :], rows)
            return buffer, rows

        left = np.empty((0, self.blocks.shape[1]), np.float32), np.empty(0, np.int64)
        with ThreadPoolExecutor(1, thread_name_prefix="ffe-batches") as pool:
            following = pool.submit(read, chunks[:held])
            for start in range(0, len(chunks), held):
                buffer, rows = following.result()
                following = pool.submit(read, chunks[start + held : start + 2 * held])
                begin = size - 1 - len(left[1])
                buffer[begin : size - 1] = left[0]
                window, numbers = buffer[begin:], np.concatenate([left[1], rows])
                if rng is not None:
                    mixed = rng.permutation(len(numbers))
                    numbers = numbers[mixed]
                last = start + held >= len(chunks)
                whole = len(numbers) if last else len(numbers) - len(numbers) % size
                for i in range(0, whole, size):
                    some = slice(i, min(i + size, whole))
                    yield window[some] if rng is None else window[mixed[some]], numbers[some]
                rest = slice(whole, None)
                left = window[rest] if rng is None else window[mixed[rest]], numbers[rest]

    def _load_into(self, result: np.ndarray, rows: np.ndarray) -> None:
        jobs = self._jobs(rows)

        def work(places: np.ndarray) -> None:
            first, last = int(rows[places[0]]), int(rows[places[-1]])
            if _consecutive(rows[places]) and _consecutive(places):  # the rows stand in the result as in the file
                self._fill(first, result[places[0] : places[-1] + 1])
                return
            part = np.empty((last - first + 1, result.shape[1]), np.float32)
            self._fill(first, part)
            result[places] = part[rows[places] - first]

        if result.nbytes < _WORTH_THREADS:
            for places in jobs:
                work(places)
            return
        with ThreadPoolExecutor(min(_MOST_THREADS, cores()), thread_name_prefix="ffe-rows") as pool:
            for _ in pool.map(work, jobs):
                pass

    def _jobs(self, rows: np.ndarray) -> list[np.ndarray]:
        """Part wanted rows into reads of neighbours: each is int64 (m,), places in ``rows``, ascending by row."""
        if not len(rows):
            return []
        order = np.argsort(rows, kind="stable")
        ordered, step = rows[order], self.blocks.step
        piece = max(1, _PIECE_BYTES // (4 * self.blocks.shape[1]) // step) * step
        apart = np.diff(ordered // piece) > 0
        apart |= np.diff(ordered // step) > 0 if self.blocks.whole_chunks else np.diff(ordered) > 1
        return np.split(order, np.flatnonzero(apart) + 1)

    def _fill(self, first: int, out: np.ndarray) -> None:
        """Read the rows from ``first`` on, chunk by chunk, so that they are checked while a core still has them at hand."""
        step, done = self.blocks.step, 0
        while done < len(out):
            count = min(step - (first + done) % step, len(out) - done)
            self._fill_chunk(first + done, out[done : done + count])
            done += count

    def _fill_chunk(self, first: int, out: np.ndarray) -> None:
        block = out if out.dtype == self.blocks.dtype else np.empty(out.shape, self.blocks.dtype)
        try:
            self.blocks.read(first, block)
        except UNREADABLE as error:
            raise self._damaged(first) from error
        if self._crc32 is not None:
            wrong = row_checksums(block) != self._crc32[first : first + len(block)]
            if wrong.any():
                raise self._damaged(first + int(wrong.argmax()))
        if block is not out:
            out[:] = block

    def _damaged(self, row: int) -> StoreError:
        return StoreError(
            f"The features of '{self._names[row]}', row {row} of '{self._path}', are damaged; "
            f"'ffe verify {self._path} --repair' makes them again."
        )


def _consecutive(numbers: np.ndarray) -> bool:
    return bool((np.diff(numbers) == 1).all())
