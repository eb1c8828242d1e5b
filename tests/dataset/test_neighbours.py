"""The nearest rows of a feature file are those that a plain product of all of them finds, in memory that stays flat."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout, Part
from ffe.dataset import neighbours
from ffe.dataset.neighbours import nearest
from ffe.store import row_reader
from tests.feature_files import write_features as write

VECTOR = FeatureLayout.of_shape((1, 1, 64))
GRID = FeatureLayout.of_shape((2, 2, 16))
TOKENS = FeatureLayout((Part(2, 2, 12, 1),))


def cosines(features: np.ndarray, layout: FeatureLayout, row: int) -> np.ndarray:
    """Return float64 (N,): the plain way, of features pooled by hand."""
    x = features.astype(np.float64)
    if layout is GRID:
        x = x.reshape(len(x), 4, 16).mean(axis=1)
    if layout is TOKENS:
        tokens = x.reshape(len(x), 5, 12)
        x = np.concatenate([tokens[:, 0], tokens[:, 1:].mean(axis=1)], axis=1)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x[row]


@pytest.mark.parametrize("layout", [VECTOR, GRID, TOKENS], ids=["vector", "grid", "tokens"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_equal_to_the_plain_way(tmp_path: Path, layout: FeatureLayout, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK_BYTES", 7 * 4 * layout.dims)  # several blocks, the last one not full
    features = np.random.default_rng(0).normal(size=(100, layout.dims)).astype(dtype)
    with write(tmp_path / "f.h5", features, layout) as store:
        found = nearest(store, store.features(np.asarray([42]))[0], 9)
    plain = cosines(features, layout, 42)
    assert [one.row for one in found] == np.argsort(-plain)[:9].tolist()
    assert found[0].row == 42
    np.testing.assert_allclose([one.similarity for one in found], plain[[one.row for one in found]], atol=2e-6)


def test_equal_rows_come_in_their_order_and_views_do_not(tmp_path: Path) -> None:
    features = np.ones((8, 64), np.float32)
    with write(tmp_path / "f.h5", features, VECTOR, [0, 1] * 4) as store:
        found = nearest(store, features[0], 99)
    assert [(one.row, one.similarity) for one in found] == [(0, 1.0), (2, 1.0), (4, 1.0), (6, 1.0)]


def test_rows_of_nothing_are_no_neighbours(tmp_path: Path) -> None:
    features = np.eye(3, 64, dtype=np.float32)
    features[1] = 0
    with write(tmp_path / "f.h5", features, VECTOR) as store:
        assert [(one.row, one.similarity) for one in nearest(store, features[0], 3)] == [(0, 1.0), (1, 0.0), (2, 0.0)]


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(row_reader, "_WINDOW_BYTES", 1 << 16)
    monkeypatch.setattr(row_reader, "_PIECE_BYTES", 1 << 16)
    peaks = []
    for rows in (40_000, 80_000):
        features = np.random.default_rng(1).normal(size=(rows, 64)).astype(np.float32)
        with write(tmp_path / f"{rows}.h5", features, VECTOR) as store:
            tracemalloc.start()
            nearest(store, features[0], 5)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 80_000 * 64 * 4 / 2
