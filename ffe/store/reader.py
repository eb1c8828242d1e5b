"""A finished feature file -> arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from ffe.base.columns import kept
from ffe.base.feature_layout import FeatureLayout
from ffe.base.file_access import check_kind, unopened
from ffe.base.file_stat import NO_STAMP
from ffe.base.hdf5_checks import check_attribute, check_contents, read_attribute
from ffe.base.openvino_ir import IrModel
from ffe.base.shard_names import made_again
from ffe.base.text import composed, relabelled
from ffe.errors import StoreError, StoreInUseError
from ffe.specs import ExtractSpec, ViewsSpec, spec_digest
from ffe.store import schema
from ffe.store.checksums import read_tables, tables_digest
from ffe.store.chunks import Blocks, DatasetBlocks, JoinedBlocks
from ffe.store.compression import check_readable, compression_of
from ffe.store.row_reader import RowReader
from ffe.store.schema import Row, Skipped, StoredTexts
from ffe.store.virtual import Part, read_parts

_CHUNK_CACHE_BYTES = 8 << 20  # for rows that are read one by one from compressed chunks

_NO_FEATURE_FILE = {
    "unnamed": "The name of the feature file is empty; give a feature file (is a variable unset?).",
    "folder": "'{path}' is a folder, not a feature file; make one with 'ffe extract {path} -o features.h5'.",
    "missing": "There is no feature file '{path}'; make one with 'ffe extract SOURCE -o {path}'.",
    "zip": "'{path}' is a model, not a feature file; give a file that 'ffe extract' wrote.",
    "other": "'{path}' is no feature file, or a damaged one; give a file that 'ffe extract' wrote.",
}


class FeatureStore:
    """Reads a feature file; the small columns at once, the features on demand.

    Args:
        path: a file that ``ffe extract`` wrote.
        verify: hold every row that is read against its checksum. It costs about
            a third of a second for each GB, and files before schema 3 have none.

    Attributes:
        path: the file.
        schema: number of its layout.
        spec, spec_digest: what made the features, and its cache key, 64 hexadecimal digits.
        class_names: the label i means class_names[i]; in the form NFC, in which names that look the same are equal.
        layout: how the features lie in a row.
        grid: (h, w, c) of a row before flattening, where it is one grid; None = tokens or several layers.
        source: where the images came from, for people.
        sources: the folders that ``paths`` are relative to, or the lists in them that name signed URLs; several in a packed file.
        labels: int64 (N,), -1 = unlabelled.
        paths, sha256, split: sequences of N strings, which are decoded when they are asked for.
        views: int64 (N,), 0 = the plain image.
        made_views: what the other rows are; None = there are no others.
        phash: uint64 (N,), perceptual hash of the decoded pixels, 0 = unknown.
        group: sequence of N names of what a split must not tear apart, empty = none.
        stat: int64 (N, 2), size and time of change of the image files, -1 = unknown; see ``ffe.base.file_stat``.
        tables_sha256: digest of all that the file says but for the features; None in files before schema 3.
        crc32: uint32 (N,), checksum of the stored bytes of each row; None in files before schema 3.
        parts: the files that hold the features of a virtual file; none elsewhere.
        skipped: the files that gave no row.
        judged_by: the program that found so; empty = unknown.

    Raises:
        StoreError: the file is missing, damaged, or was not written by ffe; or
            a part of a virtual file is missing or another one than before.
    """

    def __init__(self, path: str | os.PathLike[str], *, verify: bool = True) -> None:
        empty = "'{path}' is empty; " + made_again(path, "make it with 'ffe extract SOURCE -o {path} --overwrite'") + "."
        check_kind(path, "hdf5", {**_NO_FEATURE_FILE, "empty": empty}, StoreError, StoreInUseError)
        self.path = Path(path)
        self._again = made_again(path, "extract it again with --overwrite")
        self._file = self._opened()
        self.parts: tuple[FeatureStore, ...] = ()
        try:
            self._read()
            self._check()
            self._rows = RowReader(self._blocks(), self.crc32 if verify else None, self.path, self.paths)
        except StoreError:
            self.close()
            raise
        except Exception as error:  # h5py raises many kinds on damaged content
            self.close()
            raise StoreError(f"'{self.path}' is damaged ({' '.join(str(error).split())[:120]}); {self._again}.") from error

    def _opened(self) -> h5py.File:
        """Open the file; without a lock where the disk has none (HDF5 would refuse it, as some network disks do)."""
        try:
            try:
                return h5py.File(self.path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES)
            except OSError as error:
                if isinstance(error, BlockingIOError) or "lock" not in str(error):  # nor where it is open already without one
                    raise
                return h5py.File(self.path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES, locking=False)
        except BlockingIOError as error:
            raise StoreInUseError(
                f"Another program has '{self.path}' open to change it; close it there, and run this again."
            ) from error
        except OSError as error:
            if error.errno:
                raise StoreInUseError(unopened(self.path, error)) from error
            again = made_again(self.path, "if 'ffe extract' wrote it, make it again with --overwrite")
            raise StoreError(f"'{self.path}' is an HDF5 file that is cut off or damaged; {again}.") from error

    def _read(self) -> None:
        """Read all but the features, once it is known that reading does no harm."""
        file = self._file
        if "ffe_schema" not in file.attrs:
            raise StoreError(f"'{self.path}' was not written by ffe; make a feature file with 'ffe extract'.")
        check_attribute(file, "ffe_schema")
        self.schema = int(read_attribute(file, "ffe_schema"))
        varying = self.schema < schema.FIXED_TEXT_SINCE
        if self.schema not in schema.READABLE:
            raise StoreError(
                f"'{self.path}' has schema {self.schema}, but this version of ffe reads schema {schema.SCHEMA}; "
                f"install the version of ffe that wrote it, or {self._again}."
            )
        check_contents(
            file,
            (schema.FEATURES, *schema.TABLES, *schema.BACKBONE_PARTS),
            (*schema.ATTRIBUTES, "tables_sha256"),
            virtual={schema.FEATURES} if "parts" in file.attrs else (),
            varying=varying,
        )
        if schema.BACKBONE in file:
            check_attribute(file[schema.BACKBONE], "record", varying=varying)
        attrs = {name: read_attribute(file, name) for name in schema.ATTRIBUTES if name in file.attrs}
        sums = self.schema >= schema.CHECKSUMS_SINCE
        self.tables_sha256 = str(read_attribute(file, "tables_sha256")) if sums else None
        check_readable(self._features, self.path)
        tables = read_tables(file)
        if sums and tables_digest(file, tables) != self.tables_sha256:
            raise self._damaged("its tables are not those that were written")
        self.spec = ExtractSpec.from_json(json.loads(attrs["spec"]))
        self.spec_digest = str(attrs["spec_digest"])
        self.layout = FeatureLayout.from_json(attrs["grid"])
        self.grid = self.layout.grid
        self.source = str(attrs["source"])
        self.sources = _texts(json.loads(attrs["sources"])) if "sources" in attrs else (self.source,)
        self.judged_by = str(attrs.get("judged_by", ""))
        self.made_views = ViewsSpec.from_json(json.loads(attrs["views"])) if "views" in attrs else None
        self._read_labels(_texts(json.loads(attrs["class_names"])), tables[schema.LABELS])
        count = len(self.labels)
        self.views: np.ndarray = tables[schema.VIEW]
        self.paths, self.sha256, self.split = (StoredTexts(tables[name]) for name in (schema.PATHS, schema.SHA256, schema.SPLIT))
        phash = tables.get(schema.PHASH, np.zeros(count, np.uint64))
        self.phash: np.ndarray = phash.astype(np.uint64, casting="safe", copy=False)
        self.group = StoredTexts(tables.get(schema.GROUP, np.zeros(count, "S1")), composed)
        self.crc32: np.ndarray | None = tables[schema.CRC32] if sums else None
        self.stat = _stamps(tables, schema.STAT, count)
        skipped = tables[schema.SKIPPED].tolist()
        stats = _stamps(tables, schema.SKIPPED_STAT, len(skipped)).tolist()
        self.skipped = tuple(
            Skipped(path.decode(), reason.decode(), message.decode(), (size, changed))
            for (path, reason, message), (size, changed) in zip(skipped, stats, strict=True)
        )

    def _read_labels(self, spelt: tuple[str, ...], labels: np.ndarray) -> None:
        """Make one class of names that look the same; earlier files may have two."""
        self.class_names = tuple(dict.fromkeys(map(composed, spelt)))
        self.labels = labels
        if len(self.class_names) < len(spelt) and -1 <= labels.min(initial=-1) <= labels.max(initial=-1) < len(spelt):
            self.labels = np.asarray(relabelled(map(composed, spelt), self.class_names), np.int64)[labels]

    def _check(self) -> None:
        """Make sure that what was read fits together."""
        rows, dims = self._features.shape
        if dims != self.layout.dims or str(self._features.dtype) != self.spec.dtype:
            raise self._damaged("its features do not have the shape or type that its spec says")
        columns = (self.labels, self.views, self.paths, self.sha256, self.split, self.phash, self.group, self.stat)
        if {len(column) for column in columns} | ({rows} if self.crc32 is None else {len(self.crc32)}) != {rows}:
            raise self._damaged("its columns have different lengths")
        if rows and not -1 <= self.labels.min() <= self.labels.max() < max(len(self.class_names), 1):
            raise self._damaged("it holds labels that are no class")
        if rows and not 0 <= self.views.min() <= self.views.max() <= self._views_of_an_image:
            raise self._damaged("it holds views that it does not speak of")
        if spec_digest(self.spec) != self.spec_digest:
            raise self._damaged("its spec does not match its spec digest")

    def _damaged(self, what: str) -> StoreError:
        return StoreError(f"'{self.path}' is damaged: {what}; {self._again}.")

    def _blocks(self) -> Blocks:
        """Return where the features lie: here, or in the parts."""
        if "parts" not in self._file.attrs:
            return DatasetBlocks(self._features)
        runs = []
        for part in read_parts(self._file):
            store = self._open_part(part)
            self.parts = (*self.parts, store)
            runs += [(store.blocks, *run) for run in part.runs]
        return JoinedBlocks(runs)

    def _open_part(self, part: Part) -> _PartStore:
        path = Path(os.path.realpath(self.path)).parent / part.file
        wrong = f"'{self.path}' is virtual, and its part '{path}' is not"
        if not path.is_file():
            raise StoreError(f"{wrong} there; put it back, or make it again with 'ffe extract' or 'ffe pack'.")
        store = _PartStore(path, verify=False)
        if (len(store), store.tables_sha256) != (part.rows, part.tables_sha256):
            store.close()
            again = "put that back, or make it again with 'ffe extract' or 'ffe pack'"
            raise StoreError(f"{wrong} the file that was packed; {again}.")
        store.drop_columns()
        return store

    @property
    def _features(self) -> h5py.Dataset:
        return self._file[schema.FEATURES]

    @property
    def _views_of_an_image(self) -> int:
        return 0 if self.made_views is None else self.made_views.count

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def plain(self) -> np.ndarray:
        """The rows of the plain images, int64 (n,), ascending, read-only; all rows where there are no views."""
        return self._plain

    @cached_property
    def _plain(self) -> np.ndarray:
        rows = kept(np.flatnonzero(self.views == 0))
        rows.flags.writeable = False  # all that ask share it
        return rows

    def rows_of_views(self, images: np.ndarray) -> np.ndarray:
        """Return int64 (n, count): the row of each view of some images, given as int64 (n,); -1 where there is none."""
        found = np.full((len(images), self._views_of_an_image), -1, np.int64)
        place = {self.paths[row]: i for i, row in enumerate(images.tolist())}
        for row in np.flatnonzero(self.views > 0).tolist():
            if (i := place.get(self.paths[row])) is not None:
                found[i, self.views[row] - 1] = row
        return found

    @property
    def dims(self) -> int:
        """Features of one row."""
        return int(self._features.shape[1])

    def features(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return float32 (n, D) of rows (n,), in any order; None = all, in the file's order.

        Raises:
            StoreError: a row is damaged.
            IndexError: there is no such row.
        """
        return self._rows.load(rows)

    def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (float32 (n, D), int64 (n,)) from the first row to the last, n <= size."""
        for features, rows in self._rows.batches(size):
            yield features, self.labels[rows]

    def shuffled(self, batch: int = 32, *, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (float32 (n, D), int64 (n,)) of all rows once, mixed: one epoch of training, in memory that stays flat.

        Chunks are drawn at random into a window of 16 MiB, and rows at random from it. Views are rows like the others,
        and a label of -1 is none.

        Args:
            batch: rows of a batch; only the last may have fewer.
            seed: another one gives another order.

        Raises:
            StoreError: a row is damaged.
        """
        for features, rows in self._rows.batches(batch, np.random.default_rng(seed)):
            yield features, self.labels[rows]

    def quantized(self) -> IrModel | None:
        """Return the int8 model that made the features; None for other precisions.

        Raises:
            StoreError: it is missing, or not the one that the spec names.
        """
        if self.spec.precision != "int8":
            return None
        try:
            group = self._file[schema.BACKBONE]
            model = IrModel(group["graph"][()].tobytes(), group["weights"][()], json.loads(read_attribute(group, "record")))
        except (KeyError, ValueError, AttributeError, OSError) as error:
            raise StoreError(f"'{self.path}' has lost its quantised backbone; {self._again}.") from error
        if model.sha256 != self.spec.quantized_sha256:
            raise StoreError(f"'{self.path}' holds another quantised backbone than its spec names; {self._again}.")
        return model

    def raw_row(self, index: int) -> np.ndarray:
        """Return the features (D,) of one row in the type that they are stored in; a damaged one is a StoreError."""
        return self.raw_rows(index, 1)[0]

    def raw_rows(self, first: int, count: int) -> np.ndarray:
        """Return the features (count, D) of rows behind each other in the type that they are stored in; see ``raw_row``."""
        return self._rows.stored(first, count)

    def rows(self) -> list[Row]:
        """Return all rows, but for their features."""
        stats = [tuple(stat) for stat in self.stat.tolist()]
        columns = (self.labels.tolist(), self.split, self.views.tolist(), self.phash.tolist(), self.group, stats)
        return [Row(*values) for values in zip(self.paths, self.sha256, *columns, strict=True)]

    @property
    def blocks(self) -> Blocks:
        """The stored rows, unchecked."""
        return self._rows.blocks

    @property
    def compression(self) -> str:
        """How the features are compressed: ``none``, ``lzf``, ``gzip``, ``zstd``, or ``filter N``."""
        return compression_of(self._features)

    def close(self) -> None:
        """Close the file."""
        for part in self.parts:
            part.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def summary(self) -> dict[str, Any]:
        """Return what ``ffe info --json`` prints; of views, only how many there are."""
        plain, model = self.plain, self.quantized()
        counts, splits = np.bincount(self.labels[plain] + 1, minlength=len(self.class_names) + 1), [self.split[i] for i in plain]
        return {
            "rows": len(self),
            "images": len(plain),
            "views": None if self.made_views is None else self.made_views.to_json(),
            "dims": self.dims,
            "grid": self.layout.to_json(),
            "dtype": self.spec.dtype,
            "class_names": list(self.class_names),
            "class_counts": dict(zip(self.class_names, counts[1:].tolist(), strict=False)),
            "unlabelled": int(counts[0]),
            "splits": {name: splits.count(name) for name in ("train", "valid", "test") if name in splits},
            "skipped": len(self.skipped),
            "skipped_files": [{"path": s.path, "reason": s.reason, "message": s.message} for s in self.skipped],
            "source": self.source,
            "spec": self.spec.to_json(),
            "spec_digest": self.spec_digest,
            "ffe_schema": self.schema,
            "checksums": self.crc32 is not None,
            "compression": self.compression,
            "parts": [str(part.path) for part in self.parts],
            "fidelity": None if model is None else dict(model.record.get("fidelity", {})),
        }


