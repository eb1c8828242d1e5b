"""Rows -> a finished feature file, put in place in one step."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ffe._version import __version__
from ffe.base.atomic import put_in_place
from ffe.base.columns import PIECE, zeros
from ffe.base.digests import canonical_json, path_digest
from ffe.base.feature_layout import FeatureLayout
from ffe.base.hdf5_checks import as_text
from ffe.base.openvino_ir import IrModel
from ffe.base.system import reserve
from ffe.specs import Compression, ExtractSpec, ViewsSpec, spec_digest
from ffe.store import schema
from ffe.store.checksums import row_checksums, tables_digest
from ffe.store.compression import compression_choice, deflate, filter_options
from ffe.store.disk_space import file_bytes, model_bytes, text_bytes
from ffe.store.hdf5_create import create_plain, new_file, open_existing
from ffe.store.journal import Draft
from ffe.store.journal_records import HEAD_BYTES
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row, Skipped
from ffe.store.virtual import Part, create_virtual

_NUMBERS = {schema.LABELS: "label", schema.VIEW: "view", schema.STAT: "stat", schema.PHASH: "phash"}  # names in a ``Row``
_TEXTS = {schema.PATHS: "path", schema.SHA256: "sha256", schema.SPLIT: "split", schema.GROUP: "group"}


def write_store(
    path: Path,
    *,
    spec: ExtractSpec,
    layout: FeatureLayout,
    class_names: Sequence[str],
    rows: Sequence[Row],
    features: Callable[[Row], np.ndarray],
    skipped: Sequence[Skipped] = (),
    judged_by: str = "",
    source: str = "",
    quantized: IrModel | None = None,
    compress: Compression = "none",
    sources: Sequence[str] = (),
    recorded: Callable[[Row], int | None] | None = None,
    parts: Sequence[Part] = (),
    views: ViewsSpec | None = None,
    draft: Draft | None = None,
) -> None:
    """Write a feature file beside its final place, sync it, and rename it: readers see the old file or the new one, never a half.

    Memory holds one chunk of features. Plain features are written around HDF5, which would copy them once more. What is not
    named here is as in ``FeatureStore``, whose ``made_views`` are the views.

    Args:
        rows: in any order; they are stored sorted by the digest of their path, unless there are parts: then as they are given.
        features: gives the features (D,) of a row.
        recorded: gives the checksum of a row whose features are known to differ from it, so that they do not pass for sound;
            None for all others.
        parts: the files that hold the features, for a virtual file; all checksums are then recorded ones.
        draft: a file that holds the plain features of these rows already, sorted; it becomes the feature file.

    Raises:
        StoreError: the package for a compression is not installed.
        OSError: the file cannot be written; ENOSPC before HDF5 has written a byte.
    """
    filter_options(compress)  # refuses what cannot be
    keys = ((path_digest(row.path), row.view) for row in rows)
    if not parts and any(after < before for before, after in itertools.pairwise(keys)):
        rows = sorted(rows, key=lambda row: (path_digest(row.path), row.view))
    dims = layout.dims
    dtype = np.dtype(spec.dtype)
    step = schema.chunk_rows(len(rows), dims, dtype.itemsize)
    path = Path(os.path.realpath(path))  # a link stays one, and its target is replaced
    made = temporary = path.with_name(f"{path.name}.tmp")  # one writer at a time: the journal holds a lock
    text, model = text_bytes(rows, skipped), model_bytes(quantized)
    size = file_bytes(len(rows), 0 if parts else dims, dtype.itemsize, text=text, other=model)
    plain = compress == "none" and not parts and bool(rows)
    data = _Features(rows, features, recorded, dims, dtype, step)
    try:
        temporary.touch()
        new = size if draft is None else file_bytes(0, 0, 1, text=0)
        reserve(temporary, new)  # before HDF5 comes in, which lets go of it, and after
        if plain:
            first = create_plain(temporary, (len(rows), dims), dtype, step, new)
            if draft is not None and first == HEAD_BYTES:
                made = draft.path
                data.complete(draft, temporary, first)
                temporary.unlink()
            else:
                reserve(temporary, size)
                data.write_plain(temporary, first)
        with open_existing(made) if plain else new_file(made) as file:
            reserve(made, size)
            attributes = {
                "ffe_schema": schema.schema_of(layout),
                "ffe_version": __version__,
                "spec": canonical_json(spec.to_json()).decode(),
                "spec_digest": spec_digest(spec),
                "class_names": _json(class_names),
                "grid": np.asarray(layout.to_json(), np.int64),
                "source": source,
                "judged_by": judged_by,
                "sources": _json(sources) if len(sources) > 1 else None,
                "views": None if views is None else canonical_json(views.to_json()).decode(),
                "parts": _json([asdict(part) for part in parts]) if parts else None,
            }
            for name, value in attributes.items():
                if value is not None:
                    file.attrs[name] = as_text(value) if isinstance(value, str) else value
            if parts:
                create_virtual(file, parts, dims, dtype)
            elif not plain:
                data.write_compressed(file, compress)
            file[schema.DATA_LINK] = h5py.SoftLink(f"/{schema.FEATURES}")
            for name, column in _columns(rows).items():
                file[name] = column
            file[schema.CRC32] = data.crc32
            file[schema.SKIPPED] = schema.skipped_table(skipped)
            file[schema.SKIPPED_STAT] = np.asarray([s.stat for s in skipped], np.int64).reshape(-1, 2)
            if quantized is not None:
                _write_model(file, quantized)
            written = {name: file[name] for name in schema.TABLES if name in file}
            file.attrs["tables_sha256"] = as_text(tables_digest(file, written))
        put_in_place(made, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_like(store: FeatureStore, path: Path, **changes: Any) -> None:
    """Write a feature file like an open one, compressed alike, but for changes to what ``write_store`` takes."""
    same = {name: getattr(store, name) for name in ("spec", "layout", "class_names", "skipped", "judged_by", "source", "sources")}
    same |= {"quantized": store.quantized(), "compress": compression_choice({store.compression}), "views": store.made_views}
    if "features" not in changes:
        place = {(row.path, row.view): i for i, row in enumerate(store.rows())}
        same["features"] = lambda row: store.raw_row(place[row.path, row.view])
    write_store(path, **{**same, **changes})


def _columns(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Return what rows say, as it is stored, by name."""
    widths = dict.fromkeys(_TEXTS, 1)
    for row in rows:
        for name, field in _TEXTS.items():
            widths[name] = max(widths[name], len(getattr(row, field).encode("utf-8", "replace")))
    shapes = dict.fromkeys(_NUMBERS, (len(rows),)) | {schema.STAT: (len(rows), 2)}
    columns = {name: zeros(shape, np.uint64 if name == schema.PHASH else np.int64) for name, shape in shapes.items()}
    columns |= {name: zeros((len(rows),), h5py.string_dtype("utf-8", width)) for name, width in widths.items()}
    for start in range(0, len(rows), PIECE):
        some = rows[start : start + PIECE]
        for name, field in _NUMBERS.items():
            columns[name][start : start + PIECE] = [getattr(row, field) for row in some]
        for name, field in _TEXTS.items():
            columns[name][start : start + PIECE] = [getattr(row, field).encode("utf-8", "replace") for row in some]
    return columns


