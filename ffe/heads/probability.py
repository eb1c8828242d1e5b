"""Scores -> probabilities."""

from __future__ import annotations

import numpy as np

from ffe.evaluation.calibration import fit_temperature, softmax

__all__ = ["fit_temperature", "softmax", "two_columns"]


def two_columns(score: np.ndarray) -> np.ndarray:
    """Return scores (N, 2) whose softmax is (1 - sigmoid, sigmoid) of the score (N,) of class 1."""
    return np.stack([np.zeros_like(score), score], axis=1)
