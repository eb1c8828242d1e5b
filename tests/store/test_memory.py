"""What a feature file takes of memory: to open it, some hundred bytes a row; to check it, a chunk."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout
from ffe.store.check import check_store
from ffe.store.reader import FeatureStore
from tests.feature_files import write_features

ROWS = 2000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("memory") / "f.h5"
    features = np.random.default_rng(0).normal(size=(ROWS, 2048)).astype(np.float32)
    write_features(path, features, FeatureLayout.of_shape((2048,))).close()
    return path


def peak(work: Callable[[], object]) -> int:
    """Return how many bytes some work holds at the most."""
    tracemalloc.start()
    work()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_to_open_takes_no_features(path: Path) -> None:
    assert peak(lambda: FeatureStore(path).close()) < 2000 * ROWS  # the features take 8,192 bytes a row


def test_to_check_takes_a_chunk(path: Path) -> None:
    with FeatureStore(path) as store:
        check_store(store)
        assert peak(lambda: check_store(store)) < 4 << 20  # the features take 16 MiB
