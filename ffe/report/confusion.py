"""A confusion matrix -> cells to draw, each with the pictures that lie in it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ffe.report.values import Picture

MAX_CLASSES = 60  # a matrix of more is no longer read; those with most mistakes are shown
MAX_RIGHT, MAX_WRONG = 8, 24  # pictures of a cell on the diagonal, and off it
MAX_PICTURES = 900  # in all cells: about 3 MB
HEATS = 9
_WORST = 0.1  # the share of a class from which on its mistakes have the strongest colour


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        true, predicted: its place, indices into the class names.
        count: photos in it.
        share: of the photos of the true class, in [0, 1].
        interval: (low, high) of the number of photos, or None.
        heat: 0 (none) to HEATS; shares on the diagonal, and for mistakes relative to the worst cell (a tenth, at least).
        pictures: those to show.
    """

    true: int
    predicted: int
    count: int
    share: float
    interval: Sequence[float] | None
    heat: int
    pictures: tuple[Picture, ...]

    @property
    def right(self) -> bool:
        """Whether it lies on the diagonal."""
        return self.true == self.predicted


@dataclass(frozen=True)
class Matrix:
    """What is drawn.

    Attributes:
        classes: the indices of the classes shown, in order.
        rows: for each of them, a row of cells.
        left_out: classes that are not shown.
    """

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
    *,
    max_pictures: int = MAX_PICTURES,
) -> Matrix:
    """Return the cells of a confusion matrix.

    Off the diagonal the most confident mistakes are shown, on it the least
    certain right answers. Where all cells together would show too many pictures,
    each shows fewer.

    Args:
        confusion: K rows true, K columns predicted, counts.
        pictures: the photos counted; may be fewer.
        intervals: K times K pairs, or None.
        max_pictures: in all cells together.
    """
    count = len(confusion)
    classes = list(range(count))
    if count > MAX_CLASSES:
        wrong = [sum(confusion[i]) + sum(row[i] for row in confusion) - 2 * confusion[i][i] for i in classes]
        classes = sorted(sorted(classes, key=lambda i: (-wrong[i], i))[:MAX_CLASSES])
    inside: dict[tuple[int, int], list[Picture]] = defaultdict(list)
    chosen = set(classes)
    for picture in pictures:
        if picture.true in chosen and picture.predicted in chosen:
            inside[picture.true, picture.predicted].append(picture)
    shown = _choose(inside, max_pictures)
    totals = {i: sum(confusion[i]) for i in classes}
    worst = max((_share(confusion[i][j], totals[i]) for i in classes for j in classes if i != j), default=0.0)
    worst = max(worst, _WORST)

    def cell(i: int, j: int) -> Cell:
        share = _share(confusion[i][j], totals[i])
        scaled = share if i == j else math.sqrt(share / worst)
        interval = None if intervals is None else intervals[i][j]
        return Cell(i, j, int(confusion[i][j]), share, interval, math.ceil(scaled * HEATS - 1e-9), shown.get((i, j), ()))

    return Matrix(tuple(classes), tuple(tuple(cell(i, j) for j in classes) for i in classes), count - len(classes))


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0


def _choose(inside: dict[tuple[int, int], list[Picture]], most: int) -> dict[tuple[int, int], tuple[Picture, ...]]:
    """Choose what each cell shows, no more than ``most`` in all; pictures of equal probability (to nine digits) go by path."""
    for wrong, right in ((MAX_WRONG, MAX_RIGHT), (12, 6), (6, 4), (3, 2), (1, 1)):
        caps = {place: right if place[0] == place[1] else wrong for place in inside}
        if sum(min(caps[place], len(found)) for place, found in inside.items()) <= most:
            break
    places = sorted(inside, key=lambda place: (-len(inside[place]), place))
    shown = {}
    left = most
    for place in places:
        sign = 1 if place[0] == place[1] else -1
        best = sorted(inside[place], key=lambda picture: (sign * round(picture.probability, 9), picture.path))
        best = best[: min(caps[place], left)]
        left -= len(best)
        if best:
            shown[place] = tuple(best)
    return shown
