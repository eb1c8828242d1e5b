"""Features on a plane."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.dataset.table import ImageTable
from ffe.report.projection import MAX_POINTS, Projection, choose_rows, pca, project, project_rows


def blobs(count: int, dims: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return (rng.normal(size=(3, dims)) * 5)[labels].astype(np.float32) + rng.normal(size=(count, dims)).astype(np.float32), labels


def table(labels: np.ndarray) -> ImageTable:
    paths, nothing = tuple(f"{i}" for i in range(len(labels))), ("",) * len(labels)
    return ImageTable(paths, nothing, nothing, nothing, tuple(map(Path, paths)), labels, np.zeros(len(labels), np.uint64))


def mapped(features: np.ndarray, seed: int) -> Projection:
    chosen, labels = choose_rows(len(features), seed, limit=600), np.zeros(len(features), np.int64)
    return project_rows(features[chosen], chosen, table(labels), labels, seed)


@pytest.fixture
def no_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)


def test_pca_is_that_of_numpy() -> None:
    features, _ = blobs(60, 20)
    scores, shares = pca(features, 2)
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    wanted = centred @ vectors[:, ::-1][:, :2]
    assert np.allclose(np.abs(scores), np.abs(wanted), atol=1e-3)
    assert shares == pytest.approx(values[::-1][:2] / values.sum(), rel=1e-5)
    assert scores.dtype == np.float32


def test_large_matrices_give_the_same_by_the_short_way() -> None:
    features, _ = blobs(700, 600)
    short, shares = pca(features, 2, seed=3)
    left, values, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    assert np.allclose(np.abs(short), np.abs(left[:, :2] * values[:2]), atol=0.05)
    assert shares == pytest.approx(values[:2] ** 2 / np.square(values).sum(), rel=1e-3)


def test_classes_that_lie_apart_stay_apart(no_umap: None) -> None:
    features, labels = blobs(300, 50)
    points, how = project(features)
    centres = np.stack([points[labels == k].mean(axis=0) for k in range(3)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == labels).mean() > 0.99
    assert how.startswith("PCA, ")
    assert how.endswith(" % of the variance")


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 1), (3, 2), (5, 1)])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_few_rows_or_columns_are_enough(no_umap: None, shape: tuple[int, int], kind: type) -> None:
    points, _ = project(np.ones(shape, kind) * np.arange(shape[0])[:, None])
    assert points.shape == (shape[0], 2)
    assert points.dtype == np.float32
    assert np.isfinite(points).all()


def test_equal_rows_lie_on_one_point(no_umap: None) -> None:
    points, how = project(np.ones((10, 4), np.float32))
    assert np.allclose(points, 0)
    assert how == "PCA, 0 % of the variance"


def test_the_same_seed_gives_the_same_map(no_umap: None) -> None:
    features, _ = blobs(700, 600)
    a, b = (mapped(features, seed=5) for _ in range(2))
    assert a.paths == b.paths
    assert np.array_equal(a.points, b.points)
    assert a.paths != mapped(features, seed=6).paths


def test_a_map_of_very_many_photos_shows_some_of_them(no_umap: None) -> None:
    count = MAX_POINTS + 100
    features = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    chosen, labels = choose_rows(count), np.arange(count)
    predicted = np.where(labels % 2, labels + 1, np.where(labels % 4, labels, -1))
    found = project_rows(features[chosen], chosen, table(labels), predicted, 0)
    assert len(found.points) == len(found.paths) == len(found.files) == MAX_POINTS
    assert list(found.paths) == [f"{label}" for label in found.labels]
    assert tuple(str(file) for file in found.files) == found.paths
    assert np.array_equal(found.correct, found.labels % 2 == 0)
    assert np.array_equal(choose_rows(5, limit=9), np.arange(5))


def test_umap_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class FakeUmap:
        def __init__(self, **options: Any) -> None:
            asked.update(options)

        def fit_transform(self, rows: np.ndarray) -> np.ndarray:
            asked["shape"] = rows.shape
            return rows[:, :2].astype(np.float64)

    module = types.ModuleType("umap")
    module.UMAP = FakeUmap  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", module)
    features, _ = blobs(100, 80)
    points, how = project(features, seed=4)
    assert how == "UMAP"
    assert points.dtype == np.float32
    assert asked["shape"] == (100, 50)
    assert (asked["random_state"], asked["n_components"], asked["n_jobs"], asked["n_neighbors"]) == (4, 2, 1, 15)
    assert project(features[:2])[1].startswith("PCA")  # too few to have neighbours
