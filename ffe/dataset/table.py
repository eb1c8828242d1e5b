"""Labelled images as one table: a row for each, from the scan of a source or from a feature file to the split."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffe.base.text import counted, few, numbered
from ffe.dataset.class_checks import check_labelled, check_readable
from ffe.errors import DataError, ModelMismatchError, StoreError
from ffe.images.decode_all import decode_source
from ffe.images.limits import Limits
from ffe.images.sources import ImageRecord, Scan
from ffe.specs import PreprocessSpec
from ffe.store.reader import FeatureStore
from ffe.store.writer import in_row_order

_LEAST = 3  # images of a class: to train, to validate, to test


@dataclass(frozen=True, eq=False)
class ImageTable:
    """N images, one row for each, in columns: what a source, or a feature file of it, knows of them.

    Attributes:
        paths, sha256, given, named: N strings each: name within the source, digest (empty = unknown),
            split that the source gives, name of the group that it gives.
        files: where they lie; None = that is not known, or must not be shown.
        labels: int64 (N,), in [0, K); -1 = unlabelled, such images take no part.
        phash: uint64 (N,).
    """

    paths: tuple[str, ...]
    sha256: tuple[str, ...]
    given: tuple[str, ...]
    named: tuple[str, ...]
    files: tuple[Path | None, ...]
    labels: np.ndarray
    phash: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> ImageTable:
        """Return some of the images: int64 (n,), in this order."""
        texts = (self.paths, self.sha256, self.given, self.named)
        paths, sha256, given, named = (tuple(column[i] for i in rows.tolist()) for column in texts)
        files = tuple(self.files[i] for i in rows.tolist())
        return ImageTable(paths, sha256, given, named, files, self.labels[rows], self.phash[rows])

    def joined_with(self, others: Sequence[ImageTable]) -> ImageTable:
        """Return these images, and those of other tables behind them."""
        tables = (self, *others)

        def column(name: str) -> tuple[Any, ...]:
            return tuple(itertools.chain.from_iterable(getattr(table, name) for table in tables))

        return ImageTable(
            *(column("paths"), column("sha256"), column("given"), column("named"), column("files")),
            labels=np.concatenate([table.labels for table in tables]),
            phash=np.concatenate([table.phash for table in tables]),
        )

    def anonymous(self) -> ImageTable:
        """Return the same images without digests and files, and with numbers for names."""
        return replace(self, paths=numbered(len(self)), sha256=("",) * len(self), files=(None,) * len(self))


def check_apart(folder: Path, found: Scan, what: str, option: str) -> None:
    """Make sure that a folder that ffe writes into is not the one of the images, and does not lie in it.

    Args:
        folder: the folder.
        found: the images.
        what: what the folder is called in messages.
        option: that names it.

    Raises:
        StoreError: it is, or does.
    """
    place, root = os.path.realpath(folder), os.path.realpath(found.root)
    if found.kind != "csv" and (place == root or place.startswith(root.rstrip(os.sep) + os.sep)):
        raise StoreError(f"The {what} '{folder}' lies among the images of '{found.root}'; name another folder with {option}.")


def check_classes(found: Scan, class_names: Sequence[str], model: str) -> None:
    """Make sure that a source has labels, and no other classes than a model.

    Raises:
        SourceError: it has no labels.
        ModelMismatchError: it has a class that the model does not know, or lacks one.
    """
    check_labelled(found.class_names, found.root, end=f", with the classes of '{model}': {', '.join(class_names)}.")
    unknown = sorted(set(found.class_names) - set(class_names))
    missing = sorted(set(class_names) - set(found.class_names))
    if unknown or missing:
        what = f"has the class '{unknown[0]}', which" if unknown else f"has no class '{missing[0]}', which"
        known = "does not know" if unknown else "knows"
        raise ModelMismatchError(
            f"'{found.root}' {what} the model '{model}' {known} (it knows {', '.join(class_names)}); "
            "give images of the same classes, or make a model of the new ones with 'ffe tune'."
        )


def too_few(counts: Mapping[int, int], class_names: Sequence[str], least: int) -> dict[str, int]:
    """Return the classes that have fewer than ``least`` of what is counted, and how many each has."""
    return {name: counts.get(label, 0) for label, name in enumerate(class_names) if counts.get(label, 0) < least}


def too_few_text(small: Mapping[str, int], what: str, of: str = "") -> str:
    """Return the beginning of a sentence about classes that have too few of something, such as ``image``."""
    (name, count), *others = small.items()
    if not others:
        return f"The class '{name}' has only {counted(count, what)}{of}"
    names = few([f"'{name}' ({count})" for name, count in small.items()])
    return f"{counted(len(small), 'class has', 'classes have')} too few {what}s{of}: {names}"


def check_counts(found: Scan) -> None:
    """Make sure, before anything is read, that every class has an image to train, to validate and to test.

    Raises:
        DataError: one has too few.
    """
    small = too_few(Counter(record.label for record in found.records), found.class_names, _LEAST)
    if small:
        what = too_few_text(small, "image")
        raise DataError(f"{what}; give every class at least {_LEAST} different ones: to train, to validate and to test.")


def table_of_store(store: FeatureStore, rows: np.ndarray, class_names: Sequence[str], found: Scan | None = None) -> ImageTable:
    """Return the images of some rows of a feature file, labelled with the classes of a model.

    Args:
        store: of the same source.
        rows: int64 (N,), one for each image.
        class_names: the label i means class_names[i].
        found: the source, for the places of the files; without it they are not known.
    """
    index = np.asarray([class_names.index(name) for name in store.class_names] + [-1], np.int64)
    columns = (store.paths, store.sha256, store.split, store.group)
    paths, sha256, given, named = (tuple(column[i] for i in rows.tolist()) for column in columns)
    files = {} if found is None else {record.path: record.file for record in found.records}
    places = (None,) * len(rows) if found is None else tuple(files[path] for path in paths)
    return ImageTable(paths, sha256, given, named, places, index[store.labels[rows]], store.phash[rows])


def table_of_records(
    records: Sequence[ImageRecord], sha256: Sequence[str], phash: Sequence[int], names: Sequence[str], class_names: Sequence[str]
) -> ImageTable:
    """Return the images of a source that could be read, labelled with the classes of a model.

    Args:
        records: N images.
        sha256, phash: N values: digest of each file, fingerprint of its pixels.
        names: of the classes of the source.
        class_names: the label i means class_names[i].
    """
    index = [class_names.index(name) for name in names]
    return ImageTable(
        paths=tuple(record.path for record in records),
        sha256=tuple(sha256),
        given=tuple(record.split for record in records),
        named=tuple(record.group for record in records),
        files=tuple(record.file for record in records),
        labels=np.asarray([index[record.label] if record.label >= 0 else -1 for record in records], np.int64),
        phash=np.asarray(phash, np.uint64),
    )


def table_of_files(
    found: Scan,
    class_names: Sequence[str],
    preprocess: PreprocessSpec,
    limits: Limits,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, ImageTable, int]:
    """Decode all images of a source, in the order of a feature file.

    Args:
        found: the source.
        class_names: the label i means class_names[i].
        preprocess: size and way of decoding.
        limits: larger files are skipped.
        workers: threads.
        progress: called with how many are done, of how many.

    Returns:
        pixels uint8 (N, H, W, 3), the images, and how many files gave none.

    Raises:
        SourceError: none could be read, or none of a class.
    """
    records = in_row_order(found.records)
    decoded = decode_source(records, preprocess.size, preprocess.decode, limits=limits, workers=workers, progress=progress)
    failed = dict(decoded.skipped)
    unread = {i: failed[record.path] for i, record in enumerate(records) if record.path in failed}
    check_readable(found.class_names, records, unread)
    images = table_of_records(decoded.records, decoded.sha256, decoded.phash.tolist(), found.class_names, class_names)
    return decoded.pixels, images, len(decoded.skipped) + len(found.left_out)
