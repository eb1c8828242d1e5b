"""Pooling and scaling, against numpy by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ffe.heads.feature_map import FeatureMap

GRID = (2, 3, 4)


def _rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 2, (count, 24)).astype(np.float32)


def test_flat_keeps_the_features() -> None:
    x = _rows(5)
    np.testing.assert_array_equal(FeatureMap("flat", "none", GRID).fit(x).transform(x), x)


def test_pooling_is_over_the_cells_of_each_channel() -> None:
    x = _rows(5)
    average = np.stack([[row[channel::4].mean(dtype=np.float64) for channel in range(4)] for row in x])
    greatest = np.stack([[row[channel::4].max() for channel in range(4)] for row in x])
    np.testing.assert_allclose(FeatureMap("avg", "none", GRID).transform(x), average, atol=1e-6)
    np.testing.assert_array_equal(FeatureMap("max", "none", GRID).transform(x), greatest)
    both = FeatureMap("avgmax", "none", GRID).transform(x)
    np.testing.assert_allclose(both, np.concatenate([average, greatest], axis=1), atol=1e-6)
    assert both.dtype == np.float32


def test_standard_scaling_is_learnt_from_the_training_rows_alone() -> None:
    x, other = _rows(40), _rows(7, seed=1) * 100
    fitted = FeatureMap("flat", "standard", GRID).fit(x)
    scaled = fitted.transform(x)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(fitted.transform(other), (other - x.mean(axis=0)) / x.std(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(fitted.transform(x), scaled)


def test_standard_scaling_is_learnt_after_pooling() -> None:
    x = _rows(40)
    pooled = x.reshape(40, 6, 4).max(axis=1)
    expected = (pooled - pooled.mean(axis=0)) / pooled.std(axis=0)
    np.testing.assert_allclose(FeatureMap("max", "standard", GRID).fit(x).transform(x), expected, atol=1e-4)


def test_a_constant_feature_becomes_zero_and_not_nan() -> None:
    x = _rows(20)
    x[:, 3] = 7.7
    x[:, 5] = 0
    scaled = FeatureMap("flat", "standard", GRID).fit(x).transform(x)
    assert np.isfinite(scaled).all()
    np.testing.assert_allclose(scaled[:, [3, 5]], 0, atol=1e-5)
    assert np.isfinite(FeatureMap("flat", "standard", GRID).fit(np.zeros_like(x)).transform(x)).all()


def test_a_feature_that_is_constant_but_for_rounding_is_not_blown_up() -> None:
    x = _rows(20)
    x[:, 3] = 1000
    x[0, 3] = np.nextafter(np.float32(1000), np.float32(2000))
    assert np.abs(FeatureMap("flat", "standard", GRID).fit(x).transform(x)[:, 3]).max() < 1


def test_sqrt_l2_is_the_signed_root_with_length_one() -> None:
    x = _rows(6)
    assert (x < 0).any()
    scaled = FeatureMap("flat", "sqrt_l2", GRID).fit(x).transform(x)
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1, atol=1e-6)
    roots = np.sign(x) * np.sqrt(np.abs(x.astype(np.float64)))
    np.testing.assert_allclose(scaled, roots / np.linalg.norm(roots, axis=1, keepdims=True), atol=1e-6)


def test_sqrt_l2_of_nothing_is_nothing() -> None:
    np.testing.assert_array_equal(FeatureMap("flat", "sqrt_l2", GRID).transform(np.zeros((2, 24), np.float32)), 0)


@pytest.mark.parametrize(("scaling", "names"), [("standard", {"mean", "scale"}), ("sqrt_l2", set()), ("none", set())])
def test_what_was_learnt_can_be_restored(scaling: str, names: set[str]) -> None:
    x = _rows(20)
    fitted = FeatureMap("avg", scaling, GRID).fit(x)
    assert set(fitted.arrays()) == names
    again = FeatureMap("avg", scaling, GRID).restore(fitted.arrays())
    np.testing.assert_array_equal(again.transform(x), fitted.transform(x))
