"""A confusion matrix -> cells to draw, each with the pictures that lie in it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffe.report.values import Picture

MAX_CLASSES = 60  # a matrix of more is no longer read; those with most mistakes are shown
MAX_RIGHT, MAX_WRONG = 8, 24  # pictures of a cell on the diagonal, and off it
MAX_PICTURES = 900  # in all cells: about 3 MB
HEATS = 9
_WORST = 0.1  # the share of a class from which on its mistakes have the strongest colour


@dataclass(frozen=True)
class Cell:
    """One cell."""

    # true, predicted: its place, indices into the class names
    true: int
    predicted: int
    count: int  # photos in it
    share: float  # of the photos of the true class, in [0, 1]
    interval: Sequence[float] | None  # (low, high) of the number of photos, or None
    heat: int  # 0 (none) to HEATS; shares on the diagonal, and for mistakes relative to the worst cell (a tenth, at least)
    pictures: tuple[Picture, ...]  # those to show

    @property
    def right(self) -> bool:
        """Whether it lies on the diagonal."""
        return self.true == self.predicted


@dataclass(frozen=True)
class Matrix:
    """What is drawn: indices of the classes shown, in order; a row of cells for each; and how many classes are not shown."""

    classes: tuple[int, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int

    @property
    def filled(self) -> list[Cell]:
        """The cells with pictures: mistakes first, the most frequent first."""
        cells = [cell for row in self.rows for cell in row if cell.pictures]
        return sorted(cells, key=lambda cell: (cell.right, -cell.count, cell.true, cell.predicted))


def matrix_of(
    confusion: Sequence[Sequence[int]],
    pictures: Sequence[Picture],
    intervals: Sequence[Sequence[Sequence[float]]] | None = None,
) -> Matrix:
    """Return the cells of a confusion matrix of counts: K rows true, K columns predicted; ``intervals``: K times K pairs.

    Of the photos counted, as far as they are at hand, a cell shows the most confident mistakes, or on the diagonal
    the least certain right answers; fewer where all together would be too many.
    """
    counts = np.asarray(confusion)
    wrong = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    classes = sorted(np.argsort(-wrong, kind="stable")[:MAX_CLASSES].tolist())
    inside: dict[tuple[int, int], list[Picture]] = defaultdict(list)
    chosen = set(classes)
    for picture in pictures:
        if picture.true in chosen and picture.predicted in chosen:
            inside[picture.true, picture.predicted].append(picture)
    shown = _choose(inside)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    mistakes = shares[np.ix_(classes, classes)] * ~np.eye(len(classes), dtype=bool)
    worst = max(float(mistakes.max(initial=0)), _WORST)

    def cell(i: int, j: int) -> Cell:
        share = float(shares[i, j])
        heat = math.ceil((share if i == j else math.sqrt(share / worst)) * HEATS - 1e-9)
        return Cell(i, j, int(counts[i, j]), share, None if intervals is None else intervals[i][j], heat, shown.get((i, j), ()))

    return Matrix(tuple(classes), tuple(tuple(cell(i, j) for j in classes) for i in classes), len(counts) - len(classes))


def _choose(inside: dict[tuple[int, int], list[Picture]]) -> dict[tuple[int, int], tuple[Picture, ...]]:
    """Choose what each cell shows, no more than ``MAX_PICTURES``; those of equal probability (to nine digits) go by path."""
    for wrong, right in ((MAX_WRONG, MAX_RIGHT), (12, 6), (6, 4), (3, 2), (1, 1)):
        caps = {place: right if place[0] == place[1] else wrong for place in inside}
        if sum(min(caps[place], len(found)) for place, found in inside.items()) <= MAX_PICTURES:
            break
    shown = {}
    left = MAX_PICTURES
    for place in sorted(inside, key=lambda place: (-len(inside[place]), place)):
        sign = 1 if place[0] == place[1] else -1
        best = sorted(inside[place], key=lambda picture: (sign * round(picture.probability, 9), picture.path))
        shown[place] = tuple(best[: min(caps[place], left)])
        left -= len(shown[place])
    return shown
