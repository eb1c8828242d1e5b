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
from ffe.specs import Compression, ExtractSpec, ViewsSpec
from ffe.store import layout
from ffe.store.checksums import read_tables, row_checksums, tables_digest
from ffe.store.compression import deflate, filter_options
from ffe.store.journal import sync, sync_folder
from ffe.store.layout import Row, Skipped
from ffe.store.room import file_bytes, model_bytes, reserve, text_bytes
from ffe.store.virtual import Part, create_virtual, parts_text


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
    compress: Compression = "none",
    sources: Sequence[str] = (),
    recorded: Callable[[Row], int | None] = lambda row: None,
    parts: Sequence[Part] = (),
    views: ViewsSpec | None = None,
) -> None:
    """Write a feature file beside its final place, sync it, and rename it.

    Readers see the old file or the new one, never a half. Memory holds one
    chunk of features, whatever the number of rows.

    Args:
        path: the feature file; replaced if it exists.
        spec: what made the features.
        grid: (h, w, c) before flattening.
        class_names: in the order of the labels.
        rows: in any order; they are stored sorted by the digest of their path,
            unless there are parts: then as they are given.
        features: gives the features (h * w * c,) of a row.
        skipped: files that gave no row.
        judged_by: the program that found so.
        source: where the images came from, for people.
        quantized: the int8 model that made the features, where there is one.
        compress: how the features are compressed; nothing is lost by it.
        sources: the folders that the paths are relative to, where they are several.
        recorded: gives the checksum of a row whose features are known to differ
            from it, so that they do not pass for sound; None for all others.
        parts: the files that hold the features, for a virtual file; all checksums are then recorded ones.
        views: what the rows of views are; None = there are none.

    Raises:
        StoreError: the package for a compression is not installed.
        OSError: the file cannot be written; ENOSPC before HDF5 has written a byte.
    """
    options = filter_options(compress)
    if not parts:
        rows = sorted(rows, key=lambda row: (row_key(row.path), row.view))
    dims = grid[0] * grid[1] * grid[2]
    dtype = np.dtype(spec.dtype)
    step = layout.chunk_rows(len(rows), dims, dtype.itemsize)
    path = Path(os.path.realpath(path))  # a link stays one, and its target is replaced
    temporary = path.with_name(f"{path.name}.tmp")  # one writer at a time: the journal holds a lock
    width = 0 if parts else dims
    size = file_bytes(len(rows), width, dtype.itemsize, text=text_bytes(rows, skipped), other=model_bytes(quantized))
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
            if sources:
                file.attrs["sources"] = json.dumps(list(sources), ensure_ascii=False)
            if views is not None:
                file.attrs["views"] = canonical_json(views.to_json()).decode()
            crc32 = np.asarray([recorded(row) or 0 for row in rows], np.uint32)
            if parts:
                file.attrs["parts"] = parts_text(parts)
                create_virtual(file, parts, dims, dtype)
            else:
                shape, chunks = (len(rows), dims), (step, dims)
                data = file.create_dataset(layout.FEATURES, shape, dtype, chunks=chunks, fillvalue=np.nan, **options)
                for start in range(0, len(rows), step):
                    some = rows[start : start + step]
                    block = np.full((step, dims), np.nan, dtype) if len(some) < step else np.empty((step, dims), dtype)
                    np.stack([features(row) for row in some], out=block[: len(some)])
                    believed = [recorded(row) is None for row in some]
                    np.copyto(crc32[start : start + step], row_checksums(block[: len(some)]), where=believed)
                    if compress == "none":
                        data.id.write_direct_chunk((start, 0), block.data)  # as it is: HDF5 would copy it once more
                    elif compress == "gzip":
                        data.id.write_direct_chunk((start, 0), deflate(block))  # several times as fast as HDF5's own
                    else:
                        data[start : start + len(some)] = block[: len(some)]
            file[layout.DATA_LINK] = h5py.SoftLink(f"/{layout.FEATURES}")
            file[layout.LABELS] = np.asarray([row.label for row in rows], np.int64)
            file[layout.VIEW] = np.asarray([row.view for row in rows], np.int64)
            file[layout.STAT] = np.asarray([row.stat for row in rows], np.int64).reshape(-1, 2)
            file[layout.PHASH] = np.asarray([row.phash for row in rows], np.uint64)
            for name in (layout.PATHS, layout.SHA256, layout.SPLIT, layout.GROUP):
                attribute = {layout.PATHS: "path"}.get(name, name)
                file[name] = layout.text_column(getattr(row, attribute) for row in rows)
            file[layout.CRC32] = crc32
            file[layout.SKIPPED] = layout.skipped_table(skipped)
            file[layout.SKIPPED_STAT] = np.asarray([s.stat for s in skipped], np.int64).reshape(-1, 2)
            if quantized is not None:
                untimed = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
                untimed.set_obj_track_times(False)
                model = h5py.Group(h5py.h5g.create(file.id, layout.BACKBONE.encode(), gcpl=untimed))
                model["graph"] = np.frombuffer(quantized.xml, np.uint8)
                model["weights"] = quantized.weights
                model.attrs["record"] = canonical_json(quantized.record).decode()
            file.attrs["tables_sha256"] = tables_digest(file, read_tables(file))
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
