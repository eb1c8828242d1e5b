"""The reject option: how often a classifier that may say "not sure" answers, and how often it is right then."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ffe.errors import SpecError
from ffe.evaluation.intervals import Interval, wilson
from ffe.evaluation.scores import check_labels

_MOST_POINTS = 200


@dataclass(frozen=True)
class SelectiveScores:
    """What comes of answering only where the best probability reaches a threshold.

    Attributes:
        threshold: in [0, 1); 0 = always answer.
        share: of the rows that are answered, in [0, 1].
        accuracy: share of right answers among those; None where none is answered.
        n: rows answered.
        interval: 95 % of the accuracy, Wilson's; None where none is answered.
    """

    threshold: float
    share: float
    accuracy: float | None
    n: int
    interval: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class CoveragePoint:
    """A threshold, the share of rows that reach it, and the share of wrong answers among those (the risk)."""

    threshold: float
    coverage: float
    risk: float


def check_threshold(threshold: float) -> float:
    """Return a threshold for the reject option.

    Raises:
        SpecError: it is not in [0, 1).
    """
    if not 0 <= threshold < 1:
        hint = f"did you mean {threshold / 100:g}?" if 1 < threshold < 100 else "0 = always answer."
        raise SpecError(f"A probability to answer from must be at least 0 and below 1, not {threshold:g}; {hint}")
    return float(threshold)


def above_threshold(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Return bool (N,): whether the best of probabilities (N, K) reaches the threshold.

    A probability that is equal to it but for its last bits may be above it on one
    processor and below it on another.
    """
    return probabilities.max(axis=1) >= threshold


def selective_scores(probabilities: np.ndarray, labels: np.ndarray, threshold: float) -> SelectiveScores:
    """Score a classifier that says "not sure" below a threshold.

    Args:
        probabilities: float64 (N, K).
        labels: int64 (N,), in [0, K).
        threshold: in [0, 1).

    Raises:
        DataError: there are no rows, or a label is no class.
        SpecError: the threshold is out of range.
    """
    check_threshold(threshold)
    check_labels(labels, probabilities.shape[1])
    chosen = above_threshold(probabilities, threshold)
    count = int(chosen.sum())
    if not count:
        return SelectiveScores(threshold, 0.0, None, 0, None)
    accuracy = float((probabilities[chosen].argmax(axis=1) == labels[chosen]).mean())
    return SelectiveScores(threshold, count / len(labels), accuracy, count, wilson(accuracy, count))


def risk_coverage(probabilities: np.ndarray, labels: np.ndarray) -> tuple[CoveragePoint, ...]:
    """Return the risk at every coverage, from the surest rows to all of them: at most 200 points, for a chart.

    The curve of El-Yaniv and Wiener 2010, https://jmlr.org/papers/v11/el-yaniv10a.html,
    with the best probability as confidence (Geifman and El-Yaniv 2017,
    https://arxiv.org/abs/1705.08500). Rows of equal confidence come in together.

    Args:
        probabilities: float64 (N, K).
        labels: int64 (N,), in [0, K).

    Raises:
        DataError: there are no rows, or a label is no class.
    """
    check_labels(labels, probabilities.shape[1])
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum((probabilities.argmax(axis=1) != labels)[order])
    ends = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    if len(ends) > _MOST_POINTS:
        ends = ends[np.linspace(0, len(ends) - 1, _MOST_POINTS).round().astype(np.int64)]
    return tuple(
        CoveragePoint(float(confidence[order[end]]), float((end + 1) / len(labels)), float(wrong[end] / (end + 1)))
        for end in ends
    )
