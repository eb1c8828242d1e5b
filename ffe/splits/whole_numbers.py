"""Features as whole numbers: every product of them is exact, so that all machines say the same of which rows are near.

A standardised row is scaled to a length of 4,095 and rounded. No sum of products of two such rows leaves 24 bits, so float32
holds each one, in whatever order a library adds. Rounding moves a cosine by about 1e-4.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from ffe.base.arrays import RowSource, empty_array

LENGTH = 4095  # of a row: its square is below 2**24
BITS = 1024  # of a signature
LEAST_SCALE = 1e-3  # of the largest: features that hardly ever stir are not blown up

_BLOCK_VALUES = 1 << 22
_LEAST_LENGTH = 1e-3  # of a standardised row: what is nothing but rounding has no direction


@dataclass(frozen=True, eq=False)
class WholeRows:
    """Standardised rows, rounded, and what tells at a glance how near two of them are."""

    rows: np.ndarray  # int16 (n, C), of length about 4,095, or 0
    squares: np.ndarray  # float64 (n,), the squared length: whole numbers
    signatures: np.ndarray  # uint64 (n, 16): on which side of each of 1,024 random planes a row lies; Charikar 2002

    def unit(self, some: np.ndarray) -> np.ndarray:
        """Return rows int64 (m,) as float32 (m, C) of length 1, or 0."""
        lengths = np.sqrt(self.squares[some])[:, None]
        return (self.rows[some] / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def whole_rows(features: RowSource, chosen: np.ndarray) -> WholeRows:
    """Take signed square roots of chosen rows, int64 (n,), of float32 (N, C), standardise every feature, scale and round.

    They are read block by block, twice. Two bytes are held
    for each of the n x C numbers, in memory or, where that is short, on the disk.
    """
    count, dims = len(chosen), features.shape[1]
    step = max(1, _BLOCK_VALUES // dims)
    total, squares = np.zeros(dims), np.zeros(dims)
    for start in range(0, count, step):
        roots = _roots(features[chosen[start : start + step]])
        total += roots.sum(axis=0, dtype=np.float64)
        squares += np.einsum("ij,ij->j", roots, roots, dtype=np.float64)  # float32 would lose a small spread about a large mean
    mean = total / max(count, 1)
    scale = np.sqrt(np.maximum(squares / max(count, 1) - mean * mean, 0))
    scale = np.maximum(scale, max(LEAST_SCALE * scale.max(initial=0), np.finfo(np.float32).tiny))
    planes = _planes(dims)
    found = WholeRows(empty_array((count, dims), np.int16), np.zeros(count), np.zeros((count, BITS // 64), np.uint64))
    for start in range(0, count, step):
        x = _roots(features[chosen[start : start + step]])
        x -= mean.astype(np.float32)
        x /= scale.astype(np.float32)
        lengths = np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64))[:, None]
        x *= (LENGTH / np.where(lengths > _LEAST_LENGTH, lengths, np.inf)).astype(np.float32)
        np.rint(x, out=x)
        end = start + len(x)
        found.rows[start:end] = x
        found.squares[start:end] = np.einsum("ij,ij->i", x, x, dtype=np.float64)
        found.signatures[start:end] = np.packbits(x @ planes >= 0, axis=1).view(np.uint64)
    return found


def _roots(features: np.ndarray) -> np.ndarray:
    """Return signed square roots, float32, in an array of their own."""
    x = np.array(features, np.float32)
    if x.min(initial=0) >= 0:
        return np.sqrt(x, out=x)
    return np.copysign(np.sqrt(np.abs(x)), x)


def _planes(dims: int) -> np.ndarray:
    """Return the normals of the planes, float32 (C, 1024) of ±1, the same for ever."""
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(b"planes").digest(dims * BITS // 8), np.uint8))
    return bits.reshape(dims, BITS) * np.float32(2) - 1
