"""Names, types and the schema number of a feature file; docs/reference/feature-file.md has the whole format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Any

import h5py
import numpy as np

from ffe.base.columns import PIECE
from ffe.base.feature_layout import FeatureLayout
from ffe.base.file_stat import NO_STAMP, Stamp

# 1 knew no /backbone and no fast decoding, 2 no checksums and no /stat, 3 had attributes of any length, 4 no tokens and one
# layer alone; such files are read as they are
SCHEMA = 5
READABLE = (1, 2, 3, 4, 5)
LAYOUTS_SINCE = 5
CHECKSUMS_SINCE = 3
FIXED_TEXT_SINCE = 4

FEATURES = "features"
DATA_LINK = "data"
LABELS = "labels"
PATHS = "paths"
SHA256 = "sha256"
SPLIT = "split"
VIEW = "view"
PHASH = "phash"
GROUP = "group"
STAT = "stat"
CRC32 = "crc32"
SKIPPED = "skipped"
SKIPPED_STAT = "skipped_stat"
BACKBONE = "backbone"
BACKBONE_PARTS = (f"{BACKBONE}/graph", f"{BACKBONE}/weights")

# what tables_sha256 is over; a name that a file lacks counts as lacking
ATTRIBUTES = (
    "ffe_schema",
    "ffe_version",
    "spec",
    "spec_digest",
    "class_names",
    "grid",
    "source",
    "judged_by",
    "sources",
    "parts",
    "views",
)
TABLES = (LABELS, VIEW, PATHS, SHA256, SPLIT, PHASH, GROUP, STAT, CRC32, SKIPPED, SKIPPED_STAT)

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Row:
    """One row of the file, but for its features; ``phash`` is that of the image, in its views too."""

    path: str
    sha256: str
    label: int
    split: str
    view: int = 0
    phash: int = 0
    group: str = ""
    stat: Stamp = NO_STAMP


@dataclass(frozen=True)
class Skipped:
    """A file that gave no row, with a reason that a person understands."""

    path: str
    reason: str
    message: str
    stat: Stamp = NO_STAMP


def schema_of(layout: FeatureLayout) -> int:
    """Return the schema that a file of such rows is written in: one grid needs no more than earlier versions of ffe read."""
    return SCHEMA if layout.grid is None else LAYOUTS_SINCE - 1


def text_column(values: Iterable[str]) -> np.ndarray:
    """Return text as it is stored: UTF-8 (N,), as long as the longest."""
    encoded = [value.encode("utf-8", "replace") for value in values]
    return np.asarray(encoded, h5py.string_dtype("utf-8", max(1, *map(len, encoded), 1)))


class StoredTexts(Sequence[str]):
    """The texts of a stored column, of this schema or an earlier one: like a tuple of them, but made when they are asked for.

    A UnicodeDecodeError says that they are none.
    """

    def __init__(self, column: np.ndarray, form: Callable[[str], str] = str) -> None:
        self._column, self._form = column, form
        if column.dtype.kind != "S" or (column.size and column.view(np.uint8).max() >= 0x80):
            for _ in self:
                pass

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self._form(value.decode()) for value in self._column[index].tolist())
        return self._form(self._column[index].decode())

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self._column), PIECE):
            yield from self[start : start + PIECE]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))


def skipped_table(skipped: Sequence[Skipped]) -> np.ndarray:
    """Return the files that gave no row as they are stored: (M,) of (path, reason, message)."""
    columns = {name: text_column(getattr(item, name) for item in skipped) for name in ("path", "reason", "message")}
    table = np.empty(len(skipped), [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        table[name] = column
    return table


def chunk_rows(rows: int, dims: int, itemsize: int) -> int:
    """Return the rows of one chunk: about 1 MiB, never splitting a row."""
    return max(1, min(rows, _CHUNK_BYTES // (dims * itemsize)))
