"""HDF5 files as ffe makes them: equal content gives equal bytes, and plain features lie in them in one piece."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np

from ffe.base.system import reserve
from ffe.store import schema


def new_file(path: Path) -> h5py.File:
    """Open an empty HDF5 file that keeps no time stamps; what is there is lost."""
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    return h5py.File(h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, creation, _access()))


def open_existing(path: Path) -> h5py.File:
    """Open such a file to write more into it."""
    return h5py.File(h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDWR, _access()))


def create_plain(path: Path, shape: tuple[int, int], dtype: np.dtype, step: int, size: int) -> int:
    """Create a file of features (N, D) that have no values yet, in chunks of ``step`` rows; return where the first begins.

    HDF5 allocates all chunks at once, as one piece of the file; ``size`` bytes are reserved before it writes.
    """
    with new_file(path) as file:
        reserve(path, size)
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((step, shape[1]))
        creation.set_fill_value(np.asarray(np.nan, dtype))
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        creation.set_obj_track_times(False)
        space, kind = h5py.h5s.create_simple(shape), h5py.h5t.py_create(dtype)
        data = h5py.h5d.create(file.id, schema.FEATURES.encode(), kind, space, creation)
        return int(data.get_chunk_info_by_coord((0, 0)).byte_offset)


def _access() -> h5py.h5p.PropFAID:
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_cache(0, 521, 0, 0.75)  # whole chunks are written once, so caching them is a copy too many
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    return access
