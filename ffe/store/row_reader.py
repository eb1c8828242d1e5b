"""Stored rows -> arrays, each row held against its checksum: some of them, or all in batches, in memory that stays flat."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffe.base.arrays import as_float32
from ffe.base.system import cores
from ffe.errors import StoreError
from ffe.store.checksums import row_checksums
from ffe.store.chunks import Blocks, Target

UNREADABLE = (OSError, RuntimeError, ValueError)  # what HDF5 says of a damaged chunk
_PIECE_BYTES = 8 << 20  # little enough to be in a core's cache still when it is checked
_WORTH_THREADS = 16 << 20
_WORTH_SCATTERING = 16 << 10
_WORTH_SKIPPING = 64 << 10  # a shorter gap between wanted rows is read, too: that is quicker than one more read
_MOST_THREADS = 4
_WINDOW_BYTES = 16 << 20
_AHEAD = 2  # windows that are being read while one is used


@dataclass(frozen=True)
class RowReader:
    """Reads features of a file; a row that is damaged is a StoreError that names it."""

    blocks: Blocks
    crc32: np.ndarray | None  # uint32 (N,), which each row must have; None = they are not checked
    path: Path
    names: Sequence[str]  # of the rows

    def stored(self, first: int, count: int) -> np.ndarray:
        """Return rows (count, D) in the type that they are stored in."""
        block = np.empty((count, self.blocks.shape[1]), self.blocks.dtype)
        self._fill(first, block)
        return block

    def load(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return float32 (n, D) of the rows int64 (n,), in any order; None = all. What is no row is an IndexError."""
        wanted = np.arange(self.blocks.shape[0]) if rows is None else np.asarray(rows, np.int64)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < self.blocks.shape[0]:
            raise IndexError(f"'{self.path}' has the rows 0 to {self.blocks.shape[0] - 1}.")
        result = np.empty((len(wanted), self.blocks.shape[1]), np.float32)
        self.load_into(result, wanted, np.arange(len(wanted)), threads=cores())
        return result

    def load_into(self, result: np.ndarray, rows: np.ndarray, places: np.ndarray, *, threads: int) -> None:
        """Read rows int64 (n,), in any order, to places int64 (n,) in a result float32 (m, D); threads help with many."""
        jobs = self._jobs(rows)

        def work(job: np.ndarray) -> None:
            self._read(rows[job], result, places[job])

        if threads == 1 or 4 * len(rows) * result.shape[1] < _WORTH_THREADS:
            for job in jobs:
                work(job)
            return
        with ThreadPoolExecutor(min(threads, _MOST_THREADS), thread_name_prefix="ffe-rows") as pool:
            list(pool.map(work, jobs))  # raises what a job has raised

    def batches(self, size: int, rng: np.random.Generator | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield features float32 (n, D) and row numbers int64 (n,) of all rows once, n <= ``size``, the next read meanwhile.

        To mix, with ``rng``, chunks are drawn into a window of 16 MiB, and a place in it for each row. What fills no batch at
        its end is drawn again in the next.
        """
        (total, dims), step = self.blocks.shape, self.blocks.step
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
                reading = pool.submit(self.load_into, features, some, places[carried:], threads=1)
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

    def _jobs(self, rows: np.ndarray) -> list[np.ndarray]:
        """Part wanted rows into reads of neighbours: each is int64 (m,), indices into ``rows``, ascending by row."""
        if not len(rows):
            return []
        order = np.argsort(rows, kind="stable")
        ordered, step = rows[order], self.blocks.step
        piece = max(1, _PIECE_BYTES // (4 * self.blocks.shape[1]) // step) * step
        apart = np.diff(ordered // piece) > 0
        gap = max(1, _WORTH_SKIPPING // (self.blocks.dtype.itemsize * self.blocks.shape[1]))
        apart |= np.diff(ordered // step) > 0 if self.blocks.whole_chunks else np.diff(ordered) > gap
        return np.split(order, np.flatnonzero(apart) + 1)

    def _read(self, rows: np.ndarray, result: np.ndarray, places: np.ndarray) -> None:
        """Read some neighbours, ascending, to their places: right there if they can go there."""
        first = int(rows[0])
        if not _consecutive(rows):
            between = np.empty((int(rows[-1]) - first + 1, self.blocks.shape[1]), self.blocks.dtype)
            self._get(first, between)
            found = between[rows - first]
            self._check(rows, found)
            result[places] = as_float32(found)
        elif result.dtype != self.blocks.dtype:
            result[places] = as_float32(self.stored(first, len(rows)))
        elif _consecutive(places):
            self._fill(first, result[places[0] : places[-1] + 1])
        elif result[0].nbytes >= _WORTH_SCATTERING:
            self._fill(first, [result[place] for place in places])
        else:
            result[places] = self.stored(first, len(rows))

    def _fill(self, first: int, out: Target) -> None:
        self._get(first, out)
        self._check(slice(first, first + len(out)), out)

    def _get(self, first: int, out: Target) -> None:
        try:
            self.blocks.read(first, out)
        except UNREADABLE as error:
            raise self._damaged(first) from error

    def _check(self, rows: np.ndarray | slice, found: Target) -> None:
        """Hold rows against their checksums; those between them, that were read too, may be damaged."""
        if self.crc32 is None:
            return
        wrong = row_checksums(found) != self.crc32[rows]
        if wrong.any():
            raise self._damaged(int(np.arange(self.blocks.shape[0])[rows][int(wrong.argmax())]))

    def _damaged(self, row: int) -> StoreError:
        return StoreError(
            f"The features of '{self.names[row]}', row {row} of '{self.path}', are damaged; "
            f"'ffe verify {self.path} --repair' makes them again."
        )


def _consecutive(numbers: np.ndarray) -> bool:
    return bool((np.diff(numbers) == 1).all())
