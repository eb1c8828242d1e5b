"""Scores -> probabilities."""

from __future__ import annotations

import numpy as np


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Return the logarithm of ``softmax``, float64 (N, K), exact for small probabilities too."""
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def two_columns(score: np.ndarray) -> np.ndarray:
    """Return scores (N, 2) whose softmax is (1 - sigmoid, sigmoid) of the score (N,) of class 1."""
    return np.stack([np.zeros_like(score), score], axis=1)
