"""What a search may aim at. Higher is better."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ffe.evaluation.temperature import fit_temperature, with_temperature


def _accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())


def _balanced_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    right = probabilities.argmax(axis=1) == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def _log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the negative log loss with the temperature that suits the rows best: how sure a head is can be mended."""
    scores = np.log(np.maximum(probabilities.astype(np.float64), 1e-12))
    calibrated = with_temperature(probabilities, fit_temperature(scores, labels))
    return float(np.log(np.maximum(calibrated[np.arange(len(labels)), labels], 1e-12)).mean())


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "log_loss": _log_loss,
}
