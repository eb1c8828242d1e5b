"""Large arrays: in memory or, where they do not fit, on the disk."""

from __future__ import annotations

import io
import logging
import math
import shutil
import tempfile
import weakref
import zipfile
from pathlib import Path

import numpy as np

from ffe.machine import free_memory

log = logging.getLogger("ffe")

_SHARE_OF_MEMORY = 0.5
_BLOCK_VALUES = 1 << 22
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def fits_in_memory(size: int) -> bool:
    """Return whether so many bytes are at most half of the free memory."""
    return not size or size <= _SHARE_OF_MEMORY * free_memory()


def empty_rows(rows: int, dims: int) -> np.ndarray:
    """Return an array to be filled: float32 (rows, dims).

    If it would take more than half of the free memory it is a memory map of a
    temporary file, which goes when the array does.
    """
    size = 4 * rows * dims
    if fits_in_memory(size):
        return np.empty((rows, dims), np.float32)
    folder = Path(tempfile.mkdtemp(prefix="ffe-rows-"))
    log.info("the features take %d MiB, more than half of the free memory, so they are kept in '%s'", size >> 20, folder)
    array = np.memmap(folder / "features", np.float32, "w+", shape=(rows, dims))
    # the map itself is what every view of the array holds on to
    weakref.finalize(array._mmap, shutil.rmtree, folder, ignore_errors=True)  # type: ignore[attr-defined]
    return array


def take_rows(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return some rows of float32 (N, d), int64 (n,) -> float32 (n, d); as it is where they are all of them, in order."""
    if len(rows) == len(x) and np.array_equal(rows, np.arange(len(x))):
        return x
    result = empty_rows(len(rows), x.shape[1])
    step = max(1, _BLOCK_VALUES // x.shape[1])
    for start in range(0, len(rows), step):
        result[start : start + step] = x[rows[start : start + step]]
    return result


def read_npz(data: bytes) -> dict[str, np.ndarray]:
    """Read an ``.npz`` archive of plain numbers, as ``np.savez`` writes it: no objects, nothing compressed.

    Raises:
        ValueError: it is damaged, or holds something else, or claims more than it holds.
    """
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if member.compress_type != zipfile.ZIP_STORED or name in arrays:
                raise ValueError(f"'{name}' is compressed, or stands in it twice")
            content = archive.read(member)
            file = io.BytesIO(content)
            read_header = _HEADERS.get(np.lib.format.read_magic(file))
            if read_header is None:
                raise ValueError(f"'{name}' has a header of a later NumPy")
            shape, by_column, dtype = read_header(file)
            if dtype.hasobject or dtype.kind not in "biuf":
                raise ValueError(f"'{name}' holds no plain numbers; objects are never unpickled")
            if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
                raise ValueError(f"'{name}' claims {math.prod(shape):,} values, which it does not hold")
            values = np.frombuffer(content, dtype, offset=file.tell())
            arrays[name] = values.reshape(shape, order="F" if by_column else "C").copy()
    return arrays
