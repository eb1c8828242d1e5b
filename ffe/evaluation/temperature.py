"""Whether a classifier that says 90 % is right 9 times in 10, and the one number that mends it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ffe.evaluation.intervals import Interval, group_numbers, wilson

LEAST = 1e-15  # what a probability is taken for, at least, where its logarithm is asked for
_FEWEST_ROWS = 20  # with fewer, a factor would be fitted to chance
BINS = 15


@dataclass(frozen=True)
class Bin:
    """Rows whose best probability lies in (low, high], and how often they are right."""

    # low, high: ends, in [0, 1]
    low: float
    high: float
    count: int  # rows, at least 1
    confidence: float  # mean of the best probability
    accuracy: float  # share of right answers
    interval: Interval  # 95 % of the accuracy, Wilson's


@dataclass(frozen=True)
class Calibration:
    """What a temperature does to how sure a classifier is."""

    # what the logarithms of the probabilities are multiplied with; below 1 makes the classifier less sure, above 1 surer, 1
    # changes nothing. (Guo et al. divide by T: this is 1 / T.)
    factor: float
    rows: int  # it was fitted on
    # error_before, error_after: expected calibration error
    error_before: float
    error_after: float
    # log_loss_before, log_loss_after: mean log loss
    log_loss_before: float
    log_loss_after: float
    # before, after: reliability curves
    before: tuple[Bin, ...]
    after: tuple[Bin, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON: the fields, the factor under ``temperature``, as a manifest has it."""
        fields = asdict(self)
        return {"temperature": fields.pop("factor"), **fields}


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return float64 (N, K) that sums to 1 along the rows, from scores (N, K)."""
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    exponential = np.exp(shifted)
    return exponential / exponential.sum(axis=1, keepdims=True)


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return the logarithms (N, K) of probabilities (N, K), at least that of 1e-15."""
    return np.log(np.clip(probabilities, LEAST, 1.0))


def fit_temperature(scores: np.ndarray, labels: np.ndarray, *, smoothing: float = 0.0) -> float:
    """Return the factor on scores (N, K) that gives the least log loss on labels (N,), between 0.007 and 148.

    Temperature scaling, Guo et al. 2017, https://arxiv.org/abs/1706.04599: it
    changes how sure a head is, never what it answers. Scores are logits or
    logarithms of probabilities; ``smoothing`` is the share of the target that is
    spread over all classes, so that the factor stays small where every row is right
    (Platt 1999).
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))

    def loss(log_factor: float) -> float:
        probabilities = softmax(scores * np.exp(log_factor))
        true = -np.log(np.maximum(probabilities[rows, labels], LEAST)).mean()
        if not smoothing:
            return float(true)
        return float((1 - smoothing) * true + smoothing * -np.log(np.maximum(probabilities, LEAST)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-5.0, 5.0), method="bounded").x))


def with_temperature(probabilities: np.ndarray, factor: float) -> np.ndarray:
    """Return softmax(factor * log p), float64 (N, K), p itself for the factor 1; a probability of 0 is taken for 1e-15.

    The most probable class of a row stays so, even where two classes would round to the same number.
    """
    if factor == 1 or not len(probabilities):
        return probabilities
    scaled = softmax(factor * log_probabilities(probabilities))
    best = probabilities.argmax(axis=1)
    changed = np.flatnonzero(scaled.argmax(axis=1) != best)
    scaled[changed, best[changed]] = np.nextafter(scaled[changed].max(axis=1), 2.0)
    return scaled


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> tuple[Bin, ...]:
    """Return the bins, of equal width over [0, 1], that hold rows of probabilities (N, K), from the least sure to the surest."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    found = []
    for number in np.unique(place).tolist():
        chosen = place == number
        count, accuracy, mean = int(chosen.sum()), float(right[chosen].mean()), float(confidence[chosen].mean())
        found.append(Bin(number / BINS, (number + 1) / BINS, count, mean, accuracy, wilson(accuracy, count)))
    return tuple(found)


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Return the expected calibration error: the mean distance of confidence and accuracy over the rows of all bins, in [0, 1].

    Of the best class of each row, as in Guo et al. 2017, section 2, with their
    15 bins. On few rows it is above 0 by chance even for a perfect classifier.
    """
    total = sum(part.count for part in bins)
    return sum(part.count * abs(part.confidence - part.accuracy) for part in bins) / total if total else 0.0


def calibrate(probabilities: np.ndarray, labels: np.ndarray, *, groups: np.ndarray | None = None) -> Calibration:
    """Fit the temperature on rows that the classifier was not fitted on, and measure it on rows that it was not fitted on itself.

    The figures after it come from cross-fitting: a factor fitted on one half
    of the rows (groups int64 (N,) stand in one half) is measured on the other half,
    both ways. The factor itself is fitted on all rows. It is 1 where the cross-fitted
    log loss is not less than before, and for fewer than 20 rows. A share of
    1 / (N + 2) of each target is spread over the classes, so that N rows that are
    all right do not make the classifier surer than N rows can show (Platt 1999).
    """
    numbers = group_numbers(groups, len(labels))
    before = reliability(probabilities, labels)
    factor, fitted = 1.0, probabilities
    if len(labels) >= _FEWEST_ROWS and numbers.max() > 0:
        half = (np.random.default_rng(0).permutation(int(numbers.max()) + 1) % 2)[numbers] == 1
        crossed = np.empty_like(probabilities)
        for chosen in (half, ~half):
            crossed[~chosen] = with_temperature(probabilities[~chosen], _fit(probabilities[chosen], labels[chosen]))
        if _log_loss(crossed, labels) < _log_loss(probabilities, labels):
            factor, fitted = _fit(probabilities, labels), crossed
    after = reliability(fitted, labels)
    return Calibration(
        factor=factor,
        rows=len(labels),
        error_before=calibration_error(before),
        error_after=calibration_error(after),
        log_loss_before=_log_loss(probabilities, labels),
        log_loss_after=_log_loss(fitted, labels),
        before=before,
        after=after,
    )


def _fit(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return fit_temperature(log_probabilities(probabilities), labels, smoothing=1 / (len(labels) + 2))


def _log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(-log_probabilities(probabilities)[np.arange(len(labels)), labels].mean())
