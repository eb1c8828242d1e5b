"""The images that a network is trained on, and what is known of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ffe.base.text import counted, few, numbered
from ffe.errors import DataError, ModelMismatchError, SourceError, StoreError
from ffe.images.decode_all import decode_source
from ffe.images.limits import Limits
from ffe.images.sources import Scan
from ffe.images.unreadable import refuse_lost_classes
from ffe.specs import PreprocessSpec
from ffe.store.reader import FeatureStore
from ffe.store.writer import row_key

_LEAST = 3  # images of a class: to train, to validate, to test


@dataclass(frozen=True, eq=False)
class Photos:
    """N images, one row for each; columns as in a feature file.

    Attributes:
        paths, sha256, given, named: N strings each: name within the source, digest,
            split that the source gives, name of the group that it gives.
        files: where they lie.
        labels: int64 (N,), in [0, K); -1 = unlabelled, such images take no part.
        phash: uint64 (N,).
    """

    paths: tuple[str, ...]
    sha256: tuple[str, ...]
    given: tuple[str, ...]
    named: tuple[str, ...]
    files: tuple[Path, ...]
    labels: np.ndarray
    phash: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def anonymous(self) -> Photos:
        """Return the same images without digests and files, and with numbers for names."""
        return replace(self, paths=numbered(len(self)), sha256=("",) * len(self), files=(Path(),) * len(self))


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
    if not found.class_names:
        raise SourceError(
            f"The images of '{found.root}' have no labels; give one folder per class, or a CSV with labels, "
            f"with the classes of '{model}': {', '.join(class_names)}."
        )
    unknown = sorted(set(found.class_names) - set(class_names))
    missing = sorted(set(class_names) - set(found.class_names))
    if unknown or missing:
        what = f"has the class '{unknown[0]}', which" if unknown else f"has no class '{missing[0]}', which"
        known = "does not know" if unknown else "knows"
        raise ModelMismatchError(
            f"'{found.root}' {what} the model '{model}' {known} (it knows {', '.join(class_names)}); "
            "give images of the same classes, or make a model of the new ones with 'ffe tune'."
        )


def check_counts(found: Scan) -> None:
    """Make sure, before anything is read, that every class has an image to train, to validate and to test.

    Raises:
        DataError: one has too few.
    """
    counts = Counter(record.label for record in found.records)
    small = [label for label in range(len(found.class_names)) if counts[label] < _LEAST]
    if small:
        what = f"The class '{found.class_names[small[0]]}' has only {counted(counts[small[0]], 'image')}"
        if len(small) > 1:
            names = few([f"'{found.class_names[label]}' ({counts[label]})" for label in small])
            what = f"{counted(len(small), 'class has', 'classes have')} too few images: {names}"
        raise DataError(f"{what}; give every class at least {_LEAST} different ones: to train, to validate and to test.")


def photos_of_store(store: FeatureStore, rows: np.ndarray, found: Scan, class_names: Sequence[str]) -> Photos:
    """Return the images of some rows of a feature file, labelled with the classes of a model.

    Args:
        store: of the same source.
        rows: int64 (N,), one for each image.
        found: the source, for the places of the files.
        class_names: the label i means class_names[i].
    """
    index = np.asarray([class_names.index(name) for name in store.class_names] + [-1], np.int64)
    files = {record.path: record.file for record in found.records}
    paths, sha256, given, named = (
        tuple(column[i] for i in rows) for column in (store.paths, store.sha256, store.split, store.group)
    )
    return Photos(
        paths,
        sha256,
        given,
        named,
        files=tuple(files[store.paths[i]] for i in rows),
        labels=index[store.labels[rows]],
        phash=store.phash[rows],
    )


def photos_of_files(
    found: Scan,
    class_names: Sequence[str],
    preprocess: PreprocessSpec,
    limits: Limits,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, Photos, int]:
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
    records = sorted(found.records, key=lambda record: row_key(record.path))
    decoded = decode_source(records, preprocess.size, preprocess.decode, limits=limits, workers=workers, progress=progress)
    failed = dict(decoded.skipped)
    unread = {i: failed[record.path] for i, record in enumerate(records) if record.path in failed}
    refuse_lost_classes(found.class_names, records, unread)
    index = [class_names.index(name) for name in found.class_names]
    labels = [index[record.label] if record.label >= 0 else -1 for record in decoded.records]
    photos = Photos(
        paths=tuple(record.path for record in decoded.records),
        sha256=decoded.sha256,
        given=tuple(record.split for record in decoded.records),
        named=tuple(record.group for record in decoded.records),
        files=tuple(record.file for record in decoded.records),
        labels=np.asarray(labels, np.int64),
        phash=decoded.phash,
    )
    return decoded.pixels, photos, len(decoded.skipped) + len(found.left_out)
