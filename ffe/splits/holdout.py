"""Which rows train, and which test. Pure functions over columns.

Every choice is made by a keyed digest of an image's content, or of the name of
its group where the source gives one, in whole numbers. So it depends neither on
the order of the rows nor on their paths, nor on the processor. Images that
belong together stand on one side: the one that their first member draws, that
is the smallest name of a group, or without names the smallest digest.

So an image that is added moves no other one, with three exceptions. It may join
a group and be its new first member, or join two groups to one; the share that
tests may leave the bounds of ``SLACK``; a class may be too small for chance.
What tested before stays in the test all the same, where the caller names it:
``tune``, ``train`` and ``scratch`` name the test images of the model that they
replace. Under another name a model remembers nothing, and the test is drawn anew.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ffe.base.digests import bytes_digest

TRAIN, VALID, TEST, LEFT_OUT = "train", "valid", "test", ""

SLACK = 0.05  # the share that tests is as near as this to what was asked, where groups are small enough
_DIGITS = 13  # of a digest in hexadecimal, that a draw has
_DRAWS = 16**_DIGITS


@dataclass(frozen=True, eq=False)
class HoldOut:
    """On which side each row stands."""

    side: np.ndarray  # str (N,), ``train``, ``test``, or empty = left out of both
    # labels of the classes, ascending, of which chance had put no image or every image into the test: one of their groups was
    # moved, and may move back when images are added
    unstable: tuple[int, ...] = ()
    moved: int = 0  # rows that were moved to bring the share that tests near to what was asked; negative = out of the test
    kept: int = 0  # rows that stay in the test because they tested before


def hold_out(
    labels: np.ndarray,
    sha256: Sequence[str],
    groups: np.ndarray,
    fraction: float,
    seed: int,
    *,
    names: Sequence[str] | None = None,
    training: np.ndarray | None = None,
    tested: Collection[str] = (),
) -> HoldOut:
    """Hold out images for the test, about the same share of every class.

    Each group draws a number in [0, 16**13) from a digest of its first member
    and the seed, and tests if that is below ``fraction`` of 16**13. Where the
    share of the rows that test is then off by more than ``SLACK``, the groups
    whose draws were nearest to it change sides, one by one, as long as that helps.

    Args:
        labels: int64 (N,), all >= 0.
        sha256: digest of each row's image; copies must be of one group.
        groups: int64 (N,), equal for rows that belong together: ``Groups.ids``.
        fraction: share to hold out, in (0, 1).
        seed: another seed, another choice.
        names: named group of each row, empty = none.
        training: bool (N,), rows that must not test; None = no such rows. What
            belongs to them and would test is left out.
        tested: digests of images that tested before: they and what belongs to them test.

    Returns:
        A side for every row. Where a class has two groups or more, at least one
        of them trains and at least one tests.
    """
    fixed = np.zeros(len(labels), bool) if training is None else training
    group = np.unique(groups, return_inverse=True)[1].reshape(-1)
    count = int(group.max(initial=-1)) + 1
    first: dict[int, tuple[bool, str]] = {}
    for row in np.flatnonzero(~fixed).tolist():
        key = (False, names[row]) if names is not None and names[row] else (True, sha256[row])
        first[int(group[row])] = min(first.get(int(group[row]), key), key)
    drawn = {number: _drawn(key if alone else f"group {key}", seed) for number, (alone, key) in first.items()}
    order = sorted(drawn, key=lambda number: (drawn[number], first[number]))
    limit = math.ceil(fraction * _DRAWS)  # the product is exact: a power of two
    tests = np.zeros(count, bool)
    tests[[number for number in order if drawn[number] < limit]] = True
    known = np.zeros(count, bool)
    known[group[[row for row in np.flatnonzero(~fixed).tolist() if sha256[row] in tested]]] = True
    kept = sum(sha256[row] in tested for row in np.flatnonzero(known[group] & ~tests[group]).tolist()) if tested else 0
    tests |= known
    held_back = np.bincount(group[fixed], minlength=count) > 0  # rows that must not test belong to them
    sizes = np.bincount(group, minlength=count)
    moved = _bring_near(tests, [g for g in order if not held_back[g]], sizes, known, limit, int((~fixed).sum()))
    side = np.where(tests[group], np.where(held_back[group], LEFT_OUT, TEST), TRAIN).astype("U5")
    side[fixed] = TRAIN
    unstable = []
    for label in np.unique(labels).tolist():
        of_class = labels == label
        there = set(group[of_class].tolist())
        for wanted in (TRAIN, TEST):
            if (side[of_class] == wanted).any():
                continue
            candidates = [number for number in order if number in there and not (wanted == TEST and held_back[number])]
            if wanted == TRAIN:
                candidates.reverse()
                candidates.sort(key=lambda number: bool(known[number]))
            for candidate in candidates:
                changed = np.where((group == candidate) & ~fixed, wanted, side)
                if _no_class_loses_a_side(labels, side, changed, group == candidate, label if wanted == TRAIN else None):
                    side = changed
                    unstable.append(int(label))
                    break
    return HoldOut(side, tuple(unstable), moved, kept)


def _drawn(key: str, seed: int) -> int:
    """Return a number in [0, 16**13) that depends on nothing but these two."""
    return int(bytes_digest(f"hold out {seed} {key}".encode())[:_DIGITS], 16)


def _bring_near(tests: np.ndarray, order: Sequence[int], sizes: np.ndarray, known: np.ndarray, limit: int, total: int) -> int:
    """Move groups until the share that tests is within ``SLACK``, in whole numbers; return how many rows came into the test.

    Args:
        tests: bool (G,), changed in place.
        order: the groups that may move, by their draws.
        sizes: int64 (G,), rows of each.
        known: bool (G,), those that must not leave the test.
        limit: share of ``total`` rows that is asked, times ``_DRAWS``.
    """
    off = sum(int(sizes[number]) for number in order if tests[number]) * _DRAWS - limit * total
    most = (math.ceil(SLACK * _DRAWS) + 1) * total  # and one for what was rounded
    moved, before = 0, None
    while abs(off) > most and off != before:
        before, small = off, off < 0
        for number in order if small else reversed(order):
            rows = int(sizes[number]) * (1 if small else -1)
            if tests[number] == small or known[number] or abs(off + rows * _DRAWS) >= abs(off):
                continue
            tests[number] = small
            off += rows * _DRAWS
            moved += rows
            if abs(off) <= most or (off < 0) != small:
                break
    return moved


def _no_class_loses_a_side(labels: np.ndarray, before: np.ndarray, after: np.ndarray, moved: np.ndarray, but: int | None) -> bool:
    """Return whether no class of the moved rows loses its last row of a side; one may, of the test."""
    return all(
        (after[labels == label] == side).any() or not (before[labels == label] == side).any()
        for label in np.unique(labels[moved]).tolist()
        for side in ((TRAIN,) if label == but else (TRAIN, TEST))
    )


def groups_of_classes(labels: np.ndarray, groups: np.ndarray) -> Counter[int]:
    """Count the groups of each class, both int64 (N,); one that stands in several classes counts for each."""
    return Counter(np.unique(np.stack([labels, groups]), axis=1)[0].tolist())
