"""The rows of a feature file that are nearest to given features, by cosine; exact, block by block, in memory that stays flat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffe.base.feature_layout import FeatureLayout
from ffe.heads.transform import POOLING, FeatureMap, space_of
from ffe.store.reader import FeatureStore

_BLOCK_BYTES = 16 << 20
_DIGITS = 6  # similarities that differ by less are the same on no two processors, so the first row counts


@dataclass(frozen=True)
class Neighbour:
    """A row of a feature file, and its cosine to what was asked for, in [-1, 1]."""

    row: int
    similarity: float


def pooled(features: np.ndarray, layout: FeatureLayout) -> np.ndarray:
    """Return float32 (N, d): rows float32 (N, D) pooled as heads look at them by default; vectors as they are."""
    if layout.dims == layout.channels:
        return features
    (pooling,) = space_of((POOLING,), layout)[:1]
    return FeatureMap({"pooling": pooling.default}, layout).rowwise(features)


def nearest(store: FeatureStore, features: np.ndarray, count: int) -> list[Neighbour]:
    """Return the plain rows with the largest cosine of pooled features, the nearest first; equal ones by row.

    Every row is looked at, once, and no more than a few blocks of 16 MiB are held.

    Args:
        store: the feature file, open.
        features: float32 (D,), of the same spec.
        count: rows to return; fewer where there are fewer.

    Raises:
        StoreError: a row is damaged.
    """
    asked = pooled(features[None], store.layout)[0].astype(np.float32)
    asked /= max(float(np.linalg.norm(asked)), 1e-12)
    best_rows, best = np.empty(0, np.int64), np.empty(0, np.float32)
    first = 0
    for block, _ in store.batches(max(1, _BLOCK_BYTES // (4 * store.dims))):
        rows = np.arange(first, first + len(block))
        first += len(block)
        views = pooled(block, store.layout)
        lengths = np.sqrt(np.einsum("ij,ij->i", views, views))
        products = np.einsum("ij,j->i", views, asked)  # a product with one vector is slower where BLAS starts threads for it
        similarity = np.round(products / np.maximum(lengths, 1e-12), _DIGITS)
        if store.made_views is not None:
            plain = store.views[rows] == 0
            rows, similarity = rows[plain], similarity[plain]
        if len(best) == count:
            better = similarity > best[-1]
            rows, similarity = rows[better], similarity[better]
        best_rows, best = np.concatenate([best_rows, rows]), np.concatenate([best, similarity])
        order = np.argsort(-best, kind="stable")[:count]
        best_rows, best = best_rows[order], best[order]
    return [Neighbour(row, min(1.0, float(value))) for row, value in zip(best_rows.tolist(), best.tolist(), strict=True)]
