"""Which of many rows a search looks at: drawn by keyed digests, in whole numbers, so the same on every machine."""

from __future__ import annotations

import numpy as np

from ffe.base.digests import bytes_digest
from ffe.dataset.assign_sides import ImageSplit
from ffe.splits.holdout import LEFT_OUT, TRAIN, VALID

SEARCH_ROWS = 50_000  # images that a search looks at; the head is fitted on all of them afterwards
FIT_ROWS = 20_000  # ... of which so many are fitted on, and the others scored, where neither folds nor validation rows are given
_FEWEST_OF_A_CLASS = 50
_DIGITS = 15  # of a digest in hexadecimal, that a draw has


def searched_sides(split: ImageSplit, folds: int | None, seed: int) -> np.ndarray:
    """Return the sides str (N,) as a search sees them: of more than 50,000 images, those beside a sample are left out.

    Where there are no validation rows, and no folds are asked for, those of the sample that are not fitted on validate.
    """
    train, valid = split.rows(TRAIN), split.rows(VALID)
    if len(train) + len(valid) <= SEARCH_ROWS:
        return split.side
    side = np.full_like(split.side, LEFT_OUT)
    if len(valid):
        parts = [*_drawn(split, train, [FIT_ROWS], seed), *_drawn(split, valid, [SEARCH_ROWS - FIT_ROWS], seed)]
    else:
        parts = _drawn(split, train, [FIT_ROWS, SEARCH_ROWS - FIT_ROWS] if folds is None else [SEARCH_ROWS], seed)
    for name, part in zip((TRAIN, VALID), parts, strict=False):
        side[part] = name
    for label in np.setdiff1d(split.images.labels[train], split.images.labels[side == TRAIN]).tolist():
        row = int(train[split.images.labels[train] == label][0])  # all its images stand in groups of other classes
        side[train[split.groups.ids[train] == split.groups.ids[row]]] = TRAIN
    return side


def _drawn(split: ImageSplit, among: np.ndarray, counts: list[int], seed: int) -> list[np.ndarray]:
    """Draw parts of about so many of some rows, int64 (n,): whole groups, as large a share of every class, 50 where there are.

    All groups of a class, which is that of the row drawn first of it, stand in a line; a part takes from it until it has its
    share, and the next goes on there.
    """
    names = (split.images.sha256[row] for row in among.tolist())
    keys = np.asarray([int(bytes_digest(f"sample {seed} {name}".encode())[:_DIGITS], 16) for name in names], np.int64)
    order = np.argsort(keys, kind="stable")
    rows, (_, first, group, sizes) = (
        among[order],
        np.unique(split.groups.ids[among[order]], return_index=True, return_inverse=True, return_counts=True),
    )
    label, group = split.images.labels[rows[first]], group.reshape(-1)
    taken: list[list[int]] = [[] for _ in counts]
    for own in (np.flatnonzero(label == wanted) for wanted in np.unique(label).tolist()):
        line = own[np.argsort(first[own], kind="stable")]
        ends, at = np.cumsum(sizes[line]), 0
        for part, count in zip(taken, counts, strict=True):
            before = int(ends[at - 1]) if at else 0
            share = max(-(-count * int(ends[-1]) // len(rows)), min(_FEWEST_OF_A_CLASS, int(ends[-1]) // len(counts)), 1)
            upto = min(int(np.searchsorted(ends, before + share)) + 1, len(line))
            part += line[at:upto].tolist()
            at = upto
    return [np.sort(rows[np.isin(group, part)]) for part in taken]
