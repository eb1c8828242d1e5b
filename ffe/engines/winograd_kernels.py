"""The compiled loops of ``ffe.engines.winograd``: all of a 3x3 convolution but its products, and what stands between two.

F(6x6, 3x3) of Lavin and Gray, https://arxiv.org/abs/1509.09308: a tile of 6x6 places is computed from a patch of 8x8, which
takes 64 products for each two channels where the sums take 324. The points are 0, 1, -1, 2, -2, 1/2, -1/2 and infinity.
Arrays are float32, C-contiguous, with the channels last, so that every loop runs over those of one place.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ffe.base.compiled import compiled

TILE, PATCH = 6, 8  # places per side
# (8, 3): what makes 8 numbers of 3 of a kernel, along one axis
KERNEL = np.array(
    [
        [1, 0, 0],
        [-2 / 9, -2 / 9, -2 / 9],
        [-2 / 9, 2 / 9, -2 / 9],
        [1 / 90, 1 / 45, 2 / 45],
        [1 / 90, -1 / 45, 2 / 45],
        [32 / 45, 16 / 45, 8 / 45],
        [32 / 45, -16 / 45, 8 / 45],
        [0, 0, 1],
    ],
    np.float32,
)
_QUARTER, _HALF, _2, _4 = np.float32(0.25), np.float32(0.5), np.float32(2), np.float32(4)
_A, _B, _C, _D = np.float32(1.25), np.float32(2.5), np.float32(4.25), np.float32(5.25)
_8, _16, _32 = np.float32(8), np.float32(16), np.float32(32)


@partial(compiled, inline=True)
def _forward(d0, d1, d2, d3, d4, d5, d6, d7, o0, o1, o2, o3, o4, o5, o6, o7):  # type: ignore[no-untyped-def]
    """Transform 8 places of a patch, all channels (C,), along one axis."""
    for c in range(len(d0)):
        o0[c] = d0[c] - d6[c] + (d4[c] - d2[c]) * _D
    for c in range(len(d0)):
        o7[c] = d7[c] - d1[c] + (d3[c] - d5[c]) * _D
    for c in range(len(d0)):
        even, odd = d2[c] + d6[c] - d4[c] * _C, d1[c] + d5[c] - d3[c] * _C
        o1[c], o2[c] = even + odd, even - odd
    for c in range(len(d0)):
        even, odd = d6[c] + d2[c] * _QUARTER - d4[c] * _A, d1[c] * _HALF - d3[c] * _B + d5[c] * _2
        o3[c], o4[c] = even + odd, even - odd
    for c in range(len(d0)):
        even, odd = d6[c] + (d2[c] - d4[c] * _A) * _4, d1[c] * _2 - d3[c] * _B + d5[c] * _HALF
        o5[c], o6[c] = even + odd, even - odd


@partial(compiled, inline=True)
def _back(m0, m1, m2, m3, m4, m5, m6, m7, o0, o1, o2, o3, o4, o5, bias, low, high):  # type: ignore[no-untyped-def]
    """Transform 8 sums to 6 places, all channels (C,), along one axis; add ``bias``, and cut what is not in [low, high]."""
    for c in range(len(bias)):
        ones, twos, halves = m1[c] + m2[c], m3[c] + m4[c], m5[c] + m6[c]
        o0[c] = min(max(bias[c] + m0[c] + ones + twos + halves, low), high)
    for c in range(len(bias)):
        ones, twos, halves = m1[c] - m2[c], m3[c] - m4[c], m5[c] - m6[c]
        o5[c] = min(max(bias[c] + m7[c] + ones + twos * _32 + halves / _32, low), high)
    for c in range(len(bias)):
        ones, twos, halves = bias[c] + m1[c] + m2[c], m3[c] + m4[c], m5[c] + m6[c]
        o2[c] = min(max(ones + twos * _4 + halves / _4, low), high)
        o4[c] = min(max(ones + twos * _16 + halves / _16, low), high)
    for c in range(len(bias)):
        ones, twos, halves = bias[c] + m1[c] - m2[c], m3[c] - m4[c], m5[c] - m6[c]
        o1[c] = min(max(ones + twos * _2 + halves / _2, low), high)
        o3[c] = min(max(ones + twos * _8 + halves / _8, low), high)


@compiled
def to_products(grids, rows, wide, first, count, top, left):  # type: ignore[no-untyped-def]
    """Transform the patches of ``count`` tiles, from the tile ``first`` on, of which there are ``wide`` in a line.

    Grids (n, h, w, C) -> rows (64, count * n, C): those of one tile of all images, then those of the next. ``top`` and ``left``
    are the zeros before each grid; behind it there are as many as are needed.
    """
    images, height, width, channels = grids.shape
    half = np.empty((PATCH, PATCH, channels), np.float32)
    zero = np.zeros(channels, np.float32)
    for tile in range(count):
        i, j = divmod(first + tile, wide)
        for image in range(images):
            for r in range(PATCH):
                y, x = i * TILE - top + r, j * TILE - left
                if y < 0 or y >= height:
                    half[r] = np.float32(0)
                    continue
                line, o = grids[image, y], half[r]
                d0 = line[x] if 0 <= x < width else zero
                d1 = line[x + 1] if 0 <= x + 1 < width else zero
                d2 = line[x + 2] if 0 <= x + 2 < width else zero
                d3 = line[x + 3] if 0 <= x + 3 < width else zero
                d4 = line[x + 4] if 0 <= x + 4 < width else zero
                d5 = line[x + 5] if 0 <= x + 5 < width else zero
                d6 = line[x + 6] if 0 <= x + 6 < width else zero
                d7 = line[x + 7] if 0 <= x + 7 < width else zero
                _forward(d0, d1, d2, d3, d4, d5, d6, d7, o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7])
            row = tile * images + image
            for k in range(PATCH):
                _forward(
                    half[0, k],
                    half[1, k],
                    half[2, k],
                    half[3, k],
                    half[4, k],
                    half[5, k],
                    half[6, k],
                    half[7, k],
                    rows[k, row],
                    rows[PATCH + k, row],
                    rows[2 * PATCH + k, row],
                    rows[3 * PATCH + k, row],
                    rows[4 * PATCH + k, row],
                    rows[5 * PATCH + k, row],
                    rows[6 * PATCH + k, row],
                    rows[7 * PATCH + k, row],
                )


@compiled
def from_products(rows, grids, wide, first, count, bias, low, high):  # type: ignore[no-untyped-def]
    """Transform sums to places: rows (64, count * n, C), as in ``to_products``, -> tiles of the grids (n, h, w, C)."""
    images, height, width, channels = grids.shape
    half = np.empty((TILE, PATCH, channels), np.float32)
    beyond = np.empty((TILE, channels), np.float32)
    none, most = np.zeros(channels, np.float32), np.float32(np.inf)
    for tile in range(count):
        i, j = divmod(first + tile, wide)
        x, columns = j * TILE, min(TILE, width - j * TILE)
        for image in range(images):
            row = tile * images + image
            for k in range(PATCH):
                _back(
                    rows[k, row],
                    rows[PATCH + k, row],
                    rows[2 * PATCH + k, row],
                    rows[3 * PATCH + k, row],
                    rows[4 * PATCH + k, row],
                    rows[5 * PATCH + k, row],
                    rows[6 * PATCH + k, row],
                    rows[7 * PATCH + k, row],
                    half[0, k],
                    half[1, k],
                    half[2, k],
                    half[3, k],
                    half[4, k],
                    half[5, k],
                    none,
                    -most,
                    most,
                )
            for r in range(min(TILE, height - i * TILE)):
                m, line = half[r], grids[image, i * TILE + r]
                o1 = line[x + 1] if columns > 1 else beyond[1]
                o2 = line[x + 2] if columns > 2 else beyond[2]
                o3 = line[x + 3] if columns > 3 else beyond[3]
                o4 = line[x + 4] if columns > 4 else beyond[4]
                o5 = line[x + 5] if columns > 5 else beyond[5]
                _back(m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], line[x], o1, o2, o3, o4, o5, bias, low, high)


@compiled
def cut_off(grids, bias, low, high):  # type: ignore[no-untyped-def]
    """Add ``bias`` (C,) to all places of grids (n, h, w, C), and cut what is not in [low, high]; in place."""
    images, height, width, channels = grids.shape
    for image in range(images):
        for y in range(height):
            for x in range(width):
                place = grids[image, y, x]
                for c in range(channels):
                    place[c] = min(max(place[c] + bias[c], low), high)


@compiled
def largest(grids, pooled, high, wide, down, right, top, left):  # type: ignore[no-untyped-def]
    """Put the largest numbers of windows of high x wide places, ``down`` and ``right`` apart, of grids into ``pooled``."""
    images, height, width, _ = grids.shape
    for image in range(images):
        for i in range(pooled.shape[1]):
            for j in range(pooled.shape[2]):
                made = pooled[image, i, j]
                made[:] = -np.inf
                for y in range(max(0, i * down - top), min(height, i * down - top + high)):
                    for x in range(max(0, j * right - left), min(width, j * right - left + wide)):
                        place = grids[image, y, x]
                        for c in range(len(made)):  # what is no number stays none
                            made[c] = made[c] if made[c] > place[c] or made[c] != made[c] else place[c]
