"""Labelled images as one table: a row for each, from the scan of a source or from a feature file to the split."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ffe.base.arrays import empty_array
from ffe.base.text import none_could, numbered, relabelled
from ffe.dataset.class_checks import check_readable
from ffe.errors import SourceError
from ffe.images.image_handle import ImageFile
from ffe.images.limits import Limits
from ffe.images.loader import DecodedImage, ImageStream
from ffe.images.records import ImageRecord
from ffe.images.sources import Scan
from ffe.specs import PreprocessSpec
from ffe.store.reader import FeatureStore
from ffe.store.writer import in_row_order

log = logging.getLogger("ffe")


@dataclass(frozen=True, eq=False)
class ImageTable:
    """N images, one row for each, in columns: what a source, or a feature file of it, knows of them."""

    # paths, sha256, given, named: N strings each: name within the source, digest (empty = unknown), split that the source
    # gives, name of the group that it gives
    paths: tuple[str, ...]
    sha256: tuple[str, ...]
    given: tuple[str, ...]
    named: tuple[str, ...]
    files: tuple[ImageFile | None, ...]  # where they lie; None = that is not known, or must not be shown
    labels: np.ndarray  # int64 (N,), in [0, K); -1 = unlabelled, such images take no part
    phash: np.ndarray  # uint64 (N,)

    def __len__(self) -> int:
        return len(self.paths)

    def contents(self) -> np.ndarray:
        """Return int64 (N,): the number of what each image holds, by digest from 0 on; copies have one number.

        Where the digest is unknown, the path stands for it.
        """
        held = [digest or path for digest, path in zip(self.sha256, self.paths, strict=True)]
        number = {digest: i for i, digest in enumerate(sorted(set(held)))}
        return np.asarray([number[digest] for digest in held], np.int64)

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
    index = np.asarray(relabelled(store.class_names, class_names), np.int64)
    columns = (store.paths, store.sha256, store.split, store.group)
    paths, sha256, given, named = (tuple(map(tuple(column).__getitem__, rows.tolist())) for column in columns)
    files = {} if found is None else {record.path: record.file for record in found.records}
    places = (None,) * len(rows) if found is None else tuple(files[path] for path in paths)
    return ImageTable(paths, sha256, given, named, places, index[store.labels[rows]], store.phash[rows])


def table_of_records(
    records: Sequence[ImageRecord], items: Sequence[DecodedImage], names: Sequence[str], class_names: Sequence[str]
) -> ImageTable:
    """Return the images of a source that could be read, with ``names`` for its classes; label i means ``class_names[i]``."""
    index = relabelled(names, class_names)
    read = [records[item.index] for item in items]
    return ImageTable(
        paths=tuple(record.path for record in read),
        sha256=tuple(item.sha256 for item in items),
        given=tuple(record.split for record in read),
        named=tuple(record.group for record in read),
        files=tuple(record.file for record in read),
        labels=np.asarray([index[record.label] for record in read], np.int64),
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
    """Decode all images of a source, in the order of a feature file; ``progress`` is called with how many are done, of how many.

    Returns:
        pixels uint8 (N, H, W, 3), RGB, a memory map of a temporary file where memory is short; the images, whose label i means
        ``class_names[i]``; and how many files gave none. A SourceError where a class has none.
    """
    records = in_row_order(found.records)
    pixels = empty_array((len(records), *preprocess.size, 3), np.uint8, "pixels")
    read: list[DecodedImage] = []
    failed: dict[int, str] = {}
    with ImageStream((record.file for record in records), preprocess, workers=workers, limits=limits) as images:
        for item in images:
            if item.pixels is None:
                failed[item.index] = str(item.error)
            else:
                pixels[len(read)] = item.pixels
                read.append(replace(item, pixels=None))
            progress(item.index + 1, len(records))
        for text in images.note_texts(lambda index: records[index].path):
            log.warning("%s", text)
    if not read:
        first = next((f" (the first, '{records[i].path}': {why})" for i, why in failed.items()), "")
        none = none_could(len(records), "image")
        raise SourceError(f"{none} be read{first}; check the paths, and that they are pictures.")
    check_readable(found.class_names, records, failed)
    table = table_of_records(records, read, found.class_names, class_names)
    return pixels[: len(read)], table, len(failed) + len(found.left_out)
