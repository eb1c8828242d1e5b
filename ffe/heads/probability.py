"""Scores -> probabilities."""

from __future__ import annotations

import numpy as np

from ffe.evaluation.temperature import softmax


def probabilities_of(scores: np.ndarray) -> np.ndarray:
    """Return float64 (N, classes) for scores (N, classes), or for those of class 1 alone, (N, 1)."""
    return softmax(scores if scores.shape[1] > 1 else two_columns(scores[:, 0]))


def two_columns(score: np.ndarray) -> np.ndarray:
    """Return scores (N, 2) whose softmax is (1 - sigmoid, sigmoid) of the score (N,) of class 1."""
    return np.stack([np.zeros_like(score), score], axis=1)
