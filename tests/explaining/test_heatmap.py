"""Heat maps: exact for linear heads, true to what leaving out does, and on the place that decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout, Part
from ffe.evaluation.temperature import with_temperature
from ffe.explaining.area import Window
from ffe.explaining.heatmap import by_leaving_out, heat_map, log_odds, without
from ffe.heads import find_head
from ffe.heads.base import Head
from ffe.heads.ensemble import EnsembleHead
from ffe.heads.search_space import complete

SIDE, CHANNELS = 7, 12
LAYOUT = FeatureLayout.of_shape((SIDE, SIDE, CHANNELS))


def photos(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features (n, D) of noise with one cell that decides, its (row, column), and labels: channel = class."""
    rng = np.random.default_rng(seed)
    grids = rng.uniform(0, 1, (count, SIDE, SIDE, CHANNELS)).astype(np.float32)
    places, labels = rng.integers(0, SIDE, (count, 2)), np.arange(count) % classes
    grids[np.arange(count), places[:, 0], places[:, 1], labels] += 20
    return grids.reshape(count, -1), places, labels


def fitted(name: str, x: np.ndarray, labels: np.ndarray, classes: int, **settings: Any) -> Head:
    head = find_head(name)
    return head(complete(head.space, settings, name), LAYOUT).fit(x, labels, classes)


LINEAR: list[tuple[str, Mapping[str, Any]]] = [
    ("logistic", {"scaling": "standard", "C": 0.01}),
    ("logistic", {"scaling": "none", "C": 1.0}),
    ("logistic", {"scaling": "standard", "pca": True, "components": 32}),
    ("svm", {"kernel": "linear", "scaling": "standard", "C": 0.01}),
]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("name", "settings"), LINEAR)
def test_cells_and_bias_of_a_linear_head_are_the_log_odds(name: str, settings: Mapping[str, Any], classes: int) -> None:
    x, _, labels = photos(60, classes)
    head = fitted(name, x, labels, classes, pooling="avg", **settings)
    new, *_ = photos(5, classes, seed=1)
    for temperature in (1.0, 0.4):
        said = with_temperature(head.predict_proba(new), temperature)
        for row, answer in zip(new, said, strict=True):
            for label in range(classes):
                found = heat_map(head, LAYOUT, row, label, temperature)
                assert found is not None
                assert found.exact
                assert found.bias is not None
                assert found.cells.dtype == np.float32
                assert found.cells.shape == (SIDE, SIDE)
                assert found.cells.sum(dtype=np.float64) + found.bias == pytest.approx(found.log_odds, abs=1e-5, rel=1e-5)
                if 1e-9 < answer[label] < 1 - 1e-9:
                    assert found.log_odds == pytest.approx(np.log(answer[label] / (1 - answer[label])), abs=1e-5, rel=1e-5)


def test_a_cell_of_a_linear_head_counts_as_a_photo_of_nothing_else_says() -> None:
    """Where all cells are one cell, the log-odds are the bias and 49 times what that cell adds: asked of the head itself."""
    x, _, labels = photos(60, 2)
    head = fitted("logistic", x, labels, 2, pooling="avg", scaling="standard", C=0.01)
    found = heat_map(head, LAYOUT, x[0], 1)
    assert found is not None
    assert found.bias is not None
    for i, cell in enumerate(x[0].reshape(-1, CHANNELS)):
        alone = log_odds(head.predict_proba(np.tile(cell, SIDE * SIDE)[None]), 1)[0]
        assert found.bias + SIDE * SIDE * found.cells.flat[i] == pytest.approx(alone, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("logistic", {"scaling": "sqrt_l2"}),
        ("logistic", {"scaling": "standard", "pooling": "avgmax"}),
        ("logistic", {"scaling": "none", "pooling": "flat"}),
        ("svm", {"scaling": "none", "kernel": "rbf"}),
        ("dense", {"epochs": 1}),
        ("forest", {}),
    ],
)
def test_other_heads_are_not_called_exact(name: str, settings: Mapping[str, Any]) -> None:
    x, _, labels = photos(30, 2)
    found = heat_map(fitted(name, x, labels, 2, **settings), LAYOUT, x[0], 0)
    assert found is None or not found.exact


