"""Which rows train, which choose, which test. Pure functions over columns.

Every choice is made by a keyed digest of the image's content, so it depends on
neither the order of the rows nor on names: identical files always stand on one
side, and the same images give the same split on every machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ffe.errors import DataError
from ffe.keys import bytes_digest


def hold_out(labels: np.ndarray, sha256: Sequence[str], fraction: float, seed: int) -> np.ndarray:
    """Choose rows to hold out, the same share of every class.

    Args:
        labels: int64 (N,), all >= 0.
        sha256: digest of each row's image; equal digests stay together.
        fraction: share to hold out, in (0, 1).
        seed: another seed, another choice.

    Returns:
        bool (N,): True = held out. At least one image of each class is, and at
        least one is not, where a class has two different images.
    """
    held = np.zeros(len(labels), bool)
    for _, groups in _groups(labels, sha256, f"hold out {seed}"):
        count = min(max(1, round(len(groups) * fraction)), len(groups) - 1)
        for rows in groups[:count]:
            held[rows] = True
    return held


def different_images(labels: np.ndarray, sha256: Sequence[str]) -> Counter[int]:
    """Count the different images of each class; one that stands in two classes counts for the lower one."""
    return Counter({label: len(groups) for label, groups in _groups(labels, sha256, "")})


def assign_folds(
    labels: np.ndarray, sha256: Sequence[str], folds: int, seed: int, class_names: Sequence[str] | None = None
) -> np.ndarray:
    """Deal rows into folds of equal size and equal share of every class.

    Args:
        labels: int64 (N,), all >= 0.
        sha256: digest of each row's image; equal digests stay together.
        folds: number of folds.
        seed: another seed, another choice.
        class_names: for messages; None = their numbers.

    Returns:
        int64 (N,), the fold of each row, in [0, folds).

    Raises:
        DataError: a class has fewer different images than folds.
    """
    fold = np.zeros(len(labels), np.int64)
    next_fold = 0
    for label, groups in _groups(labels, sha256, f"fold {seed}"):
        if len(groups) < folds:
            name = f"number {label}" if class_names is None else f"'{class_names[label]}'"
            raise DataError(
                f"The class {name} has {len(groups)} different images for {folds} folds; add images of it, or use fewer --folds."
            )
        for rows in groups:
            fold[rows] = next_fold
            next_fold = (next_fold + 1) % folds
    return fold


def _groups(labels: np.ndarray, sha256: Sequence[str], key: str) -> list[tuple[int, list[list[int]]]]:
    """Return, by class, the rows of each different image, in keyed order.

    An image that stands in two classes is dealt once, with the lower one.
    """
    rows_of: dict[str, list[int]] = {}
    for i, digest in enumerate(sha256):
        rows_of.setdefault(digest, []).append(i)
    by_class: dict[int, list[tuple[str, list[int]]]] = {}
    for digest, rows in rows_of.items():
        label = min(int(labels[i]) for i in rows)
        by_class.setdefault(label, []).append((bytes_digest(f"{key} {digest}".encode()), rows))
    return [(label, [rows for _, rows in sorted(by_class[label])]) for label in sorted(by_class)]
