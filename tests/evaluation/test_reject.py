"""The reject option."""

from __future__ import annotations

import numpy as np
import pytest

from ffe.errors import SpecError
from ffe.evaluation.intervals import wilson
from ffe.evaluation.reject import selective_scores

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
