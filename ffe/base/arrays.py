"""Large arrays: in memory or, where they do not fit, on the disk."""

from __future__ import annotations

import errno
import io
import logging
import math
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from ffe.base.system import DISK_IS_FULL, free_memory, reserve
from ffe.base.text import bytes_text
from ffe.errors import DiskFullError, SpecError

log = logging.getLogger("ffe")

_SHARE_OF_MEMORY = 0.5
_BLOCK_VALUES = 1 << 22
_NO_ROOM = {*DISK_IS_FULL, errno.EFBIG, errno.ENOENT}  # Python finds no folder where not even a few bytes fit
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class RowSource(Protocol):
    """Rows float32 (N, D), in an array or elsewhere."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows, and how many features."""
        ...

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        """Return rows int64 (n,) as float32 (n, D)."""
        ...


def fits_in_memory(size: int) -> bool:
    """Return whether so many bytes are at most half of the free memory."""
    return not size or size <= _SHARE_OF_MEMORY * free_memory()


def check_fits(size: int, what: str, instead: str) -> None:
    """Raise a SpecError where ``what`` (with a capital) takes more memory than is free: ``size`` bytes at the least."""
    free = free_memory()
    if size > free:
        raise SpecError(f"{what} takes at least {bytes_text(size)} of memory, and {bytes_text(free)} are free; {instead}.")


def empty_array(shape: Sequence[int], dtype: type[np.generic] = np.float32, what: str = "features") -> np.ndarray:
    """Return an array to be filled; ``what`` it holds is in the plural. A DiskFullError says that there is no room.

    If it would take more than half of the free memory it is a memory map of a temporary file, which goes when the array does.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if fits_in_memory(size):
        return np.empty(shape, dtype)
    folder: Path | None = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"ffe-{what}-"))
        with (folder / what).open("wb") as file:
            file.truncate(size)
        reserve(folder / what, size)
    except OSError as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if error.errno not in _NO_ROOM:
            raise
        where = "no temporary folder has" if folder is None else f"the temporary folder '{folder.parent}' has not"
        raise DiskFullError(
            f"The {what} take {bytes_text(size)}, more than half of the free memory, and {where} so much room; "
            "name a folder on another disk in the environment variable TMPDIR."
        ) from error
    log.info("the %s take %s, more than half of the free memory, so they are kept in '%s'", what, bytes_text(size), folder)
    array = np.memmap(folder / what, dtype, "r+", shape=tuple(shape))
    # the map itself is what every view of the array holds on to
    weakref.finalize(array._mmap, shutil.rmtree, folder, ignore_errors=True)  # type: ignore[attr-defined]
    return array


def blocks_of_rows(source: RowSource, size: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (which rows, float32 (n, D) of them) of all rows in order, the next read meanwhile.

    A block has up to ``size`` rows; None = as many as make 16 MiB.
    """
    count, dims = source.shape
    step = size or max(1, _BLOCK_VALUES // dims)
    places = [slice(start, min(start + step, count)) for start in range(0, count, step)]
    with ThreadPoolExecutor(1, thread_name_prefix="ffe-blocks") as pool:
        ahead = None
        for i, place in enumerate(places):
            block = source[np.arange(place.start, place.stop)] if ahead is None else ahead.result()
            more = places[i + 1 : i + 2]
            ahead = pool.submit(source.__getitem__, np.arange(more[0].start, more[0].stop)) if more else None
            yield place, block


def take_rows(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return some rows of float32 (N, d), int64 (n,) -> float32 (n, d); as it is where they are all of them, in order."""
    if len(rows) == len(x) and np.array_equal(rows, np.arange(len(x))):
        return x
    result = empty_array((len(rows), x.shape[1]))
    step = max(1, _BLOCK_VALUES // x.shape[1])
    for start in range(0, len(rows), step):
        result[start : start + step] = x[rows[start : start + step]]
    return result


def read_npz(data: bytes) -> dict[str, np.ndarray]:
    """Read an ``.npz`` archive of plain numbers, as ``np.savez`` writes it; a ValueError says that it is anything else."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if member.compress_type != zipfile.ZIP_STORED or name in arrays:
                raise ValueError(f"'{name}' is compressed, or is in it twice")
            file = io.BytesIO(content := archive.read(member))
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


_HALF_TO_SINGLE = np.float32(2.0**112)  # between the biases of the two exponents
_SMALLEST = np.full(1, np.float32(2.0**-136))  # where the bits of the least half number above 0 come to lie
_BEYOND = np.float32(65_536)  # where infinity and NaN come to lie, above the largest half number


def as_float32(values: np.ndarray) -> np.ndarray:
    """Return an array as float32, to the bit what NumPy makes of it; float16 about twenty times as fast.

    The bits of a half number are those of a single one after a shift, but for the bias of the exponent, which a product makes
    good. It is left to NumPy where there are infinities or NaN, and where a thread takes the smallest numbers for 0.
    """
    if values.dtype != np.float16 or (_SMALLEST * _HALF_TO_SINGLE)[0] != np.float32(2.0**-24):
        return values.astype(np.float32, copy=False)
    result = np.empty(values.shape, np.float32)
    bits = result.view(np.int32)
    bits[...] = values.view(np.int16)  # the sign goes on to the left
    bits <<= 13
    bits &= np.int32(-0x7000_2000)  # the sign, and 15 bits from the 13th on
    result *= _HALF_TO_SINGLE
    if result.size and max(result.max(), -result.min()) >= _BEYOND:
        return values.astype(np.float32)
    return result
