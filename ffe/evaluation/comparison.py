"""Whether one classifier is really better than another on the same rows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ffe.errors import DataError
from ffe.evaluation.intervals import Interval, effective_rows, group_numbers, percentile_intervals, resampled_weights, wilson
from ffe.evaluation.scores import check_labels

_LEVEL = 0.05
_FEWEST_GROUPS = 10


@dataclass(frozen=True)
class Comparison:
    """Two classifiers, a and b, on the same rows."""

    n: int  # rows
    # accuracy_a, accuracy_b: share of right answers
    accuracy_a: float
    accuracy_b: float
    difference: float  # accuracy_a - accuracy_b, in [-1, 1]
    interval: Interval  # 95 % of the difference
    # only_a, only_b: rows that only one of them had right
    only_a: int
    only_b: int
    p_value: float  # exact McNemar test: how likely such an uneven split of those rows is if both are equally good
    real: bool  # whether the interval leaves out 0 and the p-value is below 0.05

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def compare(
    probabilities_a: np.ndarray, probabilities_b: np.ndarray, labels: np.ndarray, *, groups: np.ndarray | None = None
) -> Comparison:
    """Compare the answers of two classifiers, float64 (N, K) each, on the same rows with labels int64 (N,) in [0, K).

    The interval is that of a paired bootstrap: both are scored on the same
    resamples, so that hard rows are hard for both. The test is McNemar 1947,
    https://doi.org/10.1007/BF02295996, in its exact form, recommended for two
    classifiers on one set by Dietterich 1998,
    https://doi.org/10.1162/089976698300017197; it takes rows for independent,
    so with ``groups``, int64 (N,), the interval is what counts, and both are asked.

    Where the better of the two was chosen on these very rows, as after a
    search, an interval that leaves out 0 only just says little: it was the luckier one.
    A DataError where there are no rows, a label is no class, or the shapes differ.
    """
    if probabilities_a.shape != probabilities_b.shape or len(probabilities_a) != len(labels):
        raise DataError("The two classifiers were not asked about the same rows and classes; score both on the same ones.")
    check_labels(labels, probabilities_a.shape[1])
    from scipy.stats import binomtest

    right_a, right_b = (p.argmax(axis=1) == labels for p in (probabilities_a, probabilities_b))
    gain = right_a.astype(np.float32) - right_b.astype(np.float32)
    only_a, only_b = int((gain > 0).sum()), int((gain < 0).sum())
    numbers = group_numbers(groups, len(labels))
    drawn = [gain @ weights / weights.sum(axis=0) for weights in resampled_weights(numbers)]
    low, high = (float(end[0]) for end in percentile_intervals(np.concatenate(drawn)[:, None].astype(np.float64)))
    difference = float(gain.mean(dtype=np.float64))
    if low == high:  # no resample differs, which is no proof that no row would
        low, high = _outer(difference, int(numbers.max()) + 1)
    p_value = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return Comparison(
        n=len(labels),
        accuracy_a=float(right_a.mean()),
        accuracy_b=float(right_b.mean()),
        difference=difference,
        interval=(low, high),
        only_a=only_a,
        only_b=only_b,
        p_value=p_value,
        real=p_value < _LEVEL and not low <= 0 <= high,
    )


def differ(
    right_a: np.ndarray, right_b: np.ndarray, groups_a: np.ndarray | None = None, groups_b: np.ndarray | None = None
) -> float:
    """Return the p-value of shares of right answers on different images, bool (N,) and (M,): 1 = they may well be the same.

    The score test of two proportions, of as many rows as tell as much where groups, int64 (N,) and (M,), tie some together.
    Of fewer than ten groups nothing is told: 1.
    """
    shares, counts = [], []
    for right, groups in ((right_a, groups_a), (right_b, groups_b)):
        if len(np.unique(group_numbers(groups, len(right)))) < _FEWEST_GROUPS:
            return 1.0
        shares.append(float(right.mean()))
        counts.append(effective_rows(right, groups))
    pooled = float(np.average(shares, weights=counts))
    variance = pooled * (1 - pooled) * sum(1 / count for count in counts)
    return math.erfc(abs(shares[0] - shares[1]) / math.sqrt(2 * variance)) if variance else 1.0


def _outer(difference: float, groups: int) -> Interval:
    """Return an interval for a difference that is the same in every resample: how far Wilson's reaches from it."""
    if difference in (-1, 1):
        low = 2 * wilson(1.0, groups)[0] - 1
        return (low, 1.0) if difference > 0 else (-1.0, -low)
    reach = wilson(0.0, groups)[1]
    return max(-1.0, difference - reach), min(1.0, difference + reach)
