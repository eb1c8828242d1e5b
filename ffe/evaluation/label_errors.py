"""Photos whose label is probably wrong."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ffe.evaluation.scores import check_labels


@dataclass(frozen=True)
class LabelIssue:
    """A row whose label is probably wrong.

    Attributes:
        row: its number.
        given: the label that it has.
        suggested: the label that it probably should have.
        probability_given, probability_suggested: of those classes, in [0, 1].
    """

    row: int
    given: int
    suggested: int
    probability_given: float
    probability_suggested: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def find_label_errors(probabilities: np.ndarray, labels: np.ndarray) -> tuple[LabelIssue, ...]:
    """Return the rows whose label is probably wrong, the surest first.

    Confident learning, Northcutt, Jiang and Chuang 2021,
    https://arxiv.org/abs/1911.00068: the threshold of a class is the mean
    probability of the class over the rows that are labelled so (how sure the
    classifier usually is of it). A row is an issue where its most probable
    class is another than its label, and reaches the threshold of that class.
    Issues are sorted by the normalised margin, the probability of the label
    less that of the other class. A class without rows is never suggested.

    Hard photos are found along with wrong labels: the list is for looking at,
    not for relabelling unseen.

    Args:
        probabilities: float64 (N, K), of rows that the classifier was not fitted on.
        labels: int64 (N,), in [0, K), as given.

    Raises:
        DataError: there are no rows, or a label is no class.
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
    issues = np.flatnonzero((best != labels) & (others >= thresholds[best]))
    issues = issues[np.argsort((own - others)[issues], kind="stable")]
    return tuple(LabelIssue(int(i), int(labels[i]), int(best[i]), float(own[i]), float(others[i])) for i in issues)
