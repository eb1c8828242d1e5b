"""Which rows train, and which test: decided by keyed digests, in whole numbers; docs/design/splits.md says what follows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ffe.base.digests import bytes_digest

TRAIN, VALID, TEST, LEFT_OUT = "train", "valid", "test", ""
TESTED = "tested"  # of a model file: it tested the head, which was then fitted on it too

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
    """Hold out about ``fraction``, in (0, 1), of the images of every class, whole groups; docs/design/splits.md has the rules.

    Labels are int64 (N,), all >= 0; ``groups`` int64 (N,) are ``Groups.ids``, and copies are of one group; an empty name is
    none. Rows of ``training``, bool (N,), must not test, and what belongs to them and would test is left out. Images whose
    digests are in ``tested`` tested before: they and what belongs to them test.
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
    kept = sum(sha256[row] in tested for row in np.flatnonzero(known[group] & ~tests[group]).tolist())
    tests |= known
    held_back = np.bincount(group[fixed], minlength=count) > 0  # rows that must not test belong to them
    sizes = np.bincount(group, minlength=count)
    moved = _bring_near(tests, [g for g in order if not held_back[g]], sizes, known, limit, int((~fixed).sum()))
    side = np.where(tests[group], np.where(held_back[group], LEFT_OUT, TEST), TRAIN).astype("U5")
    side[fixed] = TRAIN
    unstable = []
    of_class, of_group, place = _lists(labels), _lists(group), {number: i for i, number in enumerate(order)}
    for label, rows in of_class.items():
        for wanted in (TRAIN, TEST):
            if (side[rows] == wanted).any():
                continue
            there = sorted(place.keys() & set(group[rows].tolist()), key=place.__getitem__)
            candidates = [number for number in there if not (wanted == TEST and held_back[number])]
            if wanted == TRAIN:
                candidates.reverse()
                candidates.sort(key=lambda number: bool(known[number]))
            for candidate in candidates:
                members = of_group[candidate]
                changed = members[~fixed[members]]
                touched = {int(of): of_class[int(of)] for of in np.unique(labels[members])}
                if _no_class_loses_a_side(touched, side, changed, wanted, label if wanted == TRAIN else None):
                    side[changed] = wanted
                    unstable.append(label)
                    break
    return HoldOut(side, tuple(unstable), moved, kept)


def _drawn(key: str, seed: int) -> int:
    """Return a number in [0, 16**13) that depends on nothing but these two."""
    return int(bytes_digest(f"hold out {seed} {key}".encode())[:_DIGITS], 16)


def _bring_near(tests: np.ndarray, order: Sequence[int], sizes: np.ndarray, known: np.ndarray, limit: int, total: int) -> int:
    """Move groups until the share that tests is within ``SLACK``, in whole numbers; return how many rows came into the test.

    Changes ``tests`` bool (G,) in place. ``order`` has the groups that may move, by their draws; those of ``known`` bool (G,)
    stay in the test; ``limit`` is the share of ``total`` rows that is asked, times ``_DRAWS``.
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


def _lists(numbers: np.ndarray) -> dict[int, np.ndarray]:
    """Return for each number of int64 (N,), ascending, where it stands: int64 (n,), ascending; in one sort for all of them."""
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order], return_index=True)
    return dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True))


def _no_class_loses_a_side(
    classes: Mapping[int, np.ndarray], side: np.ndarray, changed: np.ndarray, wanted: str, but: int | None
) -> bool:
    """Return whether no class, label -> its rows, loses its last row of a side by a change; one may, of the test."""
    for label, rows in classes.items():
        after = np.where(np.isin(rows, changed), wanted, side[rows])
        for name in (TRAIN,) if label == but else (TRAIN, TEST):
            if (side[rows] == name).any() and not (after == name).any():
                return False
    return True


def groups_of_classes(labels: np.ndarray, groups: np.ndarray) -> Counter[int]:
    """Count the groups of each class, both int64 (N,); one that stands in several classes counts for each."""
    return Counter(np.unique(np.stack([labels, groups]), axis=1)[0].tolist())
