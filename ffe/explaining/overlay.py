"""A heat map over the photo that it is of."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

FOR, AGAINST = (214, 32, 32), (28, 84, 224)  # red and blue, which those who see no red or green tell apart
_DARKEST, _LIGHTEST = 55, 215  # of the photo in grey below: colours show on black and on white
_STRONGEST = 0.68  # share of the colour where the heat is greatest
_LEAST_SCALE = 0.5  # log-odds of an area that have the full colour at the least, or a map of nothing would glow
_CELLS_OF_AREA = 9
_SOFT = 0.3  # of a cell's side: what its edges are drawn over


def overlay(pixels: np.ndarray, cells: np.ndarray, *, exact: bool = False) -> np.ndarray:
    """Return a photo in grey with a map over it, red for the class and blue against it: uint8 (H, W, 3), RGB.

    The cell with most heat has the full colour; where there is little in all, colours stay faint.

    Args:
        pixels: uint8 (H, W, 3), RGB, as the network sees it.
        cells: float32 (h, w), log-odds, of the same area.
        exact: whether each is of one cell alone, and not of the area around it.
    """
    height, width = pixels.shape[:2]
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)
    result = np.repeat((_DARKEST + grey * ((_LIGHTEST - _DARKEST) / 255))[:, :, None], 3, axis=2)
    scale = max(float(np.abs(cells).max()), _LEAST_SCALE / (_CELLS_OF_AREA if exact else 1))
    soft = _SOFT * min(height / cells.shape[0], width / cells.shape[1])
    for sign, colour in ((1, FOR), (-1, AGAINST)):
        strength = Image.fromarray((np.clip(sign * cells / scale, 0, 1) * 255).round().astype(np.uint8))
        drawn = strength.resize((width, height), Image.Resampling.NEAREST).filter(ImageFilter.GaussianBlur(soft))
        share = np.asarray(drawn, np.float32)[:, :, None] * (_STRONGEST / 255)
        result += share * (np.asarray(colour, np.float32) - result)
    return result.round().astype(np.uint8)
