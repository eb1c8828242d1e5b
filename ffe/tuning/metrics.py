"""What a search may aim at. Higher is better."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ffe.evaluation.temperature import fit_temperature, with_temperature

Rows = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _right(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (probabilities.argmax(axis=1) == labels).astype(np.float64)


def of_equal_classes(labels: np.ndarray) -> np.ndarray:
    """Return weights of rows, float64 (m,), by which every class that is there counts alike; their mean is 1."""
    counts = np.bincount(labels)
    return len(labels) / (np.count_nonzero(counts) * counts[labels].astype(np.float64))


def _log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the logarithm of what the true class got, with the temperature that suits the rows best: calibration mends that."""
    scores = np.log(np.maximum(probabilities.astype(np.float64), 1e-12))
    calibrated = with_temperature(probabilities, fit_temperature(scores, labels))
    return np.asarray(np.log(np.maximum(calibrated[np.arange(len(labels)), labels], 1e-12)), np.float64)


# by name: what each row adds, float64 (m,), for probabilities (m, K) and labels (m,)
ROW_SCORES: dict[str, Rows] = {
    "accuracy": _right,
    "balanced_accuracy": lambda probabilities, labels: _right(probabilities, labels) * of_equal_classes(labels),
    "log_loss": _log_likelihood,
}


def mean_score(metric: str, probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over the rows: accuracy, mean recall of the classes that are there, or the negative log loss."""
    return float(ROW_SCORES[metric](probabilities, labels).mean())
