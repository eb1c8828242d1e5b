"""Photos whose label is probably wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ffe.evaluation.scores import check_labels


@dataclass(frozen=True)
class LabelIssue:
    """A row whose label is probably wrong: its number, the label given and the one suggested, and their probabilities."""

    row: int
    given: int
    suggested: int
    probability_given: float
    probability_suggested: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


SURE, AHEAD = 0.5, 0.2  # an answer counts as clear from this probability on, so far ahead of the other class


def find_label_errors(probabilities: np.ndarray, labels: np.ndarray) -> tuple[LabelIssue, ...] | None:
    """Return the rows whose label is probably wrong, the surest first; None if the answers are too unclear to tell.

    Confident learning, Northcutt, Jiang and Chuang 2021,
    https://arxiv.org/abs/1911.00068, on probabilities float64 (N, K) of a
    classifier that was not fitted on the rows: the threshold of a class is the mean
    probability of the class over the rows that are labelled so. A row is an issue
    where its most probable class is another than its label, reaches the threshold
    of that class, and is clear: at least ``SURE``, and ``AHEAD`` of its label. (The
    threshold alone would let a classifier that hardly learnt anything name rows.)
    Issues are sorted by the normalised margin, the probability of the label less
    that of the other class, to nine digits. Hard photos are found along with them.
    """
    classes = probabilities.shape[1]
    check_labels(labels, classes)
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    counts = np.bincount(labels, minlength=classes)
    thresholds = np.full(classes, np.inf)
    np.divide(np.bincount(labels, weights=own, minlength=classes), counts, out=thresholds, where=counts > 0)
    best = probabilities.argmax(axis=1)
    others = probabilities[rows, best]
    clear = (others >= SURE) & (others - own >= AHEAD)
    issues = np.flatnonzero((best != labels) & clear & (others >= thresholds[best]))
    if not len(issues):
        second, first = np.sort(probabilities, axis=1)[:, -2:].T
        if np.mean((first >= SURE) & (first - second >= AHEAD)) < 0.5:
            return None
    issues = issues[np.argsort(np.round((own - others)[issues], 9), kind="stable")]
    return tuple(LabelIssue(int(i), int(labels[i]), int(best[i]), float(own[i]), float(others[i])) for i in issues)
