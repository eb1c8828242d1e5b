"""Pooling and scaling: what a head does to stored features before it looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np

from ffe.heads.space import Parameter

POOLING = Parameter(
    "pooling",
    "avg",
    ("flat", "avg", "max", "avgmax"),
)
SCALING = Parameter(
    "scaling",
    "sqrt_l2",
    ("standard", "sqrt_l2", "none"),
)

_TINY = np.float32(1e-12)


class FeatureMap:
    """Pooling over the grid, then scaling, fitted on training rows alone.

    ``sqrt_l2`` is the signed square root and L2 normalisation of Perronnin et
    al. 2010 (Improving the Fisher kernel, ECCV), which needs no fitting.

    Args:
        pooling: ``flat``, ``avg``, ``max`` or ``avgmax``.
        scaling: ``standard``, ``sqrt_l2`` or ``none``.
        grid: (h, w, c) of the stored features.
    """

    def __init__(self, pooling: str, scaling: str, grid: tuple[int, int, int]) -> None:
        self.pooling = pooling
        self.scaling = scaling
        self.grid = grid
        self._mean: np.ndarray | None = None
        self._scale: np.ndarray | None = None

    def fit(self, features: np.ndarray) -> Self:
        """Learn mean and deviation of float32 (N, D); constant features keep the deviation 1."""
        if self.scaling == "standard":
            pooled = self._pool(features)
            deviation = pooled.std(axis=0, dtype=np.float64).astype(np.float32)
            self._mean = pooled.mean(axis=0, dtype=np.float64).astype(np.float32)
            self._scale = np.where(deviation > 1e-7 * np.abs(self._mean).max(initial=1e-30), deviation, 1).astype(np.float32)
        return self

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Map float32 (N, D) to float32 (N, d), d = D, c or 2c by the pooling."""
        x = self._pool(features)
        if self._mean is not None and self._scale is not None:
            return (x - self._mean) / self._scale
        if self.scaling == "sqrt_l2":
            x = np.sign(x) * np.sqrt(np.abs(x))
            return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), _TINY)
        return x

    def _pool(self, features: np.ndarray) -> np.ndarray:
        if self.pooling == "flat":
            return features
        height, width, channels = self.grid
        cells = features.reshape(len(features), height * width, channels)
        parts = []
        if self.pooling in {"avg", "avgmax"}:
            parts.append(cells.mean(axis=1, dtype=np.float32))
        if self.pooling in {"max", "avgmax"}:
            parts.append(cells.max(axis=1))
        return np.concatenate(parts, axis=1)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was learnt: ``mean`` and ``scale``, float32 (d,), or nothing."""
        if self._mean is None or self._scale is None:
            return {}
        return {"mean": self._mean, "scale": self._scale}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take back what ``arrays()`` returned."""
        self._mean = arrays.get("mean")
        self._scale = arrays.get("scale")
        return self
