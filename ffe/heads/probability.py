"""Scores -> probabilities."""

from __future__ import annotations

import numpy as np


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return float64 (N, K) that sums to 1 along the rows, from scores (N, K)."""
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    exponential = np.exp(shifted)
    return exponential / exponential.sum(axis=1, keepdims=True)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Return the logarithm of ``softmax``, float64 (N, K), exact for small probabilities too."""
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def two_columns(score: np.ndarray) -> np.ndarray:
    """Return scores (N, 2) whose softmax is (1 - sigmoid, sigmoid) of the score (N,) of class 1."""
    return np.stack([np.zeros_like(score), score], axis=1)


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the factor on scores (N, K) that gives the least log loss on labels (N,).

    Temperature scaling, Guo et al. 2017, https://arxiv.org/abs/1706.04599: it
    changes how sure a head is, never what it answers.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))

    def loss(log_factor: float) -> float:
        probabilities = softmax(scores * np.exp(log_factor))
        return float(-np.log(np.maximum(probabilities[rows, labels], 1e-15)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-5.0, 5.0), method="bounded").x))
