"""Folds for cross-validation: stratified, and never through a group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ffe.base.digests import bytes_digest
from ffe.base.text import counted
from ffe.errors import DataError
from ffe.splits.holdout import groups_of_classes


def assign_folds(
    labels: np.ndarray,
    sha256: Sequence[str],
    groups: np.ndarray,
    folds: int,
    seed: int,
    class_names: Sequence[str],
) -> np.ndarray:
    """Return the fold of each row, int64 (N,) in [0, folds), with about equal size and equal share of every class.

    Groups are assigned whole, the largest first, those of one size in the order of a keyed digest; each to the fold that has
    the fewest rows of its rarest class, of such to the smallest, of such to the first. Columns as of ``hold_out``. A DataError
    where there are more folds than groups, or than groups of one class.
    """
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    if folds > len(parts):
        raise DataError(
            f"There are {folds:,} folds, but only {counted(len(parts), 'group')} of images to deal into them; "
            "use fewer --folds, or add other images."
        )
    count = groups_of_classes(labels, groups)
    for label in sorted(count):
        if count[label] < folds:
            images = len({sha256[i] for i in np.flatnonzero(labels == label).tolist()})
            raise DataError(_too_few(class_names[label], images, count[label], folds))
    keys = {digest: bytes_digest(f"fold {seed} {digest}".encode()) for digest in set(sha256)}
    fold = np.zeros(len(labels), np.int64)
    filled = np.zeros((folds, int(labels.max()) + 1), np.int64)
    for rows in sorted(parts, key=lambda rows: (-len(rows), min(keys[sha256[i]] for i in rows))):
        of_rows = np.bincount(labels[rows], minlength=filled.shape[1])
        label = min(np.flatnonzero(of_rows).tolist(), key=lambda label: (count[label], label))
        best = int(np.lexsort((filled.sum(axis=1), filled[:, label]))[0])
        fold[rows] = best
        filled[best] += of_rows
    alone = np.flatnonzero((filled.max(axis=0) == filled.sum(axis=0)) & (filled.sum(axis=0) > 0))
    if len(alone):
        raise DataError(
            f"All images of the class '{class_names[alone[0]]}' fall into one fold, because they belong together with "
            "images of other classes; look for wrong labels, or use fewer --folds."
        )
    return fold


def _too_few(name: str, images: int, groups: int, folds: int) -> str:
    if images < folds:
        different = counted(images, "different image")
        return f"The class '{name}' has {different} for {folds:,} folds; add images of it, or use fewer --folds."
    return (
        f"The {counted(images, 'image')} of the class '{name}' form only {counted(groups, 'group')} that must stay together, "
        f"for {folds:,} folds; add other images of it, or use fewer --folds."
    )
