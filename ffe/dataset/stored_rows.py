"""Which labelled rows of which feature files train, choose and test."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ffe.base.text import counted, few, quoted
from ffe.dataset.assign_sides import ImageSplit, drawn_sides
from ffe.dataset.class_checks import check_two_classes, least_images, too_few, too_few_text
from ffe.dataset.feature_files import FeatureFiles, Features, as_files
from ffe.dataset.leaks import warn_of_leaks
from ffe.dataset.load_features import FileRows, load_rows, rows_to_group
from ffe.dataset.table import ImageTable, table_of_store
from ffe.errors import DataError, ModelMismatchError
from ffe.images.image_handle import ImageFile, content_digest
from ffe.images.sources import images_at
from ffe.specs import ViewsSpec, spec_differences
from ffe.splits.groups import find_groups
from ffe.splits.holdout import LEFT_OUT, TEST, TRAIN, VALID, groups_of_classes
from ffe.store.reader import FeatureStore

log = logging.getLogger("ffe")


@dataclass(frozen=True, eq=False)
class StoredSplit(ImageSplit):
    """The labelled images of one to three feature files, with the side of each: their plain rows, and the views of them.

    Instead of each file there may be several of the same images. The paths of a second file stand behind ``valid:`` or
    ``test:``; labels are those of the main file.
    """

    class_names: tuple[str, ...]  # of the main file
    stores: tuple[FeatureFiles, ...]  # the feature files, open: the main one, and those of validation and test
    origin: np.ndarray  # int64 (N, 2), (file, row in it)
    views: np.ndarray  # int64 (N, K), the row of each view in the main file, -1 = none
    made_views: ViewsSpec | None  # what the views are; None = the main file has none

    @property
    def main(self) -> FeatureFiles:
        """The main feature files: those of all images that ``valid`` and ``test`` files do not bring."""
        return self.stores[0]

    def load(self, chosen: np.ndarray, views: np.ndarray | None = None) -> np.ndarray:
        """Read chosen rows, bool (N,), then views, int64 (m,) rows of the main file: float32 (n + m, D), maybe a memory map."""
        return load_rows(self.stores, self._origin_of(chosen, views))

    def stay(self, chosen: np.ndarray, views: np.ndarray | None = None) -> FileRows:
        """Return what reads the same rows when they are asked for."""
        return FileRows(self.stores, self._origin_of(chosen, views))

    def _origin_of(self, chosen: np.ndarray, views: np.ndarray | None) -> np.ndarray:
        more = np.empty(0, np.int64) if views is None else views
        return np.concatenate([self.origin[chosen], np.stack([np.zeros_like(more), more], 1)])

    def files(self) -> tuple[ImageFile | None, ...]:
        """Return where the images lie, as far as their feature files tell; the files may be gone by now."""
        file_of = [file_finder(files.main) for files in self.stores]
        return tuple(file_of[i](row) for i, row in self.origin.tolist())


def split_rows(
    features: Features,
    valid: Features | None,
    test: Features | None,
    test_fraction: float,
    seed: int,
    tested: Collection[str] = (),
) -> StoredSplit:
    """Gather labelled rows and decide who trains, chooses and tests; splits that the files bring are kept.

    ``valid`` and ``test`` hold further rows, for choosing and for the test; all files stay open while features are read.
    ``test_fraction`` and ``tested`` as of ``drawn_sides``.
    """
    files = as_files(features)
    store = files.main
    used = labelled(store)
    if unlabelled := sorted(store.paths[row] for row in np.setdiff1d(store.plain, used).tolist()):
        have = "has no label and is left out" if len(unlabelled) == 1 else "have no label and are left out"
        log.warning("%s of '%s' %s (%s)", counted(len(unlabelled), "row"), store.path, have, few(quoted(unlabelled)))
    main = table_of_store(store, used, store.class_names)
    least = least_images(valid is not None or VALID in main.given, test is not None or TEST in main.given)
    _check_classes(store, main.labels, main.contents(), least, "image")
    others: list[ImageTable] = []
    stores, rows = [files], [used]
    for name, given in ((VALID, valid), (TEST, test)):
        if given is None:
            continue
        further = as_files(given)
        other = further.main
        if name in main.given:
            raise DataError(f"'{store.path}' brings its own {name} rows; leave --{name} out, or give a file without them.")
        _check_specs(files, further, name)
        others.append(_table_of_other(store, other, main, name))
        stores.append(further)
        rows.append(labelled(other))
    images = main.joined_with(others)
    origin = np.concatenate([np.stack([np.full(len(of_file), i), of_file], 1) for i, of_file in enumerate(rows)])
    groups = find_groups(images.sha256, images.phash, rows_to_group(stores, origin, images.paths), images.named)
    if TEST not in images.given:
        _check_classes(store, main.labels, groups.ids[: len(used)], least, "group")
    side, drawn = drawn_sides(images, groups, test_fraction, seed, tested)
    if drawn.unstable:
        small = few(quoted(store.class_names[label] for label in drawn.unstable))
        one = len(drawn.unstable) == 1
        log.warning(
            "%s so small that a test or training image had to be picked for %s; the pick may change when images are added",
            f"the class {small} is" if one else f"{counted(len(drawn.unstable), 'class', 'classes')} ({small}) are",
            "it" if one else "each",
        )
    if left_out := int((side == LEFT_OUT).sum()):
        belong = "it belongs" if left_out == 1 else "they belong"
        drawn_for_test = counted(left_out, "image drawn for the test is", "images drawn for the test are")
        log.info("%s left out: %s together with images that validate", drawn_for_test, belong)
    if not (side == TEST).any():
        raise DataError(
            "No image is left to test on: all that could test belong together with images that validate; "
            "give a feature file of other images with --test."
        )
    warn_of_leaks(side, groups, images, store.class_names)
    if missing := list(too_few(Counter(images.labels[side == TRAIN].tolist()), store.class_names, 1)):
        what, has, it = ("class", "has", "it") if len(missing) == 1 else ("classes", "have", "them")
        no_rows = f"The {what} {few(quoted(missing))} {has} no training rows"
        raise DataError(f"{no_rows} in '{store.path}'; give {it} some, or drop the {what}.")
    views = store.rows_of_views(used)
    views = np.concatenate([views, np.full((len(images) - len(used), views.shape[1]), -1, np.int64)])
    return StoredSplit(images, groups, side, store.class_names, tuple(stores), origin, views, store.made_views)


def labelled(store: FeatureStore) -> np.ndarray:
    """Return the plain rows that have a label: int64 (n,), ascending."""
    return np.flatnonzero((store.labels >= 0) & (store.views == 0))


def named_files(store: FeatureStore, rows: Iterable[int]) -> list[ImageFile]:
    """Return where the photo of each row lies, or lay."""
    return [*map(images_at(store.source), (store.paths[row] for row in rows))]


def file_finder(store: FeatureStore) -> Callable[[int], ImageFile | None]:
    """Return what finds the image of a row; None where it must not be shown: a file from somebody else must not show others."""
    image_of = images_at(store.source)

    def file_of(row: int) -> ImageFile | None:
        file, name = image_of(store.paths[row]), Path(store.paths[row])
        inside = not name.is_absolute() and ".." not in name.parts
        with contextlib.suppress(OSError):
            if inside or content_digest(file) == store.sha256[row]:
                return file
        return None

    return file_of


def _check_classes(store: FeatureStore, labels: np.ndarray, groups: np.ndarray, least: int, what: str) -> None:
    if not len(labels):
        raise DataError(f"No row of '{store.path}' has a label; extract from one folder per class, or from a CSV with labels.")
    different = groups_of_classes(labels, groups)
    there = [store.class_names[label] for label in different]
    check_two_classes(there, f"labelled rows of '{store.path}'", "; a head needs images of at least two classes.")
    if small := too_few(different, store.class_names, least):
        few_of = too_few_text(small, what, " of images that belong together" if what == "group" else "")
        out = "the class" if len(small) == 1 else "these classes"
        raise DataError(
            f"{few_of} in '{store.path}'; give every class at least {counted(least, 'different image')}, or leave {out} out."
        )


def _check_specs(features: FeatureFiles, others: FeatureFiles, split: str) -> None:
    """Make sure that second feature files hold what the main ones hold, in the same order."""
    if len(features.files) != len(others.files):
        raise DataError(
            f"There are {counted(len(features.files), 'feature file')} and {counted(len(others.files), 'file')} of --{split}; "
            f"give --{split} one for each, in the same order."
        )
    for store, other in zip(features.files, others.files, strict=True):
        if other.spec_digest != store.spec_digest:
            differences = "; ".join(spec_differences(other.spec, store.spec))
            raise ModelMismatchError(
                f"'{other.path}' and '{store.path}' hold different features ({differences}); "
                "extract both with the same options, and an int8 file with --like the other."
            )


def _table_of_other(store: FeatureStore, other: FeatureStore, main: ImageTable, split: str) -> ImageTable:
    """Take the labelled rows of a second feature file, with the labels of the first."""
    if unknown := sorted(set(other.class_names) - set(store.class_names)):
        raise ModelMismatchError(
            f"'{other.path}' has the class '{unknown[0]}', which '{store.path}' has not; give both the same classes."
        )
    used = labelled(other)
    if not len(used):
        raise DataError(f"No row of '{other.path}' has a label; give a labelled file to --{split}.")
    table = table_of_store(other, used, store.class_names)
    if set(table.sha256) <= set(main.sha256):
        raise DataError(
            f"Every labelled image of '{other.path}' is in '{store.path}' too; give --{split} a file of other images, "
            "or leave it out."
        )
    there = np.unique(table.labels)
    if split == VALID:
        names = [store.class_names[label] for label in there]
        what = f"labelled images of '{other.path}'"
        check_two_classes(names, what, ", by which no head can be chosen; give --valid images of every class.")
    missing = sorted(set(store.class_names) - {store.class_names[i] for i in there})
    if missing and split == VALID:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        log.warning("'%s' has no image of '%s'%s, so the other classes alone choose the head", other.path, missing[0], more)
    return replace(table, paths=tuple(f"{split}:{path}" for path in table.paths), given=(split,) * len(table))
