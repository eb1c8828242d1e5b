"""Rows of the features of a file, as they are stored: where they lie, and how to get them quickly."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

import h5py
import numpy as np

from ffe.store.layout import chunk_rows


class Blocks(Protocol):
    """Stored rows.

    Attributes:
        shape: (N, D).
        dtype: float32 or float16.
        step: rows of a chunk; a read that begins and ends at its multiples reads nothing twice.
        whole_chunks: whether one row of a chunk costs the whole chunk: it is compressed.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    step: int
    whole_chunks: bool

    def read(self, first: int, out: np.ndarray) -> None:
        """Fill ``out`` (n, D), in C order and of the stored type, with the rows from ``first`` on.

        Raises:
            OSError, RuntimeError, ValueError: they cannot be read.
        """
        ...


class DatasetBlocks:
    """The rows of one HDF5 dataset; see ``Blocks``.

    HDF5 copies every chunk once on its way. Where the chunks are plain, and this
    process holds an ordinary descriptor of the file, they are read right into
    their place instead; in all other cases HDF5 reads them.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.shape: tuple[int, int] = dataset.shape
        self.dtype = dataset.dtype
        rows, dims = self.shape
        self.step = dataset.chunks[0] if dataset.chunks else chunk_rows(rows, dims, self.dtype.itemsize)
        self.whole_chunks = dataset.id.get_create_plist().get_nfilters() > 0
        self._dataset = dataset
        self._row_bytes = self.shape[1] * self.dtype.itemsize
        self._places = _places(dataset)

    def read(self, first: int, out: np.ndarray) -> None:
        """Read rows; see ``Blocks.read``."""
        if not self._dataset:
            raise ValueError("the file is closed")
        if self._places is None:
            if len(out):
                self._dataset.read_direct(out, np.s_[first : first + len(out)])
            return
        descriptor = self._dataset.file.id.get_vfd_handle()
        target = out.reshape(-1).view(np.uint8).data
        done = 0
        while done < len(out):
            chunk, inside = divmod(first + done, self.step)
            place = int(self._places[chunk]) + inside * self._row_bytes
            count = self.step - inside
            while done + count < len(out) and self._places[chunk + 1] == place + count * self._row_bytes:
                chunk, count = chunk + 1, count + self.step  # the next chunk lies right behind
            count = min(count, len(out) - done)
            _read_fully(descriptor, target[done * self._row_bytes : (done + count) * self._row_bytes], place)
            done += count


class JoinedBlocks:
    """Runs of rows of several files, one after the other; see ``Blocks``.

    Args:
        runs: (rows, first of them, how many) each.
    """

    def __init__(self, runs: Sequence[tuple[Blocks, int, int]]) -> None:
        self._runs = runs
        self._starts = np.cumsum([0, *(count for _, _, count in runs)])
        first = runs[0][0]
        self.shape = (int(self._starts[-1]), first.shape[1])
        self.dtype = first.dtype
        self.step = first.step
        self.whole_chunks = any(blocks.whole_chunks for blocks, _, _ in runs)

    def read(self, first: int, out: np.ndarray) -> None:
        """Read rows; see ``Blocks.read``."""
        done = 0
        while done < len(out):
            run = int(np.searchsorted(self._starts, first + done, "right")) - 1
            blocks, start, count = self._runs[run]
            inside = first + done - int(self._starts[run])
            count = min(count - inside, len(out) - done)
            blocks.read(start + inside, out[done : done + count])
            done += count


def _places(dataset: h5py.Dataset) -> np.ndarray | None:
    """Return where each chunk begins in the file, int64 (chunks,); None where HDF5 has to read them."""
    file, chunks = dataset.file, dataset.chunks
    plain = (
        chunks is not None
        and chunks[1] == dataset.shape[1]
        and dataset.id.get_create_plist().get_nfilters() == 0
        and dataset.dtype.isnative
    )
    if not plain or file.driver != "sec2" or file.userblock_size or not hasattr(os, "preadv"):
        return None
    size = chunks[0] * chunks[1] * dataset.dtype.itemsize
    places = np.full(-(-dataset.shape[0] // chunks[0]), -1, np.int64)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        if chunk.size == size and chunk.byte_offset is not None:
            places[chunk.chunk_offset[0] // chunks[0]] = chunk.byte_offset

    try:
        dataset.id.chunk_iter(note)
    except (AttributeError, OSError, RuntimeError, IndexError):  # an older HDF5; or a damaged index, which HDF5 then meets again
        return None
    return places if (places >= 0).all() else None


def _read_fully(descriptor: int, target: memoryview, place: int) -> None:
    while len(target):
        count = os.preadv(descriptor, [target], place)
        if not count:
            raise OSError("the file ends too early")
        target, place = target[count:], place + count
