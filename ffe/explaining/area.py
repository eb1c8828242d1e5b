"""What part of a photo a map is of, and where on it lies what each backbone sees: several may cut it differently."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ffe.base.feature_layout import FeatureLayout
from ffe.images.decode import upright_size
from ffe.images.limits import MAX_PIXELS
from ffe.images.resize import extent
from ffe.specs import ExtractSpec, PreprocessSpec

_ALIKE = 0.01  # of a side: what differs less is the rounding of sizes


@dataclass(frozen=True)
class Window:
    """Where on the area of a map the picture lies that a backbone is given."""

    size: tuple[int, int]  # (height, width) of that picture in pixels
    rows: tuple[float, float] = (0.0, 1.0)  # its top and bottom, in shares of the height of the area
    columns: tuple[float, float] = (0.0, 1.0)  # left and right, of its width


@dataclass(frozen=True)
class Area:
    """What a map of one photo is of."""

    shown: PreprocessSpec  # how the photo is prepared to show it
    windows: tuple[Window, ...]  # one for each backbone
    parts: tuple[Window, ...]  # one for each part of a row of features


def area_of(backbones: Sequence[tuple[ExtractSpec, FeatureLayout]], data: bytes, max_pixels: int = MAX_PIXELS) -> Area:
    """Return what a map of a photo, the bytes of its file, is of: what all backbones see, or else the whole photo, stretched.

    ``backbones``: what makes their features, and how those lie; see ``ffe.bundle.manifest.Manifest.backbones``.
    """
    ways = [spec.preprocess for spec, _ in backbones]
    shown, windows = ways[0], [Window(way.size) for way in ways]
    if len(ways) > 1 and not all(way.whole for way in ways):
        full = upright_size(data, max_pixels)
        extents = [extent(full, way) for way in ways]
        if not np.allclose(extents, extents[0], rtol=0, atol=_ALIKE):
            shown = replace(max(ways, key=lambda way: math.prod(way.size)), resize=None, crop=None)
            windows = [Window(way.size, *ends) for way, ends in zip(ways, extents, strict=True)]
    parts = [window for window, (_, layout) in zip(windows, backbones, strict=True) for _ in layout.parts]
    return Area(shown, tuple(windows), tuple(parts))


def on_grid(areas: np.ndarray, shape: tuple[int, int], window: Window) -> np.ndarray:
    """Return which cells of a grid of ``shape`` over a window lie in each of some areas of a map: bool (n, h, w) -> (n, *shape).

    A cell is where its middle is; beyond the map it is in none of them.
    """
    down, across = (
        _places(cells, ends, most)
        for cells, ends, most in zip(shape, (window.rows, window.columns), areas.shape[1:], strict=True)
    )
    inside: np.ndarray = np.pad(areas, ((0, 0), (0, 1), (0, 1)))[:, down][:, :, across]
    return inside


def _places(cells: int, ends: tuple[float, float], most: int) -> np.ndarray:
    """Return on which of ``most`` cells of a map the middle of each cell along a side of a window lies; ``most`` = beyond it."""
    begin, end = ends
    places = np.floor((begin + (end - begin) * (np.arange(cells) + 0.5) / cells) * most).astype(np.int64)
    return np.where((places >= 0) & (places < most), places, most)
