"""Fits on more rows than memory holds: the same machine as in memory, in memory that stays flat."""

from __future__ import annotations

import logging
import tracemalloc
from typing import Any

import numpy as np
import pytest

from ffe.base.arrays import blocks_of_rows
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.heads import base as heads_base
from ffe.heads import find_head, nystroem, passes
from ffe.heads.base import FitData, Head, sample_of
from ffe.heads.ensemble import EnsembleHead
from ffe.heads.search_space import complete
from ffe.heads.transform import FeatureMap

ROWS, FEW, DIMS, CLASSES = 20_000, 6_100, 64, 3
LAYOUT = FeatureLayout((Part(1, 1, DIMS),))


class Made:
    """Rows float32 (N, 64) that lie nowhere: made when they are asked for, and counted."""

    def __init__(self, rows: int = FEW) -> None:
        self.shape = (rows, DIMS)
        self.labels = np.random.default_rng(0).integers(0, CLASSES, rows)
        self.read = 0
        self.most = 0

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self.read += len(rows)
        self.most = max(self.most, len(rows))
        phases = rows[:, None] * np.sqrt(np.arange(2, 2 + DIMS))
        made = np.sin(phases * 7.3) + 0.4 * np.sin((1 + self.labels[rows, None]) * np.arange(DIMS)) + 1
        return made.astype(np.float32)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks of 512 rows, and samples of 2,000."""
    monkeypatch.setattr("ffe.base.arrays._BLOCK_VALUES", 512 * DIMS)
    for module in (heads_base, passes):
        monkeypatch.setattr(module, "SAMPLE_ROWS", 2_000)
    monkeypatch.setattr(nystroem, "LANDMARKS", 256)


def head_of(name: str, **settings: Any) -> Head:
    kind = find_head(name)
    return kind(complete(kind.space_for(LAYOUT), {"pooling": "flat", **settings}, name), LAYOUT)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("logistic", {"C": 1.0, "scaling": "standard"}),
        ("logistic", {"C": 1.0, "pca": True, "components": 32}),
        ("svm", {"kernel": "linear", "C": 1.0}),
        ("svm", {"kernel": "rbf", "C": 1.0, "scaling": "standard"}),
    ],
)
def test_machines_in_passes_are_those_in_memory(small_blocks: None, name: str, settings: dict[str, Any]) -> None:
    source, rows = Made(), np.arange(FEW)
    data = FitData(source.labels, CLASSES, class_weights=np.asarray([1.0, 2.0, 0.5]))
    streamed = head_of(name, **settings).fit_streamed(source, data)
    assert source.most <= 2_048
    features = source[rows]
    whole = head_of(name, **settings)
    whole.fit(features, data.labels, CLASSES, class_weights=data.class_weights)
    np.testing.assert_allclose(streamed.predict_proba(features[:500]), whole.predict_proba(features[:500]), atol=2e-3)


def test_memory_and_passes_of_a_linear_fit_are_bounded(small_blocks: None) -> None:
    source = Made(ROWS)
    tracemalloc.start()
    try:
        head_of("logistic", C=10.0).fit_streamed(source, FitData(source.labels, CLASSES))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * ROWS * DIMS  # less than the features themselves
    assert source.read < 40 * ROWS


def test_a_fit_that_does_not_settle_says_so(
    small_blocks: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(passes, "MOST_PASSES", 1)
    source = Made(3_000)
    with caplog.at_level(logging.WARNING, "ffe"):
        head_of("logistic").fit_streamed(source, FitData(source.labels, CLASSES))
    assert "had not settled after" in caplog.text
    assert "a smaller C mends that" in caplog.text


def test_dense_heads_learn_from_windows(small_blocks: None) -> None:
    source = Made()
    streamed = head_of("dense", epochs=2).fit_streamed(source, FitData(source.labels, CLASSES))
    assert source.most <= 8_192
    rows = np.arange(2_000)
    assert (streamed.predict_proba(source[rows]).argmax(axis=1) == source.labels[rows]).mean() > 0.9


def test_every_row_is_in_one_window_of_an_epoch() -> None:
    from ffe.heads.dense import _Windows

    labels = np.arange(20_000)
    windows = _Windows(np.zeros((20_000, DIMS), np.float32), head_of("dense").map, FitData(labels, 20_000))
    windows._map.fit_rowwise(np.eye(DIMS, dtype=np.float32))
    first, second = (np.concatenate([some for _, some, _ in windows]) for _ in range(2))
    np.testing.assert_array_equal(np.sort(first), labels)
    assert not np.array_equal(first, second)


def test_a_forest_is_fitted_on_a_sample_that_is_said(small_blocks: None) -> None:
    source = Made()
    forest = head_of("forest", trees=100).fit_streamed(source, FitData(source.labels, CLASSES))
    assert source.read <= 2_000 + CLASSES
    assert forest.approximation(ROWS, streamed=True) == "the forest is fitted on 2,000 of them"
    assert forest.approximation(ROWS, streamed=False) == ""


def test_what_is_approximate_is_said() -> None:
    said = [
        head_of(*each, **settings).approximation(ROWS, streamed=streamed)
        for each, settings, streamed in (
            (["logistic"], {}, True),
            (["svm"], {"kernel": "linear"}, True),
            (["svm"], {}, True),
            (["svm"], {}, False),
            (["dense"], {}, True),
        )
    ]
    nystroem = "the kernel of the svm is approximated from 1,024 of them (Nyström)"
    assert said == ["", "", nystroem, nystroem, "the batches of the dense head are drawn from windows of 8,192 of them"]
    members = [{"head": "svm", "parameters": head_of("svm").parameters, "temperature": 1.0}] * 2
    assert EnsembleHead({"members": members}, LAYOUT).approximation(ROWS, streamed=True) == nystroem
    wide = FeatureLayout((Part(1, 1, 5_000),))
    logistic = find_head("logistic")(head_of("logistic", pca=True).parameters, wide)
    assert logistic.approximation(ROWS, streamed=True) == "scaling and PCA are learnt from some of them"


def test_a_map_learns_the_same_in_blocks() -> None:
    x = np.random.default_rng(1).normal(3, 2, (3_000, DIMS)).astype(np.float32)
    x[:, 5] = 1
    parameters = {"pooling": "flat", "scaling": "standard", "pca": True, "components": 32}
    whole = FeatureMap(parameters, LAYOUT).fit_rowwise(x)
    blocks = FeatureMap(parameters, LAYOUT).fit_blocks(lambda: (block for _, block in blocks_of_rows(x, 700)))
    np.testing.assert_allclose(blocks.mean, whole.mean, rtol=1e-5)
    np.testing.assert_allclose(blocks.scale, whole.scale, rtol=1e-5)
    np.testing.assert_allclose(np.abs(blocks.transform_rowwise(x)), np.abs(whole.transform_rowwise(x)), atol=0.02)


def test_samples_have_their_share_of_every_class_and_are_the_same_everywhere() -> None:
    labels = np.repeat([0, 1, 2], [9_000, 960, 40])
    rows = sample_of(labels, 1_000, 7)
    assert np.bincount(labels[rows]).tolist() == [900, 96, 40]
    assert np.array_equal(rows, np.unique(rows))
    assert rows[:6].tolist() == [11, 14, 16, 18, 19, 33]
    np.testing.assert_array_equal(sample_of(labels, 20_000, 7), np.arange(10_000))