def test_a_map_is_what_the_log_odds_lose_without_three_by_three_cells() -> None:
    x, _, labels = photos(60, 2)
    head = fitted("svm", x, labels, 2)
    found = heat_map(head, LAYOUT, x[3], 1, 0.5)
    assert found is not None
    grid = x[3].reshape(SIDE, SIDE, CHANNELS)
    for row, column in ((0, 0), (3, 4), (6, 2)):
        out = np.zeros((SIDE, SIDE), bool)
        out[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = True
        changed = grid.copy()
        changed[out] = grid[~out].mean(axis=0)
        answers = with_temperature(head.predict_proba(np.stack([x[3], changed.reshape(-1)])), 0.5)
        before, after = np.log(answers[:, 1] / answers[:, 0])
        assert found.cells[row, column] == pytest.approx(before - after, abs=1e-4)
        assert found.log_odds == pytest.approx(before, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("scaling", ["sqrt_l2", "l2", "none"])
def test_a_kernel_on_flat_cells_says_the_same_cell_by_cell(scaling: str, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, _, labels = photos(60, classes)
    head = fitted("svm", x - 0.3, labels, classes, pooling="flat", scaling=scaling)
    found = heat_map(head, LAYOUT, x[4] - 0.3, 1)
    asked: list[int] = []
    plain = type(head).predict_proba
    monkeypatch.setattr(type(head), "proba_of_replaced", lambda *given: None)
    monkeypatch.setattr(type(head), "predict_proba", lambda self, rows: asked.append(len(rows)) or plain(self, rows))
    whole = heat_map(head, LAYOUT, x[4] - 0.3, 1)
    assert asked == [50]
    assert found is not None
    assert whole is not None
    np.testing.assert_allclose(found.cells, whole.cells, atol=1e-5 * np.abs(whole.cells).max())
    assert found.log_odds == pytest.approx(whole.log_odds, rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{"pooling": "avg"}, {"pooling": "flat", "scaling": "standard"}, {"pooling": "flat", "pca": True}, {"kernel": "linear"}],
)
def test_what_looks_at_cells_otherwise_is_asked_about_whole_rows(settings: Mapping[str, Any]) -> None:
    x, _, labels = photos(60, 2)
    head = fitted("svm", x, labels, 2, **{"pooling": "flat", **settings})
    out = np.zeros((1, SIDE * SIDE), bool)
    assert head.proba_of_replaced(x[0], out, np.zeros((1, CHANNELS), np.float32)) is None


def test_areas_are_of_two_by_two_cells_on_small_grids_and_of_one_on_the_smallest() -> None:
    for shape, most in (((7, 7), 9), ((5, 9), 9), ((4, 4), 4), ((3, 7), 6), ((2, 2), 1), ((1, 8), 3)):
        asked: list[np.ndarray] = []

        def ask(areas: np.ndarray, asked: list[np.ndarray] = asked) -> np.ndarray:
            asked.append(areas)
            left = 0.9 - areas.reshape(len(areas), -1).mean(axis=1) / 2
            return np.stack([1 - left, left], axis=1)

        found = by_leaving_out(ask, shape, 1, 1.0)
        (areas,) = asked  # in one call
        sizes = areas.sum(axis=(1, 2))
        assert sizes[0] == 0
        assert sizes.max() == most
        assert found.cells.shape == shape
        assert (found.cells > 0).all()


def test_what_is_left_out_takes_the_mean_of_the_rest_in_every_layer_and_tokens_stay() -> None:
    layout = FeatureLayout((Part(4, 4, 3, prefix=2), Part(2, 2, 5), Part(1, 1, 6)))
    features = np.random.default_rng(0).normal(size=layout.dims).astype(np.float32)
    areas = np.zeros((2, 2, 2), bool)
    areas[1, 0, 1] = True
    same, changed = without(features, layout, areas)
    np.testing.assert_array_equal(same, features)
    tokens, first = changed[:54].reshape(18, 3), features[:54].reshape(18, 3)
    np.testing.assert_array_equal(tokens[:2], first[:2])
    grid, before = tokens[2:].reshape(4, 4, 3), first[2:].reshape(4, 4, 3)
    out = np.zeros((4, 4), bool)
    out[:2, 2:] = True
    np.testing.assert_array_equal(grid[~out], before[~out])
    np.testing.assert_allclose(grid[out], np.tile(before[~out].mean(axis=0), (4, 1)), rtol=1e-5, atol=1e-6)
    second, was = changed[54:74].reshape(4, 5), features[54:74].reshape(4, 5)
    np.testing.assert_array_equal(second[[0, 2, 3]], was[[0, 2, 3]])
    np.testing.assert_allclose(second[1], was[[0, 2, 3]].mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(changed[74:], features[74:])


class OneToken(Head):
    """Looks at some of the values of a row alone."""

    def __init__(self, values: slice) -> None:
        self.values = values

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        right = 1 / (1 + np.exp(-features[:, self.values].sum(axis=1, dtype=np.float64)))
        return np.stack([1 - right, right], axis=1)


def test_a_head_that_looks_at_no_places_has_no_map() -> None:
    tokens = FeatureLayout((Part(4, 4, 3, prefix=1),))
    row = np.random.default_rng(0).normal(size=tokens.dims).astype(np.float32)
    assert heat_map(OneToken(slice(0, 3)), tokens, row, 1) is None  # the class token
    assert heat_map(OneToken(slice(0, 9)), FeatureLayout((Part(1, 1, 9),)), row[:9], 1) is None  # a vector


def test_tokens_that_are_no_grid_of_the_picture_have_no_map() -> None:
    column, row = FeatureLayout((Part(7, 1, 2),)), np.ones(14, np.float32)
    head = OneToken(slice(0, 2))
    row[:2] = 3
    assert heat_map(head, column, row, 1, windows=[Window((224, 224))]) is None
    assert heat_map(head, column, row, 1, windows=[Window((224, 32))]) is not None  # a narrow picture
    assert heat_map(head, FeatureLayout((Part(1, 1, 2),)), row[:2], 1, windows=[Window((32, 32))]) is None


def test_large_grids_are_taken_in_blocks() -> None:
    layout = FeatureLayout((Part(37, 20, 2),))
    row = np.random.default_rng(0).normal(size=layout.dims).astype(np.float32)
    found = heat_map(OneToken(slice(0, 2)), layout, row, 1)
    assert found is not None
    assert found.cells.shape == (16, 16)
    assert np.unravel_index(np.abs(found.cells).argmax(), (16, 16)) in {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_log_odds_do_not_saturate_and_zeros_are_no_infinities() -> None:
    sure = np.asarray([[1e-40, 1.0], [1e-80, 1.0]])
    np.testing.assert_allclose(log_odds(sure, 1), np.log(10) * np.asarray([40, 80]))
    np.testing.assert_allclose(log_odds(sure, 0, 0.5), -np.log(10) * np.asarray([20, 40]))
    trees = np.asarray([[0.0, 1.0], [0.01, 0.99]])
    np.testing.assert_allclose(log_odds(trees, 1), [np.log(1 / 0.005), np.log(99)])
    assert np.isfinite(log_odds(np.zeros((2, 3)), 1)).all()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("svm", {}),
        ("svm", {"kernel": "linear", "scaling": "standard", "C": 0.01}),
        ("logistic", {}),
        ("logistic", {"pooling": "max"}),
        ("dense", {"pooling": "max"}),
        ("forest", {"pooling": "max"}),
        ("ensemble", {}),
    ],
)
def test_the_heat_lies_on_the_cell_that_decides_with_any_head(name: str, settings: Mapping[str, Any]) -> None:
    x, _, labels = photos(120, 2)
    if name == "ensemble":
        members = [
            {"head": each, "parameters": complete(find_head(each).space, {"pooling": "max"}, each), "temperature": 1.0}
            for each in ("svm", "logistic")
        ]
        head: Head = EnsembleHead({"members": members}, LAYOUT).fit(x, labels, 2)
    else:
        head = fitted(name, x, labels, 2, **settings)
    new, places, truths = photos(30, 2, seed=1)
    near, hits = [], []
    for row, (down, across), label in zip(new, places, truths.tolist(), strict=True):
        found = heat_map(head, LAYOUT, row, label)
        assert found is not None
        heat = np.clip(found.cells, 0, None)
        near.append(heat[max(0, down - 1) : down + 2, max(0, across - 1) : across + 2].sum() / heat.sum())
        peak = np.unravel_index(heat.argmax(), heat.shape)
        hits.append(max(abs(peak[0] - down), abs(peak[1] - across)) <= 1)
    assert np.mean(hits) >= 0.9
    assert np.mean(near) >= 0.6  # by chance 9 of 49
