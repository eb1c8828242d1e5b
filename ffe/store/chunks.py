"""Rows of the features of one dataset, or of several files, as they are stored: where they lie, and how to get them quickly.

A read between multiples of ``step`` reads nothing twice; ``whole_chunks``: one row costs its whole chunk, which is compressed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import h5py
import numpy as np

from ffe.store.compression import GZIP, filters_of, inflate
from ffe.store.schema import chunk_rows

Target = np.ndarray | list[np.ndarray]

_MOST_PLACES = 1024  # that one system call takes


class DatasetBlocks:
    """The rows of one HDF5 dataset, read around HDF5, which would copy every chunk once more, where they are plain or gzip."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.shape: tuple[int, int] = dataset.shape
        self.dtype: np.dtype = dataset.dtype
        rows, dims = self.shape
        self.step: int = dataset.chunks[0] if dataset.chunks else chunk_rows(rows, dims, self.dtype.itemsize)
        self.whole_chunks: bool = dataset.id.get_create_plist().get_nfilters() > 0
        self._dataset = dataset
        self._row_bytes = dims * self.dtype.itemsize
        self._places = _places(dataset)
        self._descriptor = -1 if self._places is None else dataset.file.id.get_vfd_handle()
        self._last: tuple[int, np.ndarray] | None = None  # an inflated chunk, for rows that are read one by one

    def read(self, first: int, out: Target) -> None:
        """Fill ``out``, (n, D) or a list of n places (D,), in C order and of the stored type, with the rows from ``first`` on."""
        if not self._dataset:
            raise ValueError("the file is closed")
        if self._places is None:
            self._through_hdf5(first, out)
            return
        done = 0
        while done < len(out):
            chunk, inside = divmod(first + done, self.step)
            if self.whole_chunks:
                count = min(self.step - inside, len(out) - done)
                _put(self._inflated(chunk)[inside : inside + count], out[done : done + count])
            else:
                place = int(self._places[chunk, 0]) + inside * self._row_bytes
                count = self.step - inside
                while done + count < len(out) and self._places[chunk + 1, 0] == place + count * self._row_bytes:
                    chunk, count = chunk + 1, count + self.step  # the next chunk lies right behind
                count = min(count, len(out) - done)
                if isinstance(out, list):
                    count = min(count, _MOST_PLACES)
                    targets = [row.data for row in out[done : done + count]]
                    if os.preadv(self._descriptor, targets, place) != count * self._row_bytes:
                        self._through_hdf5(first + done, out[done : done + count])
                else:
                    _read_fully(self._descriptor, out[done : done + count].reshape(-1).view(np.uint8).data, place)
            done += count

    def _through_hdf5(self, first: int, out: Target) -> None:
        if isinstance(out, list):
            _put(self._dataset[first : first + len(out)], out)
        elif len(out):
            self._dataset.read_direct(out, np.s_[first : first + len(out)])

    def _inflated(self, chunk: int) -> np.ndarray:
        """Return the rows (step, D) of a chunk behind gzip."""
        assert self._places is not None
        last = self._last  # once: another thread may put its own there
        if last is None or last[0] != chunk:
            place, size = self._places[chunk].tolist()
            packed = memoryview(bytearray(size))
            _read_fully(self._descriptor, packed, place)
            rows = np.frombuffer(inflate(packed, self.step * self._row_bytes), self.dtype).reshape(self.step, -1)
            self._last = last = chunk, rows
        return last[1]


class JoinedBlocks:
    """Runs of rows of several files, one after the other: (rows, first of them, how many) each."""

    def __init__(self, runs: Sequence[tuple[Blocks, int, int]]) -> None:
        self._runs = runs
        self._starts = np.cumsum([0, *(count for _, _, count in runs)])
        first = runs[0][0]
        self.shape: tuple[int, int] = (int(self._starts[-1]), first.shape[1])
        self.dtype: np.dtype = first.dtype
        self.step: int = first.step
        self.whole_chunks: bool = any(blocks.whole_chunks for blocks, _, _ in runs)

    def read(self, first: int, out: Target) -> None:
        """Read rows; see ``DatasetBlocks.read``."""
        done = 0
        while done < len(out):
            run = int(np.searchsorted(self._starts, first + done, "right")) - 1
            blocks, start, count = self._runs[run]
            inside = first + done - int(self._starts[run])
            count = min(count - inside, len(out) - done)
            blocks.read(start + inside, out[done : done + count])
            done += count


Blocks = DatasetBlocks | JoinedBlocks


def _places(dataset: h5py.Dataset) -> np.ndarray | None:
    """Return where each chunk begins in the file and its bytes there, int64 (chunks, 2); None where HDF5 has to read them."""
    file, chunks, filters = dataset.file, dataset.chunks, filters_of(dataset)
    if chunks is None or chunks[1] != dataset.shape[1] or not dataset.dtype.isnative or filters not in ([], [GZIP]):
        return None
    if file.driver != "sec2" or file.userblock_size or not hasattr(os, "preadv"):
        return None
    size = chunks[0] * chunks[1] * dataset.dtype.itemsize
    places = np.full((-(-dataset.shape[0] // chunks[0]), 2), -1, np.int64)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        if chunk.byte_offset is not None and chunk.filter_mask == 0 and (filters or chunk.size == size):
            places[chunk.chunk_offset[0] // chunks[0]] = chunk.byte_offset, chunk.size

    try:
        dataset.id.chunk_iter(note)
    except (AttributeError, OSError, RuntimeError, IndexError):  # an older HDF5; or a damaged index, which HDF5 then meets again
        return None
    return places if (places >= 0).all() else None


def _put(rows: np.ndarray, out: Target) -> None:
    if not isinstance(out, list):
        out[:] = rows
        return
    for row, place in zip(rows, out, strict=True):
        place[:] = row


def _read_fully(descriptor: int, target: memoryview, place: int) -> None:
    while len(target):
        count = os.preadv(descriptor, [target], place)
        if not count:
            raise OSError("the file ends too early")
        target, place = target[count:], place + count
