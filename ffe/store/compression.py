"""Lossless filters that the features of a file may stand behind; plain ones, the default, are read many times faster.

None shuffles the bytes first: that tears the runs of zeros behind ReLU apart; see ``tests/benchmarks/bench_store.py``.
"""

from __future__ import annotations

import contextlib
import importlib
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np

from ffe.errors import SpecError, StoreError, missing
from ffe.specs import Compression

_zlib: Any = zlib
with contextlib.suppress(ImportError):  # several times as fast, the same format; not for every processor
    _zlib = importlib.import_module("isal.isal_zlib")

GZIP = h5py.h5z.FILTER_DEFLATE
_GZIP_LEVEL = 1
_BLOSC = 32001  # HDF5's number for the filter; https://github.com/HDFGroup/hdf5_plugins
_BLOSC_ZSTD = (0, 0, 0, 0, 1, 0, 5)  # four fields that the filter fills in, level 1, no shuffle, zstd

_FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "lzf": {"compression": "lzf"},
    "gzip": {"compression": "gzip", "compression_opts": _GZIP_LEVEL},
    "zstd": {"compression": _BLOSC, "compression_opts": _BLOSC_ZSTD},
}
_NAMES = {h5py.h5z.FILTER_LZF: "lzf", GZIP: "gzip", _BLOSC: "zstd"}


def filter_options(compress: Compression) -> dict[str, Any]:
    """Return what ``create_dataset`` needs for a compression, or raise a SpecError (unknown) or StoreError (not installed)."""
    if compress not in get_args(Compression):
        raise SpecError(f"compress is {compress!r}, but must be one of {', '.join(get_args(Compression))}.")
    if compress == "zstd" and not _has(_BLOSC):
        raise StoreError(missing("The compression zstd", "hdf5plugin", instead="use --compress gzip"))
    return _FILTERS[compress]


def compression_of(dataset: h5py.Dataset) -> str:
    """Return ``none``, ``lzf``, ``gzip``, ``zstd``, or ``filter N`` for one that ffe does not write."""
    names = [_NAMES.get(number, f"filter {number}") for number in filters_of(dataset)]
    return names[-1] if names else "none"


def deflate(block: np.ndarray) -> bytes:
    """Compress a chunk as HDF5's filter gzip does."""
    return bytes(_zlib.compress(block.data, _GZIP_LEVEL))


def inflate(packed: memoryview, size: int) -> bytes:
    """Return the ``size`` bytes of a chunk behind gzip; an OSError says that it is damaged."""
    stream = _zlib.decompressobj()
    try:
        data = stream.decompress(packed, size + 1)
    except (zlib.error, _zlib.error) as error:
        raise OSError(f"a chunk cannot be inflated ({error})") from error
    if len(data) != size or not stream.eof:
        raise OSError("a chunk is cut off")
    return bytes(data)


crc32: Callable[[np.ndarray], int] = _zlib.crc32  # of the bytes of an array in C order


def compression_choice(found: Collection[str]) -> Compression:
    """Return how to compress what comes from files of these compressions: as they are, if they agree on one that ffe writes."""
    (only, *others) = found
    return only if not others and only in get_args(Compression) else "none"  # type: ignore[return-value]


def check_readable(dataset: h5py.Dataset, path: Path) -> None:
    """Make sure that the features stand behind no filter that is not installed; a StoreError names it."""
    for number in filters_of(dataset):
        if not _has(number):
            raise StoreError(missing(f"The compression {_NAMES.get(number, f'filter {number}')} of '{path}'", "hdf5plugin"))


def filters_of(dataset: h5py.Dataset) -> list[int]:
    """Return HDF5's numbers of the filters that a dataset stands behind."""
    properties = dataset.id.get_create_plist()
    return [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]


def _has(number: int) -> bool:
    """Return whether HDF5 has a filter; importing hdf5plugin gives it more of them."""
    if h5py.h5z.filter_avail(number):
        return True
    try:
        importlib.import_module("hdf5plugin")
    except ImportError:
        return False
    return bool(h5py.h5z.filter_avail(number))
