"""Features and a head -> what each part of the photo adds to a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ffe.base.blas import one_blas_thread
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.evaluation.temperature import LEAST
from ffe.explaining.area import Window, on_grid
from ffe.heads.base import Head

MOST_CELLS = 16  # of a side of a map; finer grids are taken in blocks
_LEAST_EFFECT = 1e-6  # log-odds: less is the rounding of a head that does not look there
_BLOCK_VALUES = 1 << 24  # of changed rows at once, 64 MiB


@dataclass(frozen=True, eq=False)
class HeatMap:
    """What each cell of a photo adds to the log-odds of a class."""

    # float32 (h, w), from the top left. ``exact``: what the cell adds. Else: how much the log-odds fall where it and its
    # neighbours are left out. Above 0 speaks for the class, below 0 against it
    cells: np.ndarray
    log_odds: float  # of the class, for the whole photo: log(p / (1 - p)), with the model's temperature
    # of an exact map, what the head says before it has seen a cell: ``cells.sum() + bias`` is ``log_odds``; None = it is none
    bias: float | None = None

    @property
    def exact(self) -> bool:
        """Whether the cells add up, with the bias, to the log-odds."""
        return self.bias is not None


def log_odds(probabilities: np.ndarray, label: int, temperature: float = 1.0) -> np.ndarray:
    """Return log(p / (1 - p)) of a class, float64 (N,), for a head's probabilities (N, K), once the temperature is applied.

    It does not saturate where a probability rounds to 1. A probability of 0, which a forest may say, is taken for half of the
    least one above 0.
    """
    above = probabilities[probabilities > 0]
    scores = temperature * np.log(np.maximum(probabilities, above.min() / 2 if len(above) else LEAST))
    others = np.delete(scores, label, axis=1)
    most = others.max(axis=1)
    rest: np.ndarray = most + np.log(np.exp(others - most[:, None]).sum(axis=1))
    return scores[:, label] - rest


def heat_map(
    head: Head,
    layout: FeatureLayout,
    features: np.ndarray,
    label: int,
    temperature: float = 1.0,
    windows: Sequence[Window] | None = None,
) -> HeatMap | None:
    """Return what each cell of the grid of one photo adds to a class; None where the head has no grid to look at.

    Exact where the head is linear on features averaged over one grid that are not normalised (logistic, or svm with
    ``kernel=linear``, and ``scaling=none`` or ``standard``): the score of an average is the average of the scores of the cells.
    With more than two classes the others count by their probabilities, so the cells add up all the same. Elsewhere areas of
    3x3 cells (2x2 on grids of up to 4x4) are left out, one after the other: each takes the mean of all other cells. In a row of
    several layers, or of several backbones, an area is left out of all of them at once. A class token stays as it is.

    Args:
        head: a fitted head.
        layout: how the features lie in a row.
        features: float32 (D,), of one photo.
        label: the class, a column of the head's probabilities.
        temperature: that of the model, see ``ffe.evaluation.temperature.with_temperature``.
        windows: for each part of a row, where the picture that it is of lies on the map. A column of tokens that is no grid of
            such a picture has no places, and there is no map; None = all are of the whole map, and every column has.
    """
    if windows is not None and any(map(_is_no_grid, layout.parts, windows)):
        return None
    grids = [part for part in layout.parts if part.height * part.width > 1]
    if not grids:
        return None
    if (found := _of_linear(head, layout, features, label, temperature)) is not None:
        return found
    coarse = min(grids, key=lambda part: part.height * part.width)
    shape = min(coarse.height, MOST_CELLS), min(coarse.width, MOST_CELLS)

    def ask(areas: np.ndarray) -> np.ndarray:
        step = max(1, _BLOCK_VALUES // layout.dims)
        blocks = [areas[start : start + step] for start in range(0, len(areas), step)]
        with one_blas_thread():  # few rows: on busy cores, threads that wait for each other take 20 times as long
            if layout.grid is not None:
                replaced = head.proba_of_replaced(features, *_left_out(features, coarse, areas, windows[0] if windows else None))
                if replaced is not None:
                    return replaced
            return np.concatenate([head.predict_proba(without(features, layout, block, windows)) for block in blocks])

    found = by_leaving_out(ask, shape, label, temperature)
    return found if np.abs(found.cells).max() > _LEAST_EFFECT else None


def by_leaving_out(ask: Callable[[np.ndarray], np.ndarray], shape: tuple[int, int], label: int, temperature: float) -> HeatMap:
    """Return the map of (h, w) cells of a photo that is asked about with some areas left out.

    ``ask`` takes areas, bool (n, h, w), and returns the head's probabilities (n, K) without each; the first is empty.
    """
    (down, rows), (across, columns) = map(_windows, shape)
    areas = rows[:, None, :, None] & columns[None, :, None, :]
    areas = areas.reshape(-1, *shape)
    odds = log_odds(ask(np.concatenate([np.zeros((1, *shape), bool), areas])), label, temperature)
    effects = (odds[0] - odds[1:]).reshape(len(rows), len(columns))
    return HeatMap((down @ effects @ across.T).astype(np.float32), float(odds[0]))


def _is_no_grid(part: Part, window: Window) -> bool:
    """Return whether a part is a column of tokens, and its picture not as narrow, but for a cell."""
    size = window.size
    return part.width == 1 < part.height and abs(part.height * size[1] - size[0]) > max(size)


def _windows(length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows of one side: the weight of each for each cell, float64 (n, windows), and its cells, bool (windows, n).

    From 5 cells on each has 3, and stands for the one in its middle; of 3 and 4 each has 2, and counts for both of them.
    """
    cells = np.arange(length)
    if length >= 5 or length <= 2:
        return np.eye(length), abs(cells[:, None] - cells) <= (length >= 5)
    inside = (cells - cells[:-1, None] >= 0) & (cells - cells[:-1, None] <= 1)
    return inside.T / inside.sum(axis=0)[:, None], inside


