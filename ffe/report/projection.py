"""Features of many dimensions -> points on a plane."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffe.dataset.table import ImageTable
from ffe.images.image_handle import ImageFile

MAX_POINTS = 5000
_BEFORE_UMAP = 50  # dimensions that UMAP starts from


@dataclass(frozen=True, eq=False)
class Projection:
    """The features of N photos, laid out on a plane."""

    points: np.ndarray  # float32 (N, 2), any range; a point that is not finite is left out
    labels: np.ndarray  # int (N,), indices into the class names; -1 = no label
    correct: np.ndarray  # bool (N,), whether the head was right, or was not asked
    paths: Sequence[str]  # N names to show
    files: Sequence[ImageFile | None]  # N places of pictures, or None
    method: str  # how it was made, in words, such as ``PCA, 41 % of the variance``


def choose_rows(count: int, seed: int = 0, limit: int = MAX_POINTS) -> np.ndarray:
    """Return the rows that a map shows, int64 (min(count, limit),), rising; another seed, another choice."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit]).astype(np.int64)


def project_rows(features: np.ndarray, chosen: np.ndarray, images: ImageTable, predicted: np.ndarray, seed: int) -> Projection:
    """Lay images out on a plane, so that those with like features lie near each other; one seed gives one map.

    ``features``, float (n, D), finite, are of the images ``chosen``, int64 (n,), n >= 1; ``predicted``, int64 (N,), is
    what the head says of all of them, -1 = it was not asked.
    """
    points, method = project(features, seed)
    shown, said = images.take(chosen), predicted[chosen]
    return Projection(points, shown.labels, (said == shown.labels) | (said < 0), shown.paths, shown.files, method)


def project(features: np.ndarray, seed: int = 0) -> tuple[np.ndarray, str]:
    """Return float32 (N, 2) of features (N, D), N >= 1, by UMAP where it is installed, else by PCA; and how, in words."""
    umap: Any = None
    with contextlib.suppress(Exception):  # it may be missing, and numba refuses versions of numpy in its own ways
        umap = importlib.import_module("umap")
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
    """Return the first min(dims, N, D) principal components of features, float (N, D): float32 (N, n), and the share of each."""
    from sklearn.decomposition import PCA

    kept = min(dims, *features.shape)
    if (features == features[0]).all():
        return np.zeros((len(features), kept), np.float32), np.zeros(kept)
    found = PCA(kept, random_state=seed)
    return found.fit_transform(np.asarray(features, np.float32)), found.explained_variance_ratio_
