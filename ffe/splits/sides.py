"""Which rows train, and which test. Pure functions over columns.

Every choice is made by a keyed digest of the image's content, or of the name of
its group where the source gives one. So it depends neither on the order of the
rows nor on their paths, nor on which other images there are: an image that
trains never tests after others were added, nor the other way round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffe.keys import bytes_digest

TRAIN, VALID, TEST, LEFT_OUT = "train", "valid", "test", ""


@dataclass(frozen=True, eq=False)
class Sides:
    """On which side each row stands.

    Attributes:
        side: str (N,), ``train``, ``test``, or empty = left out of both.
        unstable: labels of the classes, ascending, of which chance had put no
            image or every image into the test. One of their groups was moved,
            and may move back when images are added.
    """

    side: np.ndarray
    unstable: tuple[int, ...] = ()


def hold_out(
    labels: np.ndarray,
    sha256: Sequence[str],
    groups: np.ndarray,
    fraction: float,
    seed: int,
    *,
    names: Sequence[str] | None = None,
    training: np.ndarray | None = None,
) -> Sides:
    """Hold out images for the test, about the same share of every class.

    Each image draws a number u in [0, 1) from a digest of itself and the seed,
    and tests if u < ``fraction``. Images that belong together may draw both
    sides: then those that train stay, and those that would test are left out,
    since whichever side they stood on, they would leak, or would have moved.

    Args:
        labels: int64 (N,), all >= 0.
        sha256: digest of each row's image; copies draw the same.
        groups: int64 (N,), equal for rows that belong together: ``Groups.ids``.
        fraction: share to hold out, in (0, 1).
        seed: another seed, another choice.
        names: named group of each row, which draws for all of its images; empty = none.
        training: bool (N,), rows that must not test; None = no such rows.

    Returns:
        A side for every row. Where a class has two groups or more, at least one
        of them trains and at least one tests.
    """
    keys = sha256 if names is None else [f"group {name}" if name else digest for name, digest in zip(names, sha256, strict=True)]
    of_key = {key: _drawn(key, seed) for key in set(keys)}
    drawn = np.asarray([of_key[key] for key in keys])
    fixed = np.zeros(len(labels), bool) if training is None else training
    _, group = np.unique(groups, return_inverse=True)
    group = group.reshape(-1)
    tests = (drawn < fraction) & ~fixed
    mixed = np.bincount(group, ~tests) > 0
    side = np.where(tests, np.where(mixed[group], LEFT_OUT, TEST), TRAIN).astype("U5")
    unstable = []
    for label in np.unique(labels).tolist():
        for wanted in (TRAIN, TEST):
            of_class = labels == label
            if (side[of_class] == wanted).any():
                continue
            movable = of_class & ~np.isin(group, group[fixed]) if wanted == TEST else of_class
            order = np.argsort(drawn if wanted == TEST else -drawn, kind="stable")
            for candidate in dict.fromkeys(group[order[movable[order]]].tolist()):
                moved = np.where(group == candidate, wanted, side)
                if _both_sides_or_as_before(labels, side, moved, group == candidate):
                    side = moved
                    unstable.append(int(label))
                    break
    return Sides(side, tuple(unstable))


def _drawn(key: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on nothing but these two."""
    return int(bytes_digest(f"hold out {seed} {key}".encode())[:13], 16) / 16**13


def _both_sides_or_as_before(labels: np.ndarray, before: np.ndarray, after: np.ndarray, moved: np.ndarray) -> bool:
    """Return whether no class of the moved rows loses its last row of a side."""
    return all(
        (after[labels == label] == side).any() or not (before[labels == label] == side).any()
        for label in np.unique(labels[moved]).tolist()
        for side in (TRAIN, TEST)
    )


def groups_of_classes(labels: np.ndarray, groups: np.ndarray) -> Counter[int]:
    """Count the groups of each class; one that stands in several classes counts for each.

    Args:
        labels: int64 (N,), all >= 0.
        groups: int64 (N,), equal for rows that belong together.
    """
    pairs = np.unique(np.stack([labels, groups]), axis=1)
    return Counter(pairs[0].tolist())
