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


def find_label_errors(
    probabilities: np.ndarray, labels: np.ndarray, photos: np.ndarray | None = None
) -> tuple[LabelIssue, ...] | None:
    """Return the rows whose label is probably wrong, the surest first; None if the answers are too unclear to tell.

    Of ``photos``, int64 (N,), rows of one photo have one number. Where such have several labels, one at most is right, so
    all but the most probable of them come first.

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
    doubted = (best != labels) & clear & (others >= thresholds[best])
    likeliest = labels if photos is None else _likeliest(own, labels, photos)
    twice = likeliest != labels
    if not (doubted | twice).any():
        second, first = np.sort(probabilities, axis=1)[:, -2:].T
        if np.mean((first >= SURE) & (first - second >= AHEAD)) < 0.5:
            return None
    suggested = np.where(twice, likeliest, best)
    others = probabilities[rows, suggested]
    order = np.lexsort((np.round(own - others, 9), ~twice))
    issues = order[(doubted | twice)[order]]
    return tuple(LabelIssue(int(i), int(labels[i]), int(suggested[i]), float(own[i]), float(others[i])) for i in issues)


def _likeliest(own: np.ndarray, labels: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """Return for each row the label, of all that its photo has, whose probability float64 (N,) is highest: int64 (N,)."""
    order = np.lexsort((labels, -np.round(own, 9), photos))
    _, first, photo = np.unique(photos[order], return_index=True, return_inverse=True)
    likeliest = np.empty_like(labels)
    likeliest[order] = labels[order[first]][photo]
    return likeliest
