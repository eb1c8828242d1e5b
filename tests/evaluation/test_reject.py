"""The reject option."""

from __future__ import annotations

import numpy as np
import pytest

from ffe.errors import SpecError
from ffe.evaluation.intervals import wilson
from ffe.evaluation.reject import risk_coverage, selective_scores

PROBABILITIES = np.asarray([[0.95, 0.05], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
LABELS = np.asarray([0, 1, 1, 1])


@pytest.mark.parametrize(
    ("threshold", "share", "accuracy", "n"),
    [(0.0, 1.0, 0.5, 4), (0.7, 0.75, 2 / 3, 3), (0.9, 0.5, 0.5, 2), (0.91, 0.25, 1.0, 1), (0.99, 0.0, None, 0)],
)
def test_answered_by_hand(threshold: float, share: float, accuracy: float | None, n: int) -> None:
    found = selective_scores(PROBABILITIES, LABELS, threshold)
    interval = None if accuracy is None else wilson(accuracy, n)
    assert found.to_json() == {"threshold": threshold, "share": share, "accuracy": accuracy, "n": n, "interval": interval}


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(
        SpecError, match=r"^A probability to answer from must be at least 0 and below 1, not .*; 0 = always answer\.$"
    ):
        selective_scores(PROBABILITIES, LABELS, threshold)


def test_the_risk_at_every_coverage() -> None:
    points = [(p.threshold, p.coverage, p.risk) for p in risk_coverage(PROBABILITIES, LABELS)]
    assert points == [(0.95, 0.25, 0.0), (0.9, 0.5, 0.5), (0.8, 0.75, 1 / 3), (0.6, 1.0, 0.5)]


def test_rows_of_equal_confidence_come_in_together() -> None:
    (only,) = risk_coverage(np.full((5, 2), 0.5), np.asarray([0, 0, 1, 1, 1]))
    assert (only.threshold, only.coverage, only.risk) == (0.5, 1.0, 0.6)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    first = np.random.default_rng(0).uniform(0.5, 1, 5000)
    points = risk_coverage(np.stack([first, 1 - first], axis=1), np.zeros(5000, np.int64))
    assert len(points) == 200
    assert (points[0].coverage, points[-1].coverage) == (1 / 5000, 1.0)
