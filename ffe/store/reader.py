"""A finished feature file -> arrays."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from ffe.errors import StoreError
from ffe.ir import IrModel
from ffe.keys import spec_digest
from ffe.specs import ExtractSpec
from ffe.stamps import NO_STAMP
from ffe.store import layout
from ffe.store.layout import Skipped


class FeatureStore:
    """Reads a feature file; the small columns at once, the features on demand.

    Args:
        path: a file that ``ffe extract`` wrote.

    Attributes:
        path: the file.
        schema: number of the layout that it was written in.
        spec: what made the features.
        spec_digest: its cache key, 64 hexadecimal digits.
        class_names: the label i means class_names[i].
        grid: (h, w, c) of a row before flattening.
        source: where the images came from.
        labels: int64 (N,), -1 = unlabelled.
        paths, sha256, split: N strings each.
        views: int64 (N,), 0 = the plain image.
        phash: uint64 (N,), perceptual hash of the decoded pixels, 0 = unknown.
        group: N names of what a split must not tear apart, empty = none.
        stat: int64 (N, 2), size and time of change of the image files, -1 = unknown; see ``ffe.stamps``.
        skipped: the files that gave no row.
        judged_by: the program that found so; empty = unknown.

    Raises:
        StoreError: the file is missing, damaged, or was not written by ffe.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise StoreError(
                f"'{self.path}' is a folder, not a feature file; make one with 'ffe extract {self.path} -o features.h5'."
            )
        if zipfile.is_zipfile(self.path):
            raise StoreError(f"'{self.path}' is a model, not a feature file; give a file that 'ffe extract' wrote.")
        if not self.path.is_file():
            raise StoreError(f"There is no feature file '{self.path}'; make one with 'ffe extract SOURCE -o {self.path}'.")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise StoreError(
                f"'{self.path}' is not a readable HDF5 file; if it was cut off, make it again with 'ffe extract'."
            ) from error
        try:
            self._read()
        except StoreError:
            self._file.close()
            raise
        except Exception as error:  # h5py raises many kinds on damaged content
            self._file.close()
            raise StoreError(
                f"'{self.path}' is damaged ({' '.join(str(error).split())[:120]}); make it again with 'ffe extract'."
            ) from error

    def _read(self) -> None:
        attrs = self._file.attrs
        if "ffe_schema" not in attrs:
            raise StoreError(f"'{self.path}' was not written by ffe; make a feature file with 'ffe extract'.")
        if int(attrs["ffe_schema"]) not in layout.READABLE:
            raise StoreError(
                f"'{self.path}' has schema {attrs['ffe_schema']}, but this version of ffe reads schema {layout.SCHEMA}; "
                "install the version of ffe that wrote it, or make it again with 'ffe extract'."
            )
        self.schema = int(attrs["ffe_schema"])
        self.spec = ExtractSpec.from_json(json.loads(attrs["spec"]))
        self.spec_digest = str(attrs["spec_digest"])
        self.class_names: tuple[str, ...] = tuple(json.loads(attrs["class_names"]))
        height, width, channels = (int(n) for n in attrs["grid"])
        self.grid = (height, width, channels)
        self.source = str(attrs["source"])
        self.labels: np.ndarray = self._file[layout.LABELS][()]
        self.views: np.ndarray = self._file[layout.VIEW][()]
        self.paths, self.sha256, self.split = (
            tuple(self._file[name].asstr()[()]) for name in (layout.PATHS, layout.SHA256, layout.SPLIT)
        )
        self.phash: np.ndarray = (
            self._file[layout.PHASH][()].astype(np.uint64, casting="safe")
            if layout.PHASH in self._file
            else np.zeros(len(self.labels), np.uint64)
        )
        self.group: tuple[str, ...] = (
            tuple(self._file[layout.GROUP].asstr()[()]) if layout.GROUP in self._file else ("",) * len(self.labels)
        )
        skipped = self._file[layout.SKIPPED][()].tolist()
        self.stat = self._stat(layout.STAT, len(self.labels))
        stats = self._stat(layout.SKIPPED_STAT, len(skipped)).tolist()
        self.skipped = tuple(
            Skipped(path.decode(), reason.decode(), message.decode(), (size, changed))
            for (path, reason, message), (size, changed) in zip(skipped, stats, strict=True)
        )
        self.judged_by = str(attrs.get("judged_by", ""))
        self._check()

    def _stat(self, name: str, rows: int) -> np.ndarray:
        """Return stamps, int64 (rows, 2); files of earlier schemas have none."""
        if name not in self._file:
            return np.full((rows, 2), NO_STAMP, np.int64)
        return self._file[name][()].astype(np.int64, casting="safe").reshape(-1, 2)

    def _check(self) -> None:
        def damaged(what: str) -> StoreError:
            return StoreError(f"'{self.path}' is damaged: {what}; make it again with 'ffe extract'.")

        rows, dims = self._features.shape
        if dims != self.grid[0] * self.grid[1] * self.grid[2] or str(self._features.dtype) != self.spec.dtype:
            raise damaged("its features do not have the shape or type that its spec says")
        columns = (self.labels, self.views, self.paths, self.sha256, self.split, self.phash, self.group, self.stat)
        if {len(column) for column in columns} != {rows}:
            raise damaged("its columns have different lengths")
        if rows and not -1 <= self.labels.min() <= self.labels.max() < max(len(self.class_names), 1):
            raise damaged("it holds labels that are no class")
        if spec_digest(self.spec) != self.spec_digest:
            raise damaged("its spec does not match its spec digest")

    @property
    def _features(self) -> h5py.Dataset:
        return self._file[layout.FEATURES]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def dims(self) -> int:
        """Features of one row: h * w * c."""
        return int(self._features.shape[1])

    def features(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Read features into memory.

        Args:
            rows: indices (n,), in any order; None = all, in the file's order.

        Returns:
            float32 (n, D).
        """
        if rows is None:
            return self._features[()].astype(np.float32, copy=False)
        rows = np.asarray(rows, np.int64)
        result = np.empty((len(rows), self.dims), np.float32)
        order = np.argsort(rows, kind="stable")
        step = self._features.chunks[0]
        for block in np.split(order, np.flatnonzero(np.diff(rows[order] // step)) + 1):
            if len(block):
                first = int(rows[block[0]])
                result[block] = self._features[first : int(rows[block[-1]]) + 1][rows[block] - first]
        return result

    def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (float32 (n, D), int64 (n,)) from the first row to the last, n <= size."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield self._features[rows].astype(np.float32, copy=False), self.labels[rows]

    def quantized(self) -> IrModel | None:
        """Return the int8 model that made the features; None for other precisions.

        Raises:
            StoreError: it is missing, or not the one that the spec names.
        """
        if self.spec.precision != "int8":
            return None
        try:
            group = self._file[layout.BACKBONE]
            model = IrModel(group["graph"][()].tobytes(), group["weights"][()], json.loads(group.attrs["record"]))
        except (KeyError, ValueError, AttributeError, OSError) as error:
            raise StoreError(f"'{self.path}' has lost its quantised backbone; make it again with 'ffe extract'.") from error
        if model.sha256 != self.spec.quantized_sha256:
            raise StoreError(
                f"'{self.path}' holds another quantised backbone than its spec names; make it again with 'ffe extract'."
            )
        return model

    def _fidelity(self) -> dict[str, Any] | None:
        """Return how far int8 is from float32, as it was measured when the model was calibrated."""
        model = self.quantized()
        return None if model is None else dict(model.record.get("fidelity", {}))

    def raw_row(self, index: int) -> np.ndarray:
        """Return the features (D,) of one row in the type that they are stored in."""
        return self._features[index]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def summary(self) -> dict[str, Any]:
        """Return what ``ffe info --json`` prints."""
        return {
            "rows": len(self),
            "dims": self.dims,
            "grid": list(self.grid),
            "dtype": self.spec.dtype,
            "class_names": list(self.class_names),
            "class_counts": {name: int((self.labels == i).sum()) for i, name in enumerate(self.class_names)},
            "unlabelled": int((self.labels < 0).sum()),
            "splits": {name: self.split.count(name) for name in ("train", "valid", "test") if name in self.split},
            "skipped": len(self.skipped),
            "skipped_files": [{"path": s.path, "reason": s.reason, "message": s.message} for s in self.skipped],
            "source": self.source,
            "spec": self.spec.to_json(),
            "spec_digest": self.spec_digest,
            "ffe_schema": self.schema,
            "fidelity": self._fidelity(),
        }
