"""Pooling and scaling against numpy by hand, PCA against scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pytest
from sklearn import decomposition
from sklearn.preprocessing import StandardScaler

from ffe.base.feature_layout import FeatureLayout
from ffe.heads import transform
from ffe.heads.transform import FEATURE_SPACE, FeatureMap

LAYOUT = FeatureLayout.of_shape((2, 3, 4))


class _Map(FeatureMap):
    """Both halves in one go."""

    def fit(self, features: np.ndarray) -> Self:
        return self.fit_rowwise(self.rowwise(features))

    def transform(self, features: np.ndarray) -> np.ndarray:
        return self.transform_rowwise(self.rowwise(features))


def _map(pooling: str, scaling: str = "none", **others: Any) -> _Map:
    return _Map({"pooling": pooling, "scaling": scaling, **others}, LAYOUT)


def _rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 2, (count, 24)).astype(np.float32)


def test_flat_keeps_the_features() -> None:
    x = _rows(5)
    np.testing.assert_array_equal(_map("flat", "none").fit(x).transform(x), x)


def test_pooling_is_over_the_cells_of_each_channel() -> None:
    x = _rows(5)
    average = np.stack([[row[channel::4].mean(dtype=np.float64) for channel in range(4)] for row in x])
    greatest = np.stack([[row[channel::4].max() for channel in range(4)] for row in x])
    np.testing.assert_allclose(_map("avg", "none").transform(x), average, atol=1e-6)
    np.testing.assert_array_equal(_map("max", "none").transform(x), greatest)
    both = _map("avgmax", "none").transform(x)
    np.testing.assert_allclose(both, np.concatenate([average, greatest], axis=1), atol=1e-6)
    assert both.dtype == np.float32


def test_standard_scaling_is_learnt_from_the_training_rows_alone() -> None:
    x, other = _rows(40), _rows(7, seed=1) * 100
    fitted = _map("flat", "standard").fit(x)
    scaled = fitted.transform(x)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(fitted.transform(other), (other - x.mean(axis=0)) / x.std(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(fitted.transform(x), scaled)


def test_standard_scaling_is_learnt_after_pooling() -> None:
    x = _rows(40)
    pooled = x.reshape(40, 6, 4).max(axis=1)
    expected = (pooled - pooled.mean(axis=0)) / pooled.std(axis=0)
    np.testing.assert_allclose(_map("max", "standard").fit(x).transform(x), expected, atol=1e-4)


def test_a_constant_feature_becomes_zero_and_not_nan() -> None:
    x = _rows(20)
    x[:, 3] = 7.7
    x[:, 5] = 0
    scaled = _map("flat", "standard").fit(x).transform(x)
    assert np.isfinite(scaled).all()
    np.testing.assert_allclose(scaled[:, [3, 5]], 0, atol=1e-5)
    assert np.isfinite(_map("flat", "standard").fit(np.zeros_like(x)).transform(x)).all()


def test_a_feature_that_is_constant_but_for_rounding_is_not_blown_up() -> None:
    x = _rows(20)
    x[:, 3] = 1000
    x[0, 3] = np.nextafter(np.float32(1000), np.float32(2000))
    assert np.abs(_map("flat", "standard").fit(x).transform(x)[:, 3]).max() < 1


def test_sqrt_l2_is_the_signed_root_with_length_one() -> None:
    x = _rows(6)
    assert (x < 0).any()
    scaled = _map("flat", "sqrt_l2").fit(x).transform(x)
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1, atol=1e-6)
    roots = np.sign(x) * np.sqrt(np.abs(x.astype(np.float64)))
    np.testing.assert_allclose(scaled, roots / np.linalg.norm(roots, axis=1, keepdims=True), atol=1e-6)


def test_sqrt_l2_of_nothing_is_nothing() -> None:
    np.testing.assert_array_equal(_map("flat", "sqrt_l2").transform(np.zeros((2, 24), np.float32)), 0)


def test_l2_is_the_row_with_length_one() -> None:
    x = _rows(6)
    x[2] = 0
    scaled = _map("flat", "l2").fit(x).transform(x)
    lengths = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(scaled, x / np.where(lengths > 0, lengths, 1), atol=1e-6)
    np.testing.assert_array_equal(scaled[2], 0)


@pytest.mark.parametrize("scaling", ["l2", "sqrt_l2"])
def test_normalisation_comes_after_pooling(scaling: str) -> None:
    scaled = _map("avgmax", scaling).transform(_rows(6))
    assert scaled.shape == (6, 8)
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1, atol=1e-6)


def test_mean_and_deviation_are_those_of_scikit_learn() -> None:
    """A large mean, a constant and a nearly constant column included."""
    x = _rows(50)
    x[:, 1] += 300
    x[:, 2] = 4
    reference = StandardScaler().fit(x.astype(np.float64))
    fitted = _map("flat", "standard").fit(x)
    learnt = fitted.arrays()
    np.testing.assert_allclose(learnt["mean"], reference.mean_, rtol=1e-6)
    np.testing.assert_allclose(learnt["scale"], reference.scale_, rtol=1e-6)
    np.testing.assert_allclose(fitted.transform(x), reference.transform(x.astype(np.float64)), atol=1e-4)


def _correlated(rows: int, dims: int) -> np.ndarray:
    """Make rows whose directions have clearly different variances."""
    rng = np.random.default_rng(1)
    return (rng.normal(size=(rows, dims)) * np.geomspace(10, 0.1, dims) @ rng.normal(size=(dims, dims)) + 3).astype(np.float32)


@pytest.mark.parametrize(("rows", "dims"), [(200, 24), (15, 24)], ids=["covariance", "Gram"])
@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_pca_equals_scikit_learn_up_to_sign(rows: int, dims: int, scaling: str) -> None:
    """Within 1e-4 of the largest component; the directions, and the components of other rows."""
    x, others = _correlated(rows, dims), _correlated(rows + 9, dims)[rows:]
    fitted = _map("flat", scaling, pca=True, components=6).fit(x)
    scaler = StandardScaler(with_mean=scaling == "standard", with_std=scaling == "standard").fit(x.astype(np.float64))
    reference = decomposition.PCA(6, svd_solver="full").fit(scaler.transform(x.astype(np.float64)))
    axes = fitted.arrays()["axes"]
    assert axes.shape == (dims, 6)
    assert axes.dtype == np.float32
    signs = np.sign((axes * reference.components_.T).sum(axis=0))
    np.testing.assert_allclose(axes * signs, reference.components_.T, atol=1e-4)
    expected = reference.transform(scaler.transform(others.astype(np.float64)))
    np.testing.assert_allclose(fitted.transform(others) * signs, expected, atol=1e-4 * np.abs(expected).max())


def test_gram_and_covariance_give_the_same_axes_with_the_same_signs() -> None:
    """15 rows of 16 features take the one way, 15 of their 14 first the other; a feature of zeros makes the difference."""
    x = _correlated(15, 14)
    wide = np.concatenate([x, np.zeros((15, 2), np.float32)], axis=1)
    ways = [_Map({"pooling": "flat", "components": 4}, FeatureLayout.of_shape((rows.shape[1],))).fit(rows) for rows in (x, wide)]
    narrow, other = (way.arrays()["axes"] for way in ways)
    np.testing.assert_allclose(other[:14], narrow, atol=1e-4)
    np.testing.assert_allclose(other[14:], 0, atol=1e-6)
    assert (narrow[np.abs(narrow).argmax(axis=0), np.arange(4)] > 0).all()


@pytest.mark.parametrize(("rows", "components", "kept"), [(200, 64, 24), (8, 32, 7), (1, 32, 1)])
def test_there_are_no_more_components_than_rows_or_features_allow(rows: int, components: int, kept: int) -> None:
    x = _correlated(rows, 24)
    transformed = _map("flat", components=components).fit(x).transform(x)
    assert transformed.shape == (rows, kept)
    assert np.isfinite(transformed).all()


def test_pca_of_constant_rows_is_finite() -> None:
    x = np.full((9, 24), 3.5, np.float32)
    transformed = _map("flat", "standard", components=32).fit(x).transform(x)
    np.testing.assert_allclose(transformed, 0, atol=1e-3)


@pytest.mark.parametrize("pooling", ["flat", "avgmax"])
@pytest.mark.parametrize("scaling", ["none", "standard", "l2", "sqrt_l2"])
@pytest.mark.parametrize("components", [None, 5])
def test_blocks_of_rows_change_nothing(
    pooling: str, scaling: str, components: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rows at a time, the last block short: equal but for the rounding of the summed squares."""
    x = _rows(40)
    whole = _map(pooling, scaling, components=components).fit(x)
    expected = whole.transform(x)
    for limit in ("_BLOCK_VALUES", "_CACHED_VALUES"):
        monkeypatch.setattr(transform, limit, 3 * 24)
    blocks = _map(pooling, scaling, components=components).fit(x)
    np.testing.assert_allclose(blocks.transform(x), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(blocks.rowwise(x), whole.rowwise(x))


def test_rows_of_more_values_than_a_block_go_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    x = _rows(5)
    expected = _map("avg", "l2").transform(x)
    monkeypatch.setattr(transform, "_CACHED_VALUES", 1)
    np.testing.assert_array_equal(_map("avg", "l2").transform(x), expected)


@pytest.mark.parametrize(
    ("settings", "fitted"),
    [({}, False), ({"scaling": "l2"}, False), ({"scaling": "standard"}, True), ({"scaling": "l2", "components": 32}, True)],
)
def test_what_depends_on_training_rows(settings: dict[str, Any], fitted: bool) -> None:
    assert FeatureMap({"pooling": "avg", **settings}, LAYOUT).is_fitted_to_rows == fitted


def test_parameters_of_older_models_still_read() -> None:
    """Those of the forest have no scaling, those of the first models no PCA."""
    x = _rows(20)
    plain = _Map({"pooling": "max"}, LAYOUT)
    np.testing.assert_array_equal(plain.fit(x).transform(x), _map("max").transform(x))
    assert plain.arrays() == {}
    old = _Map({"pooling": "avg", "scaling": "standard", "C": 1.0}, LAYOUT)
    learnt = _map("avg", "standard").fit(x)
    np.testing.assert_array_equal(old.restore(learnt.arrays()).transform(x), learnt.transform(x))
    assert {p.name for p in FEATURE_SPACE} == {"pooling", "scaling", "pca", "components"}


@pytest.mark.parametrize(
    ("scaling", "components", "names"),
    [
        ("standard", None, {"mean", "scale"}),
        ("standard", 3, {"mean", "scale", "centre", "axes"}),
        ("l2", 3, {"centre", "axes"}),
        ("sqrt_l2", None, set()),
        ("none", None, set()),
    ],
)
def test_what_was_learnt_can_be_restored(scaling: str, components: int | None, names: set[str]) -> None:
    x = _rows(20)
    fitted = _map("avg", scaling, components=components).fit(x)
    assert set(fitted.arrays()) == names
    assert all(array.dtype == np.float32 for array in fitted.arrays().values())
    again = _map("avg", scaling, components=components).restore(fitted.arrays())
    np.testing.assert_array_equal(again.transform(x), fitted.transform(x))