def without(
    features: np.ndarray, layout: FeatureLayout, areas: np.ndarray, windows: Sequence[Window] | None = None
) -> np.ndarray:
    """Return float32 (n, D): the features (D,) of a photo with each area, bool (n, h, w), replaced by the mean of the rest.

    ``windows`` are those of ``heat_map``.
    """
    rows = np.repeat(features[None], len(areas), axis=0)
    start = 0
    for number, part in enumerate(layout.parts):
        count = part.height * part.width
        if count > 1:
            first = start + part.prefix * part.channels
            end = first + count * part.channels
            out, means = _left_out(features[first:end], part, areas, windows[number] if windows else None)
            for row, left_out, mean in zip(rows, out, means, strict=True):  # what stays is not written again
                row[first:end].reshape(count, part.channels)[left_out] = mean
        start += part.dims
    return rows


def _left_out(grid: np.ndarray, part: Part, areas: np.ndarray, window: Window | None) -> tuple[np.ndarray, np.ndarray]:
    """Return which cells of a grid, float32 (cells * C,), are in each area, bool (n, cells), and the mean of the rest (n, C)."""
    shape = part.height, part.width
    out = on_grid(areas, shape, window or Window(shape)).reshape(len(areas), -1)
    kept = (~out).astype(np.float32)
    means: np.ndarray = kept @ grid.reshape(-1, part.channels) / np.maximum(kept.sum(axis=1, keepdims=True), 1)
    return out, means


def _of_linear(head: Head, layout: FeatureLayout, features: np.ndarray, label: int, temperature: float) -> HeatMap | None:
    """Return the exact map; None where the head is not linear in the cells of one grid."""
    if len(layout.parts) > 1 or (scorer := head.linear()) is None:
        return None
    if head.map.pooling not in {"avg", "mean"} or head.map.scaling not in {"none", "standard"}:
        return None
    (part,) = layout.parts
    weights, bias = scorer
    cells = features.reshape(-1, part.channels)[part.prefix :].astype(np.float64)
    scores = temperature * (head.map.transform_rowwise(cells) @ weights) / len(cells)
    answer = head.predict_proba(features[None])
    total = scores.sum(axis=0) + temperature * bias
    others = np.arange(len(total)) != label
    shares = np.exp(total[others] - total[others].max())
    shares /= shares.sum()
    # log(sum of exp) is the mean by these shares and their entropy
    entropy = -(shares * np.log(np.maximum(shares, LEAST))).sum()
    heat = scores[:, label] - scores[:, others] @ shares
    begins = temperature * (bias[label] - bias[others] @ shares) - entropy
    height, width = part.height, part.width
    return HeatMap(heat.reshape(height, width).astype(np.float32), float(log_odds(answer, label, temperature)[0]), float(begins))
