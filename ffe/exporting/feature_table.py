"""What the table of a feature file holds, whatever its format: columns of N rows, and features that are read block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np

from ffe._version import __version__
from ffe.base.digests import canonical_json
from ffe.store.reader import FeatureStore

ABOUT = "ffe"  # under which a format keeps what it says of the features
VERSION = 1
FEATURES = "features"
TEXTS = ("path", "label", "split", "group", "sha256")
NUMBERS = {"label_index": np.dtype(np.int64), "view": np.dtype(np.int64), "phash": np.dtype(np.uint64)}

_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class FeatureTable:
    """An open feature file as a table of N rows, in its order.

    Columns: ``features`` (D,), float32 or float16 as they are stored; ``path``; ``label``, the name of the class, and
    ``label_index``, its place in the names (empty and -1 = unlabelled); ``split`` and ``group``, empty = none; ``view``, 0 = the
    plain image; ``sha256`` and ``phash`` of the image.
    """

    store: FeatureStore
    progress: Callable[[int, int], None] = lambda done, total: None  # called with the rows read so far, and all

    def __len__(self) -> int:
        return len(self.store)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D) of the features."""
        return len(self.store), self.store.dims

    @property
    def dtype(self) -> np.dtype:
        """The type of the features."""
        return np.dtype(self.store.spec.dtype)

    @cached_property
    def texts(self) -> dict[str, Sequence[str]]:
        """The columns of N texts, by name."""
        store, names = self.store, (*self.store.class_names, "")  # -1 is the last
        return {
            "path": store.paths,
            "label": [names[label] for label in store.labels.tolist()],
            "split": store.split,
            "group": store.group,
            "sha256": store.sha256,
        }

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """The columns of numbers, (N,) each, by name."""
        return {"label_index": self.store.labels, "view": self.store.views, "phash": self.store.phash}

    @property
    def step(self) -> int:
        """Rows of a block."""
        return max(1, _BLOCK_BYTES // (self.shape[1] * self.dtype.itemsize))

    def slices(self) -> Iterator[slice]:
        """Yield the rows of each block."""
        for start in range(0, len(self), self.step):
            yield slice(start, min(start + self.step, len(self)))

    def features(self, rows: slice) -> np.ndarray:
        """Return (n, D) as they are stored, each row held against its checksum; a StoreError where one is damaged."""
        block = self.store.raw_rows(rows.start, rows.stop - rows.start)
        self.progress(rows.stop, len(self))
        return block

    def about(self) -> dict[str, Any]:
        """Return as JSON values how the features were made, and how they lie in a row."""
        store = self.store
        return {
            "version": VERSION,
            "ffe_version": __version__,
            "rows": len(self),
            "layout": store.layout.to_json(),
            "class_names": list(store.class_names),
            "spec": store.spec.to_json(),
            "spec_digest": store.spec_digest,
            "views": None if store.made_views is None else store.made_views.to_json(),
            "source": store.source,
            "sources": list(store.sources),
            "judged_by": store.judged_by,
        }

    def about_json(self) -> bytes:
        """Return ``about`` as one line of UTF-8."""
        return canonical_json(self.about())


@dataclass(frozen=True)
class TableFormat:
    """A format of tables: how it is called and written, and what that needs."""

    name: str
    suffix: str  # of its files
    write: Callable[[FeatureTable, BinaryIO], None]
    packages: tuple[str, ...] = ()  # that must be installed
    sidecar: bool = False  # what is said of the features has no place in the file, and goes into one beside it
