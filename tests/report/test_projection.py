"""Features on a plane."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.errors import DataError
from ffe.report.projection import MAX_POINTS, choose_rows, feature_map, pca, project


def blobs(count: int, dims: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return (rng.normal(size=(3, dims)) * 5)[labels].astype(np.float32) + rng.normal(size=(count, dims)).astype(np.float32), labels


def mapped(features: np.ndarray, **options: Any) -> Any:
    count = len(features)
    return feature_map(features, [0] * count, [f"{i}" for i in range(count)], [None] * count, **options)


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
    left, values, right = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    signs = np.sign(right[[0, 1], np.abs(right[:2]).argmax(axis=1)])
    assert np.allclose(short, left[:, :2] * values[:2] * signs, atol=0.05)
    assert shares == pytest.approx(values[:2] ** 2 / np.square(values).sum(), rel=1e-3)


def test_classes_that_lie_apart_stay_apart() -> None:
    features, labels = blobs(300, 50)
    points, how = project(features, method="pca")
    centres = np.stack([points[labels == k].mean(axis=0) for k in range(3)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == labels).mean() > 0.99
    assert how.startswith("PCA, ")
    assert how.endswith(" % of the variance")


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 1), (3, 2), (5, 1)])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_few_rows_or_columns_are_enough(shape: tuple[int, int], kind: type) -> None:
    points, _ = project(np.ones(shape, kind) * np.arange(shape[0])[:, None], method="pca")
    assert points.shape == (shape[0], 2)
    assert points.dtype == np.float32
    assert np.isfinite(points).all()


def test_equal_rows_lie_on_one_point() -> None:
    points, how = project(np.ones((10, 4), np.float32), method="pca")
    assert np.allclose(points, 0)
    assert how == "PCA, 0 % of the variance"


def test_the_same_seed_gives_the_same_map() -> None:
    features, _ = blobs(700, 600)
    a, b = (mapped(features, method="pca", seed=5, limit=600) for _ in range(2))
    assert a.paths == b.paths
    assert np.array_equal(a.x, b.x)
    assert np.array_equal(a.y, b.y)
    assert a.paths != mapped(features, method="pca", seed=6, limit=600).paths


def test_a_map_of_very_many_photos_shows_some_of_them() -> None:
    count = MAX_POINTS + 100
    features = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    found = feature_map(
        features,
        np.arange(count),
        [f"{i}" for i in range(count)],
        [Path(f"{i}") for i in range(count)],
        np.arange(count) % 2 == 0,
    )
    assert len(found.x) == len(found.paths) == len(found.files) == MAX_POINTS
    assert found.paths == [f"{label}" for label in found.labels]
    assert [str(file) for file in found.files] == found.paths
    assert np.array_equal(found.correct, np.asarray(found.labels) % 2 == 0)
    assert np.array_equal(choose_rows(5, limit=9), np.arange(5))


def test_columns_must_fit() -> None:
    with pytest.raises(DataError, match="A map needs at least one row, and a label, path and file for every row"):
        feature_map(np.ones((2, 2)), [0], ["a", "b"], [None, None])
    with pytest.raises(DataError, match="at least one row"):
        mapped(np.ones((0, 2)))


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
    assert project(features, method="pca")[1].startswith("PCA")
    assert project(features[:2])[1].startswith("PCA")  # too few to have neighbours


def test_umap_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    features, _ = blobs(20, 8)
    assert project(features)[1].startswith("PCA")
    with pytest.raises(DataError) as caught:
        project(features, method="umap")
    assert str(caught.value) == (
        "A UMAP map needs the package umap-learn, which is not installed; install it with 'pip install umap-learn', or use PCA."
    )
