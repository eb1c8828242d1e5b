"""Temperature, calibration error, reliability."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffe.evaluation import temperature
from ffe.evaluation.temperature import (
    calibrate,
    calibration_error,
    log_probabilities,
    reliability,
    softmax,
    with_temperature,
)


def answers(rows: int, factor: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are ``factor`` too sure, and labels drawn from the right ones."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (rows, 3))
    labels = (softmax(scores).cumsum(axis=1) > rng.uniform(size=(rows, 1))).argmax(axis=1)
    return softmax(scores * factor), labels


@pytest.mark.parametrize("factor", [0.3, 4.0])
def test_a_classifier_that_is_wrongly_sure_is_mended(factor: float) -> None:
    found = calibrate(*answers(1500, factor))
    assert found.factor == pytest.approx(1 / factor, rel=0.15)
    assert found.error_after < 0.5 * found.error_before
    assert found.log_loss_after < found.log_loss_before
    assert sum(part.count for part in found.before) == sum(part.count for part in found.after) == found.rows == 1500


def test_one_that_is_right_is_left_nearly_alone() -> None:
    assert calibrate(*answers(3000, 1.0)).factor == pytest.approx(1, abs=0.1)


def test_the_figures_after_it_are_of_rows_that_it_was_not_fitted_on() -> None:
    """A factor that helps only where it was fitted is not used: 30 rows, of which a half is all right and a half is not."""
    probabilities = np.tile([0.7, 0.3], (30, 1))
    rng = np.random.default_rng(0)
    half = rng.permutation(30) % 2 == 1
    found = calibrate(probabilities, np.where(half, 0, (rng.uniform(size=30) < 0.6).astype(np.int64)))
    assert found.factor == 1
    assert found.log_loss_after == found.log_loss_before
    assert found.before == found.after


def test_all_right_does_not_make_it_certain() -> None:
    labels = np.arange(60) % 2
    probabilities = np.where(labels[:, None] == 0, [0.8, 0.2], [0.2, 0.8])
    found = calibrate(probabilities, labels)
    assert 1 < found.factor < 10
    assert 0.97 < with_temperature(probabilities, found.factor).max() < 1 - 1 / 200


@pytest.mark.parametrize("rows", [1, 19])
def test_few_rows_are_left_alone(rows: int) -> None:
    assert calibrate(*answers(rows, 5.0)).factor == 1


def test_rows_of_one_group_stand_in_one_half() -> None:
    """Copies in both halves would make a factor look good that is fitted to chance."""
    probabilities, labels = answers(60, 1.0, seed=3)
    copies = calibrate(np.repeat(probabilities, 20, axis=0), np.repeat(labels, 20), groups=np.repeat(np.arange(60), 20))
    alone = calibrate(probabilities, labels)
    assert copies.log_loss_after == pytest.approx(alone.log_loss_after, abs=0.02)


def test_it_is_plain_json_with_the_factor_as_temperature() -> None:
    found = calibrate(*answers(100, 3.0))
    value = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert value["temperature"] == found.factor
    assert set(value) == {
        *("temperature", "rows", "error_before", "error_after", "log_loss_before", "log_loss_after", "before", "after")
    }
    assert set(value["before"][0]) == {"low", "high", "count", "confidence", "accuracy", "interval"}


def test_factor_one_changes_nothing_at_all() -> None:
    probabilities, _ = answers(50, 3.0)
    assert with_temperature(probabilities, 1.0) is probabilities


def test_with_temperature_by_hand() -> None:
    np.testing.assert_allclose(with_temperature(np.asarray([[0.8, 0.2]]), 2.0), [[16 / 17, 1 / 17]])
    np.testing.assert_allclose(with_temperature(np.asarray([[1.0, 0.0]]), 0.5), [[1, 10**-7.5]], rtol=1e-6)
    assert with_temperature(np.empty((0, 2)), 0.5).shape == (0, 2)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6).filter(lambda row: sum(row) > 1e-3),
    st.floats(0.0067, 148.4),
)
def test_the_answer_never_changes(row: list[float], factor: float) -> None:
    probabilities = np.asarray([row]) / np.sum(row)
    scaled = with_temperature(probabilities, factor)
    assert scaled.argmax() == probabilities.argmax()
    assert scaled.sum() == pytest.approx(1)
    assert scaled.min() >= 0


@pytest.mark.parametrize("factor", [0.007, 0.3, 0.9, 3.0])
def test_the_answer_stays_where_two_classes_round_to_the_same(factor: float) -> None:
    """The second class is ahead by one unit in the last place, which a logarithm loses."""
    starts = np.random.default_rng(0).uniform(0.25, 0.49, 500)
    probabilities = np.stack([starts, np.nextafter(starts, 1), 1 - 2 * starts], axis=1)
    probabilities[:, 2] = np.minimum(probabilities[:, 2], 0.2)
    assert (probabilities.argmax(axis=1) == 1).all()
    plain = softmax(factor * log_probabilities(probabilities)).argmax(axis=1)
    assert (plain != 1).any()  # so that the test can fail
    assert (with_temperature(probabilities, factor).argmax(axis=1) == 1).all()


def test_calibration_error_and_bins_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temperature, "BINS", 4)
    probabilities = np.asarray([[0.9, 0.1], [0.92, 0.08], [0.4, 0.6], [0.3, 0.7]])
    labels = np.asarray([0, 1, 1, 1])
    bins = low, high = reliability(probabilities, labels)
    assert (low.low, low.high, low.count, low.confidence, low.accuracy) == (0.5, 0.75, 2, pytest.approx(0.65), 1.0)
    assert (high.low, high.high, high.count, high.confidence, high.accuracy) == (0.75, 1.0, 2, pytest.approx(0.91), 0.5)
    assert high.interval == pytest.approx((0.0945, 0.9055), abs=1e-4)
    assert calibration_error(bins) == pytest.approx((0.35 + 0.41) / 2)


def test_certainty_falls_into_the_last_bin() -> None:
    (only,) = reliability(np.asarray([[1.0, 0.0]]), np.asarray([0]))
    assert (only.high, only.count) == (1.0, 1)
    assert calibration_error((only,)) == 0
