"""Virtual feature files: small columns of their own, and features that lie in other files, their parts."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from ffe.base.hdf5_checks import read_attribute
from ffe.store import schema


@dataclass(frozen=True)
class Part:
    """A file that holds features of a virtual one."""

    file: str  # relative to the folder of the virtual file, with ``/``
    # rows, tables_sha256: what it said of itself when it was packed; the digest binds its features, too
    rows: int
    tables_sha256: str
    runs: tuple[tuple[int, int], ...]  # (first row, how many) of what is taken from it, in order


def read_parts(file: h5py.File) -> list[Part]:
    """Return the parts that a virtual file records; none for another file, and a ValueError where its dataset says otherwise."""
    if "parts" not in file.attrs:
        return []
    parts = [Part(**{**value, "runs": tuple(map(tuple, value["runs"]))}) for value in json.loads(read_attribute(file, "parts"))]
    shown = [(one.file_name, _bounds(one.src_space), _bounds(one.vspace)) for one in file[schema.FEATURES].virtual_sources()]
    recorded = [(_name(part), (first, first + n - 1), (start, start + n - 1)) for part, first, n, start in _mapping(parts)]
    if shown != recorded:
        raise ValueError("its virtual dataset and its parts contradict each other")
    return parts


def create_virtual(file: h5py.File, parts: Sequence[Part], dims: int, dtype: np.dtype) -> None:
    """Create the features of a virtual file."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.VIRTUAL)
    creation.set_fill_value(np.asarray(np.nan, dtype))
    creation.set_obj_track_times(False)  # which h5py's own way does not ask for
    space = h5py.h5s.create_simple((sum(count for part in parts for _, count in part.runs), dims))
    for part, first, count, start in _mapping(parts):
        shown, source = space.copy(), h5py.h5s.create_simple((part.rows, dims))
        shown.select_hyperslab((start, 0), (count, dims))
        source.select_hyperslab((first, 0), (count, dims))
        creation.set_virtual(shown, os.fsencode(_name(part)), schema.FEATURES.encode(), source)
    h5py.h5d.create(file.id, schema.FEATURES.encode(), h5py.h5t.py_create(dtype), space, creation)


def _mapping(parts: Sequence[Part]) -> list[tuple[Part, int, int, int]]:
    """Return (part, first row in it, how many, first row in the virtual file) of all runs."""
    runs = [(part, first, count) for part in parts for first, count in part.runs]
    starts = itertools.accumulate((count for _, _, count in runs), initial=0)
    return [(*run, start) for run, start in zip(runs, starts, strict=False)]


def _name(part: Part) -> str:
    return part.file.replace("%", "%%")  # HDF5 takes % for a pattern


def _bounds(space: h5py.h5s.SpaceID) -> tuple[int, int]:
    """Return the first and the last row of a selection."""
    first, last = space.get_select_bounds()
    return int(first[0]), int(last[0])