def _stamps(tables: Mapping[str, np.ndarray], name: str, rows: int) -> np.ndarray:
    """Return stamps, int64 (rows, 2); files of earlier schemas have none."""
    if name not in tables:
        return np.full((rows, 2), NO_STAMP, np.int64)
    return tables[name].astype(np.int64, casting="safe", copy=False).reshape(-1, 2)


def _texts(value: Any) -> tuple[str, ...]:
    """Return a list of names as it was read; a ValueError says that it is none, or that a name stands in it twice."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value) or len(set(value)) < len(value):
        raise ValueError("a list of names is none")
    return tuple(value)


class _PartStore(FeatureStore):
    """A part of a virtual file, which cannot be virtual in its turn: such files could name each other in a ring."""

    def drop_columns(self) -> None:
        """Let go of what the virtual file says of the same rows, once it is known that it speaks of this file."""
        self.paths = self.sha256 = self.split = self.group = StoredTexts(np.zeros(0, "S1"))
        self.phash, self.stat, self.crc32 = self.phash[:0], self.stat[:0], None
        self._rows = RowReader(self.blocks, None, self.path, ())

    def _blocks(self) -> Blocks:
        if "parts" in self._file.attrs:
            raise StoreError(f"'{self.path}' is virtual, so it cannot be a part of another file; pack it into one file first.")
        return super()._blocks()
