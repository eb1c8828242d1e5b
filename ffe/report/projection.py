"""Features of many dimensions -> points on a plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ffe.errors import DataError, missing
from ffe.report.values import FeatureMap2D

MAX_POINTS = 5000
_EXACT_UP_TO = 512  # rows or columns that an exact decomposition is quick for
_BEFORE_UMAP = 50  # dimensions that UMAP starts from


def choose_rows(count: int, seed: int = 0, limit: int = MAX_POINTS) -> np.ndarray:
    """Choose the rows that a map shows.

    Args:
        count: rows there are.
        seed: another seed, another choice.
        limit: rows to keep, at most.

    Returns:
        int64 (min(count, limit),), rising.
    """
    if count <= limit:
        return np.arange(count, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit]).astype(np.int64)


def feature_map(
    features: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    paths: Sequence[str],
    files: Sequence[Path | None],
    correct: Sequence[bool] | np.ndarray | None = None,
    *,
    method: Literal["auto", "pca", "umap"] = "auto",
    seed: int = 0,
    limit: int = MAX_POINTS,
) -> FeatureMap2D:
    """Lay the features of photos out on a plane, so that photos with like features lie near each other.

    Args:
        features: float32 or float16 (N, D), finite.
        labels: int (N,).
        paths, files: N each, see ``FeatureMap2D``.
        correct: bool (N,), or None.
        method: ``pca``; ``umap``; ``auto`` = UMAP where umap-learn is installed, otherwise PCA.
        seed: the same seed gives the same map.
        limit: points, at most; see ``choose_rows``.

    Raises:
        DataError: there are no rows, their columns differ in length, or ``umap`` is asked for and not installed.
    """
    if not len(features) or {len(labels), len(paths), len(files), len(features if correct is None else correct)} != {
        len(features)
    }:
        raise DataError("A map needs at least one row, and a label, path and file for every row; give columns of equal length.")
    rows = choose_rows(len(features), seed, limit)
    points, how = project(np.asarray(features)[rows], method=method, seed=seed)
    return FeatureMap2D(
        x=points[:, 0],
        y=points[:, 1],
        labels=np.asarray(labels, np.int64)[rows],
        correct=None if correct is None else np.asarray(correct, bool)[rows],
        paths=[paths[i] for i in rows],
        files=[files[i] for i in rows],
        method=how,
    )


def project(features: np.ndarray, *, method: Literal["auto", "pca", "umap"] = "auto", seed: int = 0) -> tuple[np.ndarray, str]:
    """Return points on a plane, and how they were found.

    Args:
        features: float (N, D), N >= 1, finite.
        method, seed: see ``feature_map``.

    Returns:
        float32 (N, 2), and words such as ``PCA, 41 % of the variance``.

    Raises:
        DataError: ``umap`` is asked for and not installed.
    """
    umap = None if method == "pca" else _umap()
    if method == "umap" and umap is None:
        raise DataError(missing("A UMAP map", "umap-learn", instead="use PCA"))
    scores, shares = pca(features, _BEFORE_UMAP if umap else 2, seed)
    neighbours = min(15, len(scores) - 1)
    if umap is None or neighbours < 2:
        plane = np.zeros((len(scores), 2), np.float32)
        plane[:, : min(2, scores.shape[1])] = scores[:, :2]
        return plane, f"PCA, {100 * shares[:2].sum():.0f} % of the variance"
    start = scores[:, :2] / (np.abs(scores[:, :2]).max() or 1.0) * 10 if scores.shape[1] >= 2 else "random"
    found = umap.UMAP(n_components=2, n_neighbors=neighbours, init=start, random_state=seed, n_jobs=1).fit_transform(scores)
    return np.asarray(found, np.float32), "UMAP"


def pca(features: np.ndarray, dims: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the principal components of rows.

    Small matrices are decomposed exactly; large ones by projection on random
    directions with four power iterations.

    Source: Halko, Martinsson and Tropp (2011), Finding structure with randomness, algorithms 4.4 and 5.1.

    Args:
        features: float (N, D), finite.
        dims: components wanted.
        seed: of the random directions.

    Returns:
        float32 (N, min(dims, N, D)), the component of most variance first, each with the sign that makes its
        largest loading positive; and float64 of that length, the share of the variance that each holds, in [0, 1].
    """
    centred = np.asarray(features, np.float32)
    centred = centred - centred.mean(axis=0, dtype=np.float64).astype(np.float32)
    total = float(np.square(centred, dtype=np.float64).sum())
    kept = min(dims, *centred.shape)
    if min(centred.shape) <= _EXACT_UP_TO:
        small, basis = centred, None
    else:
        start = np.random.default_rng(seed).standard_normal((centred.shape[1], kept + 10)).astype(np.float32)
        basis = np.linalg.qr(centred @ start)[0]
        for _ in range(4):
            basis = np.linalg.qr(centred @ np.linalg.qr(centred.T @ basis)[0])[0]
        small = basis.T @ centred
    left, values, right = np.linalg.svd(small, full_matrices=False)
    if basis is not None:
        left = basis @ left
    strongest = np.abs(right[:kept]).argmax(axis=1)
    signs = np.where(right[np.arange(kept), strongest] < 0, -1.0, 1.0)
    scores = left[:, :kept] * (values[:kept] * signs)
    shares = np.square(values[:kept], dtype=np.float64) / total if total > 0 else np.zeros(kept)
    return scores.astype(np.float32), shares


def _umap() -> Any:
    """Return the module umap; None where it is missing, or cannot be loaded."""
    try:
        import umap
    except Exception:  # numba refuses versions of numpy in its own ways
        return None
    return umap
