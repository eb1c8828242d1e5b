"""The images that a network is trained on: what is known of each, and which side it stands on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffe.errors import DataError, ModelMismatchError, SourceError
from ffe.images.pixels import decode_source
from ffe.images.scan import Scan
from ffe.specs import PreprocessSpec
from ffe.splits.groups import Groups
from ffe.splits.sides import LEFT_OUT, TEST, TRAIN, hold_out
from ffe.store.reader import FeatureStore
from ffe.store.writer import row_key

log = logging.getLogger("ffe")

VALID = "valid"

_OTHER_DRAW = 2**31  # seeds are smaller, so an image draws anew for the validation


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
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, Photos, int]:
    """Decode all images of a source, in the order of a feature file.

    Args:
        found: the source.
        class_names: the label i means class_names[i].
        preprocess: size and way of decoding.
        workers: threads.
        progress: called with how many are done, of how many.

    Returns:
        pixels uint8 (N, H, W, 3), the images, and how many files gave none.

    Raises:
        SourceError: none could be read.
    """
    records = sorted(found.records, key=lambda record: row_key(record.path))
    decoded = decode_source(records, preprocess.size, preprocess.decode, workers=workers, progress=progress)
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


def sides_anew(
    photos: Photos, groups: Groups, test_fraction: float, valid_fraction: float, seed: int, class_names: Sequence[str]
) -> np.ndarray:
    """Return the side of each image where no model had any: that which the source gives, or one drawn by its content.

    Args:
        photos: the images.
        groups: of those that have labels.
        test_fraction, valid_fraction: shares, where the source gives no such images.
        seed: of the choice.
        class_names: for messages.

    Returns:
        str (N,), ``train``, ``valid``, ``test`` or empty: left out.

    Raises:
        DataError: a class has no image on one of the sides.
    """
    side = np.asarray([given or TRAIN for given in photos.given], "U5")
    side[photos.labels < 0] = LEFT_OUT
    used = np.flatnonzero(photos.labels >= 0)
    if not (side == TEST).any():
        valid = side[used] == VALID
        drawn = hold_out(
            photos.labels[used],
            [photos.sha256[i] for i in used],
            groups.ids,
            test_fraction,
            seed,
            names=[photos.named[i] for i in used],
            training=valid,
        )
        side[used] = np.where(valid, VALID, drawn.side)
    return with_validation(photos, groups, side, valid_fraction, seed, class_names)


def sides_as_before(
    photos: Photos, groups: Groups, known: Mapping[str, str], valid_fraction: float, seed: int, class_names: Sequence[str]
) -> np.ndarray:
    """Return the side of each image: that which it had when the model was made.

    Images that the model was not made with train, unless the source gives them
    another side, or they belong together with one that tests: then they are
    left out. Where the model had no validation images, a share of those that
    train validate from now on, whole groups at a time.

    Args:
        photos: the images.
        groups: of the images that have labels.
        known: digest -> ``train``, ``valid``, ``test`` or empty, of the model's images.
        valid_fraction: share that validates.
        seed: of that choice.
        class_names: for messages.

    Returns:
        str (N,), ``train``, ``valid``, ``test`` or empty: left out.

    Raises:
        DataError: a class has no image on one of the sides.
    """
    side = np.asarray([known.get(s, given or TRAIN) for s, given in zip(photos.sha256, photos.given, strict=True)], "U5")
    side[photos.labels < 0] = LEFT_OUT
    used = np.flatnonzero(photos.labels >= 0)
    new = np.asarray([photos.sha256[i] not in known for i in used], bool)
    tested = np.bincount(groups.ids, side[used] == TEST) > 0
    leaking = new & (side[used] != TEST) & tested[groups.ids]
    side[used[leaking]] = LEFT_OUT
    joined = int((new & ~leaking).sum())
    if joined:
        log.info("%d images are new to the model; they take part in the training", joined)
    if leaking.any():
        log.info("%d new images are left out: they belong together with images that test", leaking.sum())
    return with_validation(photos, groups, side, valid_fraction, seed, class_names)


def with_validation(
    photos: Photos, groups: Groups, side: np.ndarray, fraction: float, seed: int, class_names: Sequence[str]
) -> np.ndarray:
    """Let a share of the images that train validate, where none do; see ``sides_as_before``."""
    side = side.copy()
    train = np.flatnonzero(side == TRAIN)
    if not (side == VALID).any() and len(train):
        place = np.full(len(photos), -1)
        place[photos.labels >= 0] = np.arange(len(groups.ids))
        drawn = hold_out(
            photos.labels[train],
            [photos.sha256[i] for i in train],
            groups.ids[place[train]],
            fraction,
            _OTHER_DRAW + seed,
            names=[photos.named[i] for i in train],
        )
        side[train[drawn.side == TEST]] = VALID
    for name, wanted in (("training", TRAIN), ("validation", VALID), ("test", TEST)):
        for label, class_name in enumerate(class_names):
            if not ((photos.labels == label) & (side == wanted)).any():
                raise DataError(
                    f"The class '{class_name}' has no {name} images; give the images that the model was made from, "
                    "or add different images of this class."
                    if wanted == TEST
                    else f"The class '{class_name}' has no {name} images; add different images of this class."
                )
    return side
