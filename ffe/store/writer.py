"""Rows -> a finished feature file, put in place in one step."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np

from ffe._version import __version__
from ffe.ir import IrModel
from ffe.keys import bytes_digest, canonical_json, spec_digest
from ffe.specs import ExtractSpec
from ffe.store import layout
from ffe.store.journal import sync, sync_folder
from ffe.store.layout import Row, Skipped
from ffe.store.room import file_bytes, model_bytes, reserve, text_bytes


def write_store(
    path: Path,
    *,
    spec: ExtractSpec,
    grid: tuple[int, int, int],
    class_names: Sequence[str],
    rows: Sequence[Row],
    features: Callable[[Row], np.ndarray],
    skipped: Sequence[Skipped] = (),
    judged_by: str = "",
    source: str = "",
    quantized: IrModel | None = None,
) -> None:
    """Write a feature file beside its final place, sync it, and rename it.

    Readers see the old file or the new one, never a half. Memory holds one
    chunk of features, whatever the number of rows.

    Args:
        path: the feature file; replaced if it exists.
        spec: what made the features.
        grid: (h, w, c) before flattening.
        class_names: in the order of the labels.
        rows: in any order; they are stored sorted by the digest of their path.
        features: gives the features (h * w * c,) of a row.
        skipped: files that gave no row.
        judged_by: the program that found so.
        source: where the images came from, for people.
        quantized: the int8 model that made the features, where there is one.

    Raises:
        OSError: the file cannot be written; ENOSPC before HDF5 has written a byte.
    """
    rows = sorted(rows, key=lambda row: (row_key(row.path), row.view))
    dims = grid[0] * grid[1] * grid[2]
    dtype = np.dtype(spec.dtype)
    step = layout.chunk_rows(len(rows), dims, dtype.itemsize)
    path = Path(os.path.realpath(path))  # a link stays one, and its target is replaced
    temporary = path.with_name(f"{path.name}.tmp")  # one writer at a time: the journal holds a lock
    size = file_bytes(len(rows), dims, dtype.itemsize, text=text_bytes(rows, skipped), other=model_bytes(quantized))
    try:
        temporary.touch()
        reserve(temporary, size)  # before HDF5 comes in, which lets go of it, and after
        with _new_file(temporary) as file:
            reserve(temporary, size)
            file.attrs["ffe_schema"] = layout.SCHEMA
            file.attrs["ffe_version"] = __version__
            file.attrs["spec"] = canonical_json(spec.to_json()).decode()
            file.attrs["spec_digest"] = spec_digest(spec)
            file.attrs["class_names"] = json.dumps(list(class_names), ensure_ascii=False)
            file.attrs["grid"] = np.asarray(grid, np.int64)
            file.attrs["source"] = source
            file.attrs["judged_by"] = judged_by
            data = file.create_dataset(layout.FEATURES, (len(rows), dims), dtype, chunks=(step, dims), fillvalue=np.nan)
            for start in range(0, len(rows), step):
                some = rows[start : start + step]
                block = np.full((step, dims), np.nan, dtype) if len(some) < step else np.empty((step, dims), dtype)
                np.stack([features(row) for row in some], out=block[: len(some)])
                data.id.write_direct_chunk((start, 0), block.data)  # as it is: HDF5 would copy it once more
            file[layout.DATA_LINK] = h5py.SoftLink(f"/{layout.FEATURES}")
            file[layout.LABELS] = np.asarray([row.label for row in rows], np.int64)
            file[layout.VIEW] = np.asarray([row.view for row in rows], np.int64)
            file[layout.STAT] = np.asarray([row.stat for row in rows], np.int64).reshape(-1, 2)
            file[layout.PHASH] = np.asarray([row.phash for row in rows], np.uint64)
            for name in (layout.PATHS, layout.SHA256, layout.SPLIT, layout.GROUP):
                attribute = {layout.PATHS: "path"}.get(name, name)
                values = [getattr(row, attribute) for row in rows]
                file.create_dataset(name, (len(rows),), layout.TEXT, data=values)
            table = np.asarray([(s.path, s.reason, s.message) for s in skipped], layout.SKIPPED_DTYPE)
            file.create_dataset(layout.SKIPPED, data=table, dtype=layout.SKIPPED_DTYPE)
            file[layout.SKIPPED_STAT] = np.asarray([s.stat for s in skipped], np.int64).reshape(-1, 2)
            if quantized is not None:
                untimed = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
                untimed.set_obj_track_times(False)
                model = h5py.Group(h5py.h5g.create(file.id, layout.BACKBONE.encode(), gcpl=untimed))
                model["graph"] = np.frombuffer(quantized.xml, np.uint8)
                model["weights"] = quantized.weights
                model.attrs["record"] = canonical_json(quantized.record).decode()
        with temporary.open("rb+") as written:
            sync(written.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _new_file(path: Path) -> h5py.File:
    """Open an empty HDF5 file that keeps no time stamps: equal content, equal bytes."""
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_cache(0, 521, 0, 0.75)  # whole chunks are written once, so caching them is a copy too many
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    return h5py.File(h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, creation, access))


def row_key(path: str) -> str:
    """Return what rows are sorted by: the digest of the path."""
    return bytes_digest(path.encode())
