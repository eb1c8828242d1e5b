"""Resamples and the intervals of shares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from ffe.evaluation import intervals
from ffe.evaluation.intervals import (
    accuracy_intervals,
    group_numbers,
    percentile_intervals,
    resampled_weights,
    resamples_of,
    wilson,
)


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (299, 300), (300, 300), (0, 12), (7, 20)])
def test_wilson_equals_scipy(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_each_resample_draws_as_many_groups_as_there_are_and_whole_ones() -> None:
    groups = group_numbers(np.asarray([7, 7, -3, 100, 100, 100]), 6)
    assert groups.tolist() == [1, 1, 0, 2, 2, 2]
    weights = np.hstack(list(resampled_weights(groups)))
    assert weights.shape == (6, 2000)
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[3], weights[5])
    np.testing.assert_array_equal(weights[[0, 2, 3]].sum(axis=0), 3)
    np.testing.assert_allclose(weights.mean(axis=1), 1, atol=0.15)


@pytest.mark.parametrize("groups", [None, np.arange(50) // 4])
def test_blocks_do_not_change_the_draws(groups: np.ndarray | None, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = group_numbers(groups, 50)
    monkeypatch.setattr(intervals, "RESAMPLES", 30)
    whole = list(resampled_weights(numbers))
    monkeypatch.setattr(intervals, "_BLOCK_BYTES", 4 * 50 * 7)
    parts = list(resampled_weights(numbers))
    assert [part.shape[1] for part in parts] == [7, 7, 7, 7, 2]
    np.testing.assert_array_equal(np.hstack(parts), whole[0])


def test_percentiles_leave_out_what_is_undefined() -> None:
    samples = np.asarray([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])
    low, high = percentile_intervals(samples)
    assert (low[0], high[0]) == pytest.approx((1.05, 2.95))
    assert np.isnan([low[1], high[1]]).all()


@pytest.mark.parametrize(("rows", "resamples"), [(1, 2000), (100_000, 2000), (200_000, 1000), (1_000_000, 400), (10**8, 400)])
def test_of_many_rows_fewer_resamples_are_drawn(rows: int, resamples: int) -> None:
    assert resamples_of(rows) == resamples


def test_a_resample_of_many_rows_is_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(intervals, "_MOST_DRAWS", 1_000_000)
    blocks = [weights.shape for weights in resampled_weights(np.arange(2000))]
    assert blocks == [(2000, 1)] * 500


def test_accuracies_of_the_same_photos_are_wilsons_and_photos_of_groups_that_are_alike_count_as_groups() -> None:
    right = np.ones((2, 30), bool)
    right[1, :6] = False
    alone, together = accuracy_intervals(right), accuracy_intervals(right, np.arange(30) // 6)
    assert (alone, together[0]) == ([wilson(1.0, 30), wilson(0.8, 30)], wilson(1.0, 5))
    assert together[1] == pytest.approx(wilson(0.8, 5), abs=0.01)
    assert accuracy_intervals(right[1:], np.arange(30) % 5) == alone[1:]  # mixed evenly: as many as there are, and no more
    right[1, 5] = True
    assert accuracy_intervals(right[1:], np.arange(30) % 5)[0] == pytest.approx(wilson(25 / 30, 5))  # alike: groups count


@pytest.mark.parametrize("wrong", [1, 39])
def test_an_interval_ends_in_neither_all_nor_nothing_where_the_share_does_not(wrong: int) -> None:
    """Though a third of the resamples leave out the only photo that was wrong, or right."""
    right = np.arange(40)[None] >= wrong
    for groups in (None, np.arange(40) // 2, np.minimum(np.arange(40), 30)):
        ((low, high),) = accuracy_intervals(right, groups)
        assert 0 < low < 1 - wrong / 40 < high < 1
