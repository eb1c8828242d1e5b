"""Scores -> probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from scipy.special import softmax as reference

from ffe.evaluation.temperature import fit_temperature, softmax
from ffe.heads.probability import two_columns


def test_softmax_equals_scipy() -> None:
    scores = np.random.default_rng(0).normal(0, 5, (20, 4))
    np.testing.assert_allclose(softmax(scores), reference(scores, axis=1), atol=1e-15)


def test_softmax_takes_huge_float32_scores() -> None:
    probabilities = softmax(np.asarray([[3e38, -3e38], [-3e38, -3e38], [1e4, 1e4 - 1]], np.float32))
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, [[1, 0], [0.5, 0.5], [expit(1), expit(-1)]], atol=1e-12)


def test_two_columns_give_the_sigmoid() -> None:
    score = np.asarray([-800.0, -2.0, 0.0, 3.0, 800.0])
    np.testing.assert_allclose(softmax(two_columns(score))[:, 1], expit(score), atol=1e-15)


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_the_temperature_undoes_a_factor_on_the_scores(factor: float) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, (4000, 3))
    labels = (softmax(scores).cumsum(axis=1) > rng.uniform(size=(4000, 1))).argmax(axis=1)
    assert fit_temperature(scores * factor, labels) == pytest.approx(1 / factor, rel=0.1)


def test_the_temperature_is_the_one_of_least_loss() -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.normal(0, 2, (200, 3)), rng.integers(0, 3, 200)
    labels[:120] = scores[:120].argmax(axis=1)

    def loss(factor: float) -> float:
        return float(-np.log(softmax(scores * factor)[np.arange(200), labels]).mean())

    best = fit_temperature(scores, labels)
    assert loss(best) <= min(loss(best * 0.97), loss(best * 1.03), loss(1.0))
