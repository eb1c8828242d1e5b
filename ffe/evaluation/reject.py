"""The reject option: how often a classifier that may say "not sure" answers, and how often it is right then."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ffe.errors import SpecError
from ffe.evaluation.intervals import Interval, wilson
from ffe.evaluation.scores import check_labels


@dataclass(frozen=True)
class SelectiveScores:
    """What comes of answering only where the best probability reaches a threshold."""

    threshold: float  # in [0, 1); 0 = always answer
    share: float  # of the rows that are answered, in [0, 1]
    accuracy: float | None  # share of right answers among those; None where none is answered
    n: int  # rows answered
    interval: Interval | None  # 95 % of the accuracy, Wilson's; None where none is answered

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def check_threshold(threshold: float) -> float:
    """Return a threshold for the reject option, in [0, 1); else raise a SpecError."""
    if not 0 <= threshold < 1:
        hint = f"did you mean {threshold / 100:g}?" if 1 < threshold < 100 else "0 = always answer."
        raise SpecError(f"A probability to answer from must be at least 0 and below 1, not {threshold:g}; {hint}")
    return float(threshold)


def above_threshold(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Return bool (N,): whether the best of probabilities (N, K) reaches the threshold; last bits may differ by processor."""
    return probabilities.max(axis=1) >= threshold


def selective_scores(probabilities: np.ndarray, labels: np.ndarray, threshold: float) -> SelectiveScores:
    """Score a classifier, by probabilities float64 (N, K) and labels int64 (N,), that says "not sure" below a threshold."""
    check_threshold(threshold)
    check_labels(labels, probabilities.shape[1])
    chosen = above_threshold(probabilities, threshold)
    count = int(chosen.sum())
    if not count:
        return SelectiveScores(threshold, 0.0, None, 0, None)
    accuracy = float((probabilities[chosen].argmax(axis=1) == labels[chosen]).mean())
    return SelectiveScores(threshold, count / len(labels), accuracy, count, wilson(accuracy, count))
