"""Decoded pixels -> 64 bits that stay nearly the same when a picture is saved again, or resized.

It is pHash: the picture as the mean grey of 32×32 boxes, of their discrete cosine transform the 8×8 lowest frequencies
without the constant row and column, and of each of these whether it is above the median of them. All of it is computed in
whole numbers (grey in 1/1024, cosines in 1/4096), so the same pixels have the same 64 bits on every machine.

Source: C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2, and
``ph_dct_imagehash`` of pHash.org.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

UNKNOWN = 0

_SIDE = 32
_GREY = np.asarray((306, 601, 117))  # of 1024: ITU-R BT.601, as in pHash
_GREY_BITS = 10
# DCT-II, rows 1 to 8, of 4096; none is near enough to a half for another library to round it elsewhere
_COSINES = np.rint(4096 * np.cos(np.pi / _SIDE * np.outer(np.arange(1, 9), np.arange(_SIDE) + 0.5))).astype(np.int64)


def perceptual_hash(pixels: np.ndarray) -> int:
    """Return the fingerprint of a picture, uint8 (H, W, 3) in RGB, of at most 2**28 pixels, in [0, 2**64).

    0 is "unknown": a picture that does not change from left to right, or from top to bottom, has no such frequencies.
    """
    height, width, _ = pixels.shape
    rows = pixels.reshape(height, 3 * width)
    thick = max(1, height // _SIDE)
    if height != thick * _SIDE:
        rows = rows.take(_boxes(height).ravel(), axis=0)
    whole = np.uint16 if thick <= 0xFFFF // 0xFF else np.uint32
    sums = np.add.reduce(rows.reshape(_SIDE, thick, 3 * width), axis=1, dtype=whole).astype(np.float64)
    # sums of whole numbers below 2**53: exact in floats, in whichever order BLAS adds them
    lines = (sums @ _across(width)).astype(np.int64) >> _GREY_BITS
    waves = (_COSINES @ lines).ravel()
    # what is above the median of 64 is above the 32nd of them: nothing lies between that and the 33rd
    return int.from_bytes(np.packbits(waves > np.sort(waves)[31]).tobytes(), "big")


@lru_cache
def _boxes(length: int) -> np.ndarray:
    """Return the places that 32 boxes take of a line, evenly spread: int64 (32, k); k is 1 on a line of fewer places."""
    return (np.arange(_SIDE) * length // _SIDE)[:, None] + np.arange(max(1, length // _SIDE))


@lru_cache
def _across(width: int) -> np.ndarray:
    """Return what takes a line of RGB pixels to grey, to 32 boxes, to 8 frequencies: float64 (3 W, 8) of whole numbers."""
    weights = np.zeros((width, 3, len(_COSINES)))
    for cosines, box in zip(_COSINES.T, _boxes(width), strict=True):
        weights[box] += _GREY[:, None] * cosines
    return weights.reshape(3 * width, -1)
