"""Labelled images as one table: a row for each, from the scan of a source or from a feature file to the split."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffe.base.text import numbered
from ffe.dataset.class_checks import check_readable
from ffe.images.decode_all import decode_source
from ffe.images.limits import Limits
from ffe.images.loader import DecodedImage
from ffe.images.sources import ImageRecord, Scan
from ffe.specs import PreprocessSpec
from ffe.store.reader import FeatureStore
from ffe.store.writer import in_row_order


@dataclass(frozen=True, eq=False)
class ImageTable:
    """N images, one row for each, in columns: what a source, or a feature file of it, knows of them."""

    # paths, sha256, given, named: N strings each: name within the source, digest (empty = unknown), split that the source
    # gives, name of the group that it gives
    paths: tuple[str, ...]
    sha256: tuple[str, ...]
    given: tuple[str, ...]
    named: tuple[str, ...]
    files: tuple[Path | None, ...]  # where they lie; None = that is not known, or must not be shown
    labels: np.ndarray  # int64 (N,), in [0, K); -1 = unlabelled, such images take no part
    phash: np.ndarray  # uint64 (N,)

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> ImageTable:
        """Return some of the images: int64 (n,), in this order."""
        places = rows.tolist()

        def part(column: Any) -> Any:
            return column[rows] if isinstance(column, np.ndarray) else tuple(column[i] for i in places)

        return ImageTable(*map(part, vars(self).values()))

    def joined_with(self, others: Sequence[ImageTable]) -> ImageTable:
        """Return these images, and those of other tables behind them."""

        def joined(*parts: Any) -> Any:
            return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else tuple(itertools.chain(*parts))

        return ImageTable(*map(joined, *(vars(table).values() for table in (self, *others))))

    def anonymous(self) -> ImageTable:
        """Return the same images without digests and files, and with numbers for names."""
        return replace(self, paths=numbered(len(self)), sha256=("",) * len(self), files=(None,) * len(self))


def table_of_store(store: FeatureStore, rows: np.ndarray, class_names: Sequence[str], found: Scan | None = None) -> ImageTable:
    """Return the images of rows int64 (N,); label i means ``class_names[i]``. ``found``, the source, tells where files lie."""
    index = np.asarray([class_names.index(name) for name in store.class_names] + [-1], np.int64)
    columns = (store.paths, store.sha256, store.split, store.group)
    paths, sha256, given, named = (tuple(column[i] for i in rows.tolist()) for column in columns)
    files = {} if found is None else {record.path: record.file for record in found.records}
    places = (None,) * len(rows) if found is None else tuple(files[path] for path in paths)
    return ImageTable(paths, sha256, given, named, places, index[store.labels[rows]], store.phash[rows])


def table_of_records(
    records: Sequence[ImageRecord], items: Sequence[DecodedImage], names: Sequence[str], class_names: Sequence[str]
) -> ImageTable:
    """Return the images of a source that could be read, with ``names`` for its classes; label i means ``class_names[i]``."""
    index = [class_names.index(name) for name in names]
    read = [records[item.index] for item in items]
    return ImageTable(
        paths=tuple(record.path for record in read),
        sha256=tuple(item.sha256 for item in items),
        given=tuple(record.split for record in read),
        named=tuple(record.group for record in read),
        files=tuple(record.file for record in read),
        labels=np.asarray([index[record.label] if record.label >= 0 else -1 for record in read], np.int64),
        phash=np.asarray([item.phash for item in items], np.uint64),
    )


def table_of_files(
    found: Scan,
    class_names: Sequence[str],
    preprocess: PreprocessSpec,
    limits: Limits,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, ImageTable, int]:
    """Decode all images of a source, in the order of a feature file; the label i means ``class_names[i]``.

    Return pixels uint8 (N, H, W, 3), the images, and how many files gave none. A SourceError where a class has none.
    """
    records = in_row_order(found.records)
    pixels, items, failed = decode_source(records, preprocess, limits=limits, workers=workers, progress=progress)
    check_readable(found.class_names, records, failed)
    return pixels, table_of_records(records, items, found.class_names, class_names), len(failed) + len(found.left_out)
