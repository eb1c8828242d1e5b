"""Which labelled rows of which feature files train, choose and test."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from ffe.base.text import counted, few, numbered, quoted
from ffe.dataset.assign import say_moved
from ffe.dataset.leaks import leaking, warn_of_leaks
from ffe.dataset.load import load_rows, pooled_rows
from ffe.errors import DataError, ModelMismatchError
from ffe.specs import ViewsSpec, spec_differences
from ffe.splits.groups import Groups, find_groups
from ffe.splits.holdout import LEFT_OUT, TEST, TRAIN, VALID, groups_of_classes, hold_out
from ffe.store.reader import FeatureStore

log = logging.getLogger("ffe")


@dataclass(frozen=True, eq=False)
class SplitRows:
    """The labelled images of one to three feature files, with the split of each: their plain rows, and the views of them.

    Attributes:
        labels: int64 (N,), in the classes of the main file.
        split: str (N,), ``train``, ``valid`` or ``test``; or empty: left out of
            all three, because the row would test, and one that it belongs to validates.
        sha256, names: N strings; a name is a path, behind ``valid:`` or ``test:`` for a second file.
        class_names: of the main file.
        origin: int64 (N, 2), (file, row in it).
        stores: the feature files, open.
        groups: which of the rows belong together.
        views: int64 (N, K), the row of each view in the main file, -1 = none.
        made_views: what the views are; None = the main file has none.
    """

    labels: np.ndarray
    split: np.ndarray
    sha256: tuple[str, ...]
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    origin: np.ndarray
    stores: tuple[FeatureStore, ...]
    groups: Groups
    views: np.ndarray
    made_views: ViewsSpec | None

    def load(self, chosen: np.ndarray, views: np.ndarray | None = None) -> np.ndarray:
        """Read the features of some rows, a memory map where memory is short.

        Args:
            chosen: bool (N,).
            views: int64 (m,), rows of views in the main file, which come behind them.

        Returns:
            float32 (n + m, D).
        """
        more = np.empty(0, np.int64) if views is None else views
        return load_rows(self.stores, np.concatenate([self.origin[chosen], np.stack([np.zeros_like(more), more], 1)]))

    def anonymous(self) -> SplitRows:
        """Return the same rows without digests, and with numbers for names."""
        count = len(self.names)
        return replace(self, names=numbered(count), sha256=("",) * count)

    def counts(self) -> dict[str, int]:
        """Return how many rows each split has, and how many are left out."""
        names = {"train": "train", "valid": "valid", "test": "test", "left_out": LEFT_OUT}
        return {name: int((self.split == split).sum()) for name, split in names.items()}

    def leaking(self, cause: str = "named") -> np.ndarray:
        """Return which test rows belong to one that trains or chooses: bool (N,); see ``ffe.dataset.leaks``."""
        return leaking(self.split, self.groups, cause)


def split_rows(
    store: FeatureStore,
    valid: FeatureStore | None,
    test: FeatureStore | None,
    test_fraction: float,
    seed: int,
    tested: Collection[str] = (),
) -> SplitRows:
    """Gather labelled rows and decide who trains, chooses and tests.

    Splits that the files bring are kept. Without a test split, about
    ``test_fraction`` of the training rows are held out; see ``ffe.splits``.

    Args:
        store: the main feature file.
        valid, test: feature files with further rows, for choosing and for the test; all stay open while features are read.
        test_fraction: in (0, 1).
        seed: of the hold-out.
        tested: digests of images that tested in the model that is replaced, and test again.

    Raises:
        DataError: the rows cannot be split, or their features are no numbers.
        ModelMismatchError: the files hold other features, or other classes.
    """
    used, plain = labelled(store), len(store.plain)
    if len(used) < plain:
        unlabelled = [store.paths[row] for row in store.plain.tolist() if store.labels[row] < 0]
        have = "has no label and is left out" if len(unlabelled) == 1 else "have no label and are left out"
        log.warning("%s of '%s' %s (%s)", counted(len(unlabelled), "row"), store.path, have, few(quoted(sorted(unlabelled))))
    labels = store.labels[used]
    given = np.asarray(store.split, object)[used]
    # one image to train on, one to choose with, one to test on: unless a split brings the latter two
    least = 1 + (valid is None and "valid" not in given) + (test is None and TEST not in given)
    _, image = np.unique([store.sha256[i] for i in used], return_inverse=True)
    _check_classes(store, labels, image.reshape(-1), least, "image")
    columns = [_Columns(store, used, labels, np.where(given == "", TRAIN, given).astype("U5"), "")]
    stores = [store]
    for name, other in (("valid", valid), ("test", test)):
        if other is None:
            continue
        if (columns[0].split == name).any():
            raise DataError(f"'{store.path}' brings its own {name} rows; leave --{name} out, or give a file without them.")
        columns.append(_rows_of_other(store, other, name))
        stores.append(other)
    all_labels = np.concatenate([column.labels for column in columns])
    all_split = np.concatenate([column.split for column in columns])
    sha256 = tuple(digest for column in columns for digest in column.sha256)
    names = tuple(name for column in columns for name in column.names)
    origin = np.concatenate([np.stack([np.full(len(c.used), i), c.used], 1) for i, c in enumerate(columns)])
    named = [name for column in columns for name in column.group]
    phash = np.concatenate([column.phash for column in columns])
    groups = find_groups(sha256, phash, pooled_rows(stores, origin, names), named)
    if not (all_split == TEST).any():
        _check_classes(store, labels, groups.ids[: len(used)], least, "group")
        valid_rows = all_split == "valid"
        sides = hold_out(all_labels, sha256, groups.ids, test_fraction, seed, names=named, training=valid_rows, tested=tested)
        all_split = np.where(valid_rows, "valid", sides.side).astype("U5")
        say_moved(sides)
        if sides.unstable:
            small = few(quoted(store.class_names[label] for label in sides.unstable))
            one = len(sides.unstable) == 1
            log.warning(
                "%s so small that a test or training image had to be picked for %s; the pick may change when images are added",
                f"the class {small} is" if one else f"{counted(len(sides.unstable), 'class', 'classes')} ({small}) are",
                "it" if one else "each",
            )
    views = store.rows_of_views(used)
    views = np.concatenate([views, np.full((len(all_labels) - len(used), views.shape[1]), -1, np.int64)])
    rows = SplitRows(
        all_labels, all_split, sha256, names, store.class_names, origin, tuple(stores), groups, views, store.made_views
    )
    left_out = int((rows.split == LEFT_OUT).sum())
    if left_out:
        belong = "it belongs" if left_out == 1 else "they belong"
        images = counted(left_out, "image drawn for the test is", "images drawn for the test are")
        log.info("%s left out: %s together with images that validate", images, belong)
    if not (all_split == TEST).any():
        raise DataError(
            "No image is left to test on: all that could test belong together with images that validate; "
            "give a feature file of other images with --test."
        )
    warn_of_leaks(rows.split, groups, sha256, all_labels, names)
    missing = [n for i, n in enumerate(store.class_names) if not ((all_labels == i) & (all_split == TRAIN)).any()]
    if missing:
        what, it, of = ("class", "it", "the class") if len(missing) == 1 else ("classes", "them", "the classes")
        has = "has" if len(missing) == 1 else "have"
        raise DataError(
            f"The {what} {few(quoted(missing))} {has} no training rows in '{store.path}'; give {it} some, or drop {of}."
        )
    return rows


def labelled(store: FeatureStore) -> np.ndarray:
    """Return the plain rows that have a label: int64 (n,), ascending."""
    return np.flatnonzero((store.labels >= 0) & (store.views == 0))


class _Columns:
    """The labelled rows of one file: its columns, and where they come from."""

    def __init__(self, store: FeatureStore, used: np.ndarray, labels: np.ndarray, split: np.ndarray, prefix: str) -> None:
        self.used = used
        self.labels = labels
        self.split = split
        self.phash = store.phash[used]
        self.sha256 = [store.sha256[i] for i in used]
        self.group = [store.group[i] for i in used]
        self.names = [f"{prefix}{store.paths[i]}" for i in used]


def _check_classes(store: FeatureStore, labels: np.ndarray, groups: np.ndarray, least: int, what: str) -> None:
    if not len(labels):
        raise DataError(f"No row of '{store.path}' has a label; extract from one folder per class, or from a CSV with labels.")
    different = groups_of_classes(labels, groups)
    if len(different) < 2:
        only = store.class_names[int(labels[0])]
        raise DataError(
            f"All labelled rows of '{store.path}' are of one class ('{only}'); a head needs images of at least two classes."
        )
    small = [i for i in range(len(store.class_names)) if different[i] < least]
    if not small:
        return
    of = " of images that belong together" if what == "group" else ""
    name = store.class_names[small[0]]
    few_of = f"The class '{name}' has only {counted(different[small[0]], what)}{of}"
    out = "the class"
    if len(small) > 1:
        names = few([f"'{store.class_names[i]}' ({different[i]})" for i in small])
        few_of, out = f"{counted(len(small), 'class has', 'classes have')} too few {what}s{of}: {names}", "these classes"
    raise DataError(
        f"{few_of} in '{store.path}'; give every class at least {counted(least, 'different image')}, or leave {out} out."
    )


def _rows_of_other(store: FeatureStore, other: FeatureStore, split: str) -> _Columns:
    """Take the labelled rows of a second feature file, with the labels of the first."""
    if other.spec_digest != store.spec_digest:
        differences = "; ".join(spec_differences(other.spec, store.spec))
        raise ModelMismatchError(
            f"'{other.path}' and '{store.path}' hold different features ({differences}); "
            "extract both with the same options, and an int8 file with --like the other."
        )
    unknown = sorted(set(other.class_names) - set(store.class_names))
    if unknown:
        raise ModelMismatchError(
            f"'{other.path}' has the class '{unknown[0]}', which '{store.path}' has not; give both the same classes."
        )
    used = labelled(other)
    if not len(used):
        raise DataError(f"No row of '{other.path}' has a label; give a labelled file to --{split}.")
    known = {store.sha256[i] for i in labelled(store)}
    if all(other.sha256[i] in known for i in used):
        raise DataError(
            f"Every labelled image of '{other.path}' is in '{store.path}' too; give --{split} a file of other images, "
            "or leave it out."
        )
    there = np.unique(other.labels[used])
    if split == VALID and len(there) < 2:
        raise DataError(
            f"All labelled images of '{other.path}' are of one class ('{other.class_names[there[0]]}'), "
            "by which no head can be chosen; give --valid images of every class."
        )
    missing = sorted(set(store.class_names) - {other.class_names[i] for i in there})
    if missing and split == VALID:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        log.warning("'%s' has no image of '%s'%s, so the other classes alone choose the head", other.path, missing[0], more)
    index = np.asarray([store.class_names.index(name) for name in other.class_names], np.int64)
    return _Columns(other, used, index[other.labels[used]], np.full(len(used), split, "U5"), f"{split}:")