def _write_model(file: h5py.File, model: IrModel) -> None:
    untimed = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    untimed.set_obj_track_times(False)
    group = h5py.Group(h5py.h5g.create(file.id, schema.BACKBONE.encode(), gcpl=untimed))
    group["graph"] = np.frombuffer(model.xml, np.uint8)
    group["weights"] = model.weights
    group.attrs["record"] = as_text(canonical_json(model.record).decode())


def _json(values: Sequence[Any]) -> str:
    return json.dumps(values, ensure_ascii=False)


@dataclass
class _Features:
    """The features of the rows of a file on their way into it, chunk by chunk; ``crc32`` of those written is uint32 (N,)."""

    rows: Sequence[Row]
    features: Callable[[Row], np.ndarray]
    recorded: Callable[[Row], int | None] | None
    dims: int
    dtype: np.dtype
    step: int

    def __post_init__(self) -> None:
        self._believed, self.crc32 = np.ones(len(self.rows), bool), zeros((len(self.rows),), np.uint32)
        if self.recorded is not None:
            for i, row in enumerate(self.rows):
                checksum = self.recorded(row)
                self._believed[i], self.crc32[i] = checksum is None, checksum or 0

    def _blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the first row and the features (step, D) of each chunk, NaN behind the last row."""
        for start in range(0, len(self.rows), self.step):
            some = self.rows[start : start + self.step]
            block = np.empty((self.step, self.dims), self.dtype)
            block[len(some) :] = np.nan
            np.stack([self.features(row) for row in some], out=block[: len(some)])
            end = start + len(some)
            np.copyto(self.crc32[start:end], row_checksums(block[: len(some)]), where=self._believed[start:end])
            yield start, block

    def write_plain(self, path: Path, first: int) -> None:
        """Write all chunks, one behind the other, from the byte ``first`` on."""
        with path.open("rb+") as file:
            file.seek(first)
            for _, block in self._blocks():
                file.write(block.data)

    def complete(self, draft: Draft, head: Path, first: int) -> None:
        """Put what ``create_plain`` has made before the rows of a draft, which begin at byte ``first``, and NaN behind them."""
        self.crc32 = draft.crc32
        with draft.path.open("rb+") as file, head.open("rb") as created:
            file.write(created.read(first))
            file.truncate(first + len(self.rows) * self.dims * self.dtype.itemsize)
            file.seek(0, os.SEEK_END)
            file.write(np.full((-len(self.rows) % self.step, self.dims), np.nan, self.dtype).data)

    def write_compressed(self, file: h5py.File, compress: Compression) -> None:
        """Write all chunks behind a filter."""
        shape, chunks = (len(self.rows), self.dims), (self.step, self.dims)
        options = filter_options(compress)
        data = file.create_dataset(schema.FEATURES, shape, self.dtype, chunks=chunks, fillvalue=np.nan, **options)
        for start, block in self._blocks():
            if compress == "gzip":
                data.id.write_direct_chunk((start, 0), deflate(block))  # several times as fast as HDF5's own
            else:
                count = min(self.step, shape[0] - start)
                data[start : start + count] = block[:count]


def in_row_order(records: Iterable[Any]) -> list[Any]:
    """Return the records of images, which have a ``path``, in the order of the rows of a feature file."""
    return sorted(records, key=lambda record: path_digest(record.path))
