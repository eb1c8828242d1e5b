"""Which labelled rows of which feature files train, choose and test."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffe.errors import DataError, ModelMismatchError
from ffe.keys import spec_differences
from ffe.splits.sides import different_images, hold_out
from ffe.store.reader import FeatureStore

log = logging.getLogger("ffe")


@dataclass(frozen=True)
class SplitRows:
    """The labelled rows of one to three feature files, with the split of each.

    Attributes:
        labels: int64 (N,), in the classes of the main file.
        split: str (N,), ``train``, ``valid`` or ``test``.
        sha256, names: N strings; a name is a path, behind ``valid:`` or ``test:`` for a second file.
        class_names: of the main file.
        origin: int64 (N, 2), (file, row in it).
        files: the feature files.
    """

    labels: np.ndarray
    split: np.ndarray
    sha256: tuple[str, ...]
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    origin: np.ndarray
    files: tuple[Path, ...]

    def load(self, chosen: np.ndarray) -> np.ndarray:
        """Read the features of some rows: bool (N,) -> float32 (n, D)."""
        parts = []
        for i, path in enumerate(self.files):
            rows = self.origin[chosen & (self.origin[:, 0] == i), 1]
            if len(rows):
                with FeatureStore(path) as store:
                    parts.append(store.features(rows))
        features = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if not np.isfinite(features).all():
            bad = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
            name = self.names[int(np.flatnonzero(chosen)[bad])]
            raise DataError(f"The features of '{name}' hold NaN or infinity; make them again with 'ffe extract --overwrite'.")
        return features

    def counts(self) -> dict[str, int]:
        """Return how many rows each split has."""
        return {name: int((self.split == name).sum()) for name in ("train", "valid", "test")}


def split_rows(
    store: FeatureStore,
    valid: str | os.PathLike[str] | None,
    test: str | os.PathLike[str] | None,
    test_fraction: float,
    seed: int,
) -> SplitRows:
    """Gather labelled rows and decide who trains, chooses and tests."""
    used = np.flatnonzero(store.labels >= 0)
    if len(used) < len(store):
        log.warning("%d rows of '%s' have no label and are left out", len(store) - len(used), store.path)
    labels = store.labels[used]
    given = np.asarray(store.split, object)[used]
    # one image to train on, one to choose with, one to test on: unless a split brings the latter two
    least = 1 + (valid is None and "valid" not in given) + (test is None and "test" not in given)
    _check_classes(store, labels, [store.sha256[i] for i in used], least)
    split = np.where(given == "", "train", given).astype("U5")
    columns = [(labels, split, [store.sha256[i] for i in used], [store.paths[i] for i in used], used)]
    files = [store.path]
    for name, path in (("valid", valid), ("test", test)):
        if path is None:
            continue
        if (split == name).any():
            raise DataError(f"'{store.path}' brings its own {name} rows; leave --{name} out, or give a file without them.")
        with FeatureStore(path) as other:
            columns.append(_rows_of_other(store, other, name))
            files.append(other.path)
    all_labels = np.concatenate([column[0] for column in columns])
    all_split = np.concatenate([column[1] for column in columns])
    sha256 = tuple(digest for column in columns for digest in column[2])
    names = tuple(name for column in columns for name in column[3])
    origin = np.concatenate([np.stack([np.full(len(c[4]), i), c[4]], 1) for i, c in enumerate(columns)])
    if not (all_split == "test").any():
        training = np.flatnonzero(all_split == "train")
        held = hold_out(all_labels[training], [sha256[i] for i in training], test_fraction, seed)
        all_split[training[held]] = "test"
    rows = SplitRows(all_labels, all_split, sha256, names, store.class_names, origin, tuple(files))
    _warn_of_leaks(rows)
    missing = [n for i, n in enumerate(store.class_names) if not ((all_labels == i) & (all_split == "train")).any()]
    if missing:
        raise DataError(f"The class '{missing[0]}' has no training rows in '{store.path}'; give it some, or drop the class.")
    return rows


def _check_classes(store: FeatureStore, labels: np.ndarray, sha256: Sequence[str], least: int) -> None:
    if not len(labels):
        raise DataError(f"No row of '{store.path}' has a label; extract from one folder per class, or from a CSV with labels.")
    different = different_images(labels, sha256)
    if len(different) < 2:
        only = store.class_names[int(labels[0])]
        raise DataError(
            f"All labelled rows of '{store.path}' are of one class ('{only}'); a head needs images of at least two classes."
        )
    for i, name in enumerate(store.class_names):
        if different[i] < least:
            count = f"{different[i]} image{'s' if different[i] != 1 else ''}"
            raise DataError(
                f"The class '{name}' has only {count} in '{store.path}'; "
                f"give every class at least {least} different images, or leave the class out."
            )


def _rows_of_other(store: FeatureStore, other: FeatureStore, split: str) -> tuple[Any, ...]:
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
    used = np.flatnonzero(other.labels >= 0)
    if not len(used):
        raise DataError(f"No row of '{other.path}' has a label; give a labelled file to --{split}.")
    index = np.asarray([store.class_names.index(name) for name in other.class_names], np.int64)
    return (
        index[other.labels[used]],
        np.full(len(used), split, "U5"),
        [other.sha256[i] for i in used],
        [f"{split}:{other.paths[i]}" for i in used],
        used,
    )


def _warn_of_leaks(rows: SplitRows) -> None:
    sides: dict[str, set[str]] = {}
    classes: dict[str, set[int]] = {}
    for digest, split, label in zip(rows.sha256, rows.split.tolist(), rows.labels.tolist(), strict=True):
        sides.setdefault(digest, set()).add(split)
        classes.setdefault(digest, set()).add(label)
    shared = sum("test" in splits and len(splits) > 1 for splits in sides.values())
    if shared:
        log.warning("%d images stand in the test split and in another one, so the test score is too good", shared)
    twice = sum(len(labels) > 1 for labels in classes.values())
    if twice:
        log.warning("%d images stand in more than one class; look for wrong labels", twice)
