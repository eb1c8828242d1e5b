"""Probabilities and labels -> an Evaluation, each score with its interval. A value: no files, no printing."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffe.errors import DataError
from ffe.evaluation.auc import WeightedAuc
from ffe.evaluation.intervals import (
    Interval,
    group_numbers,
    percentile_intervals,
    resampled_weights,
    share_intervals,
    wilson,
)
from ffe.evaluation.temperature import LEAST, calibration_error, reliability

SCORES = ("accuracy", "balanced_accuracy", "log_loss", "auc")  # those of ``intervals``
MOST_CELL_CLASSES = 100  # with more, the intervals of the confusion matrix would be most of a model's record

_BLOCK = 4096  # rows


@dataclass(frozen=True)
class Evaluation:
    """How well predictions agree with labels.

    Intervals are of 95 %: rows are drawn again, with replacement, and the
    middle 95 % of the scores is the interval (percentile bootstrap, Efron 1979,
    https://doi.org/10.1214/aos/1176344552). It covers the choice of the rows,
    not that of the training rows. Where the resamples cannot tell, since they
    all agree (nothing was wrong), the interval is not that point: shares
    (accuracy, precision, recall, cells) are never narrower than Wilson's
    interval; a perfect balanced accuracy reaches down to the mean of the lower
    ends of the recalls; a perfect AUC to the mean of Wilson's lower ends for as
    many rows as the smaller side has.
    """

    n: int  # rows scored
    accuracy: float  # share of right answers, in [0, 1]
    balanced_accuracy: float  # mean recall of the classes present, in [0, 1]
    log_loss: float  # mean negative natural logarithm of the probability of the true class
    # area under the ROC curve, in [0, 1]; for more than two classes the mean of one against the rest; None where a class is
    # absent
    auc: float | None
    confusion: tuple[tuple[int, ...], ...]  # rows true, columns predicted, in the order of class_names
    # precision, recall: per class; None where nothing was predicted, or there was nothing to find
    precision: tuple[float | None, ...]
    recall: tuple[float | None, ...]
    class_names: tuple[str, ...]  # in the order of the labels
    expected_calibration_error: float  # how far confidence is from accuracy, in [0, 1]; see ``calibration``
    groups: int | None  # how many groups the rows came from; None where rows are independent
    resamples: int  # how many the intervals come from
    # (low, high) by the name of the score: ``accuracy``, ``balanced_accuracy``, ``log_loss``, ``auc``; None where there is
    # none: a single row, or no AUC in half of the resamples
    intervals: dict[str, Interval | None]
    # precision_intervals, recall_intervals: per class, None where there is no value
    precision_intervals: tuple[Interval | None, ...]
    recall_intervals: tuple[Interval | None, ...]
    confusion_intervals: tuple[tuple[Interval, ...], ...] | None  # of each cell, in images; None for more than 100 classes

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(vars(self))


def evaluate_probabilities(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str], *, groups: np.ndarray | None = None
) -> Evaluation:
    """Score probabilities float64 (N, K), rows summing to 1, by labels int64 (N,) in [0, K), and K names.

    Rows that are not independent have the same number in ``groups``, int64 (N,); see ``intervals.resampled_weights``.
    The intervals of 25,000 rows of 2 classes take about two seconds and 60 MB. Of more than 100,000 rows fewer resamples are
    drawn, so that time grows with the rows until there are 400 of them left, and memory does not grow with the classes squared.
    A DataError where there are no rows, a label is no class, or the groups do not fit.
    """
    check_labels(labels, len(class_names))
    numbers = group_numbers(groups, len(labels))
    counts = _Counts(probabilities, labels, len(class_names))
    once = counts.weighted(np.ones((len(labels), 1), np.float32))
    drawn = [counts.weighted(weights) for weights in resampled_weights(numbers)]
    samples = {name: np.concatenate([block[name] for block in drawn]) for name in once}
    confusion = np.zeros(len(class_names) ** 2, np.int64)
    confusion[counts.seen] = counts.sizes
    intervals, by_class = _intervals(counts, once, samples, numbers)
    return Evaluation(
        n=len(labels),
        **{name: _or_none(once[name][0]) for name in SCORES},  # type: ignore[arg-type]
        confusion=tuple(tuple(row) for row in confusion.reshape(len(class_names), -1).tolist()),
        precision=tuple(_or_none(value) for value in once["precision"][0]),
        recall=tuple(_or_none(value) for value in once["recall"][0]),
        class_names=tuple(class_names),
        expected_calibration_error=calibration_error(reliability(probabilities, labels)),
        groups=None if groups is None else int(numbers.max()) + 1,
        resamples=len(samples["accuracy"]),
        intervals=intervals,
        precision_intervals=tuple(by_class["precision"]),
        recall_intervals=tuple(by_class["recall"]),
        confusion_intervals=_cell_intervals(counts, once, samples, numbers),
    )


def load_scoring() -> None:
    """Load what scores are made with; where it is missing, a ModuleNotFoundError comes before photos are looked at, not after."""
    importlib.import_module("scipy.sparse")


def check_labels(labels: np.ndarray, classes: int) -> None:
    """Make sure that labels (N,) are all in [0, classes), and that there are some; else raise a DataError."""
    if len(labels) == 0:
        raise DataError("There are no labelled rows to score; give a file or folder with labels.")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError("Some rows have no label; score labelled rows only.")


class _Counts:
    """The rows, ready to be scored under many weightings at once."""

    def __init__(self, probabilities: np.ndarray, labels: np.ndarray, classes: int) -> None:
        from scipy.sparse import csr_matrix

        rows = np.arange(len(labels))
        self.classes, self.labels, self.predicted = classes, labels, probabilities.argmax(axis=1)
        # cells that are not empty, and the rows of each
        self.seen, cell, self.sizes = np.unique(labels * classes + self.predicted, return_inverse=True, return_counts=True)
        ones = np.ones(len(labels), np.float32)
        self._cells = csr_matrix((ones, (cell.reshape(-1), rows)), shape=(len(self.seen), len(labels)))
        true, guessed = np.divmod(self.seen, classes)
        cells = np.arange(len(self.seen))  # sums of whole numbers: exact in any order

        def of_class(sides: np.ndarray, counts: np.ndarray) -> Any:
            return csr_matrix((counts.astype(np.float32), (cells, sides)), shape=(len(cells), classes))

        self._of_true, self._of_guessed = (of_class(sides, np.ones(len(cells))) for sides in (true, guessed))
        self._right = of_class(true, true == guessed)
        sums = [np.clip(probabilities[i : i + _BLOCK], LEAST, 1.0).sum(axis=1) for i in range(0, len(rows), _BLOCK)]
        self._losses = -np.log(np.clip(probabilities[rows, labels], LEAST, 1.0) / np.concatenate(sums))
        self._rankings: list[WeightedAuc] = []
        if classes > 1 and (np.bincount(labels, minlength=classes) > 0).all():
            sides = (1,) if classes == 2 else range(classes)
            self._rankings = [WeightedAuc(probabilities[:, side], labels == side) for side in sides]

    def weighted(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return the scores under weights (N, b), each float64 (b,), (b, K) or (b, cells seen); NaN where undefined."""
        cells = (self._cells @ weights).T.astype(np.float64)
        total, right = cells.sum(axis=1), cells @ self._right
        recall, precision = _ratio(right, cells @ self._of_true), _ratio(right, cells @ self._of_guessed)
        present = ~np.isnan(recall)
        areas = [ranking.areas(weights) for ranking in self._rankings]
        return {
            "accuracy": right.sum(axis=1) / total,
            "balanced_accuracy": np.where(present, recall, 0).sum(axis=1) / present.sum(axis=1),
            "log_loss": np.einsum("i,ib->b", self._losses, weights) / total,
            "auc": np.mean(areas, axis=0) if areas else np.full(weights.shape[1], np.nan),
            "precision": precision,
            "recall": recall,
            **({"cells": (cells / total[:, None]).astype(np.float32)} if self.classes <= MOST_CELL_CLASSES else {}),
        }


def _intervals(
    counts: _Counts, once: dict[str, np.ndarray], samples: dict[str, np.ndarray], numbers: np.ndarray
) -> tuple[dict[str, Interval | None], dict[str, list[Interval | None]]]:
    rows, groups = len(numbers), int(numbers.max()) + 1
    by_class = {}
    for name, sides in (("precision", counts.predicted), ("recall", counts.labels)):
        of_rows = np.bincount(sides, minlength=counts.classes)
        of_groups = np.bincount(np.unique(sides * groups + numbers) // groups, minlength=counts.classes)
        by_class[name] = share_intervals(samples[name], once[name][0], of_rows, of_groups)
    intervals: dict[str, Interval | None] = {}
    recalls = [interval for interval in by_class["recall"] if interval is not None]
    least, most = (float(np.mean(ends)) for ends in zip(*recalls, strict=True))
    for name in SCORES:
        values = samples[name][:, None]
        low, high = (float(value[0]) for value in percentile_intervals(values))
        if name == "accuracy":
            (intervals[name],) = share_intervals(values, once[name], np.asarray([rows]), np.asarray([groups]))
        elif np.isnan(values).mean() > 0.5:
            intervals[name] = None
        elif name == "balanced_accuracy":  # the mean of intervals is wider than that of a mean, but is 1 only if nothing is wrong
            intervals[name] = (max(low, least), min(high, most)) if low < high else (least, most)
        elif low < high:
            intervals[name] = (low, high)
        elif name == "auc" and once[name][0] == 1:
            sizes = [np.unique(numbers[counts.labels == side]).size for side in range(counts.classes)]
            smaller = [max(1, min(size, groups - size)) for size in sizes]
            intervals[name] = (float(np.mean([wilson(1.0, size)[0] for size in smaller])), 1.0)
        else:
            intervals[name] = None  # one row or group, or one and the same loss: nothing can be told
    return intervals, by_class


def _cell_intervals(
    counts: _Counts, once: dict[str, np.ndarray], samples: dict[str, np.ndarray], numbers: np.ndarray
) -> tuple[tuple[Interval, ...], ...] | None:
    """Return the interval of each cell, in rows, to a tenth; empty cells have Wilson's."""
    if counts.classes > MOST_CELL_CLASSES:
        return None
    rows, groups, seen = len(numbers), int(numbers.max()) + 1, len(counts.seen)
    shares = once["cells"][0].astype(np.float64)
    found = share_intervals(samples["cells"], shares, np.full(seen, rows), np.full(seen, groups))
    cells = [wilson(0.0, groups)] * counts.classes**2
    for cell, interval in zip(counts.seen.tolist(), found, strict=True):
        cells[cell] = interval or (0.0, 1.0)
    ends = [(round(low * rows, 1), round(high * rows, 1)) for low, high in cells]
    return tuple(tuple(ends[start : start + counts.classes]) for start in range(0, len(ends), counts.classes))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
