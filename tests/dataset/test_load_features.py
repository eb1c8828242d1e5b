"""Pooled rows: of many, the features stay in the file until they are asked for."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout
from ffe.dataset import load_features
from ffe.dataset.load_features import PooledRows, rows_to_group
from ffe.errors import DataError
from ffe.splits.groups import find_groups
from ffe.store.reader import FeatureStore
from tests.feature_files import write_features


def test_many_rows_are_read_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).uniform(0.1, 1, (6000, 4 * 64)).astype(np.float32)
    write_features(tmp_path / "f.h5", features, FeatureLayout.of_shape((2, 2, 64)))
    monkeypatch.setattr(load_features, "_PIECE_BYTES", 1 << 16)
    monkeypatch.setattr("ffe.splits.groups._SAMPLE", 100)
    monkeypatch.setattr("ffe.splits.whole_numbers._BLOCK_VALUES", 1 << 13)
    origin = np.stack([np.zeros(6000, np.int64), np.arange(6000)], axis=1)
    with FeatureStore(tmp_path / "f.h5") as store:
        names = store.paths
        held = rows_to_group([store], origin, names)
        assert isinstance(held, np.ndarray)
        monkeypatch.setattr(load_features, "ALL_PAIRS", 1000)
        monkeypatch.setattr("ffe.splits.groups.ALL_PAIRS", 1000)
        find_groups(store.sha256, None, held)  # compiles
        tracemalloc.start()
        lazy = rows_to_group([store], origin, names)
        groups = find_groups(store.sha256, None, lazy)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert isinstance(lazy, PooledRows)
        some = np.asarray([5, 2999, 7])
        np.testing.assert_array_equal(lazy[some], held[some])
        assert groups.levels["near"].tolist() == find_groups(store.sha256, None, held).levels["near"].tolist()
    assert peak < features.nbytes


def test_many_rows_are_checked_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).uniform(0.1, 1, (20, 8)).astype(np.float32)
    features[7, 3] = np.inf
    write_features(tmp_path / "f.h5", features, FeatureLayout.of_shape((8,)))
    monkeypatch.setattr(load_features, "ALL_PAIRS", 5)
    with FeatureStore(tmp_path / "f.h5") as store, pytest.raises(DataError, match="hold NaN or infinity"):
        rows_to_group([store], np.stack([np.zeros(20, np.int64), np.arange(20)], axis=1), store.paths)
