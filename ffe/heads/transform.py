"""Pooling, scaling and PCA: what a head does to stored features before it looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from ffe.base.arrays import empty_array
from ffe.base.feature_layout import FeatureLayout
from ffe.errors import HeadError
from ffe.heads.search_space import Parameter

POOLING = Parameter("pooling", "avg", ("flat", "avg", "max", "avgmax"))
SCALING = Parameter("scaling", "sqrt_l2", ("standard", "l2", "sqrt_l2", "none"))
PCA = Parameter("pca", False, (False, True))
COMPONENTS = Parameter("components", 128, (32, 64, 128, 256), when=("pca", (True,)))
FEATURE_SPACE = (POOLING, SCALING, PCA, COMPONENTS)

FLAT_FEATURES = 16_384  # with more, or with more values in all, most trials pool
FLAT_VALUES = 40_000_000  # rows times features
FLAT_BY_KERNEL = 160_000_000  # ... where one matrix product is all that looks at them

_TINY = np.float32(1e-12)
_BLOCK_VALUES = 1 << 22  # values worked on at once, 16 MiB


class FeatureMap:
    """Pooling over the grid, then scaling, then PCA; fitted on training rows alone.

    What happens to each row by itself (pooling, L2 normalisation) needs no fitting,
    so a search does it once for all folds. What is learnt comes after it.

    ``sqrt_l2`` is the signed square root and L2 normalisation of Perronnin et
    al. 2010 (Improving the Fisher kernel, ECCV). Takes the parameters of a head,
    of which it reads its own, and the layout of the stored features.
    """

    def __init__(self, parameters: Mapping[str, Any], layout: FeatureLayout) -> None:
        self.pooling: str = parameters["pooling"]
        if self.pooling not in poolings_of(layout):
            raise HeadError(f"The pooling '{self.pooling}' needs features that lie in one grid; use pooling=flat.")
        self.scaling: str = parameters.get("scaling", "none")
        self.components: int | None = parameters.get("components")
        self.layout = layout
        self.mean: np.ndarray | None = None
        self.scale: np.ndarray | None = None
        self._centre: np.ndarray | None = None
        self._axes: np.ndarray | None = None

    @property
    def is_fitted_to_rows(self) -> bool:
        """Whether the map depends on the rows that it is fitted on."""
        return self.scaling == "standard" or self.components is not None

    def rowwise(self, features: np.ndarray) -> np.ndarray:
        """Do the half that needs no fitting: float32 (N, D) -> float32 (N, d), d = D, c or 2c; in blocks of rows."""
        if self.pooling == "flat" and self.scaling in {"none", "standard"}:
            return features
        result = empty_array((len(features), pooled_dims(self.pooling, self.layout)))
        step = max(1, _BLOCK_VALUES // features.shape[1])
        for start in range(0, len(features), step):
            result[start : start + step] = self._normalised(self._pool(features[start : start + step]))
        return result

    def fit_rowwise(self, x: np.ndarray) -> Self:
        """Learn from what ``rowwise`` made of the training rows: float32 (N, d)."""
        if self.scaling == "standard":
            self.mean, self.scale = _mean_and_deviation(x)
        if self.components is not None:
            scaled = self._standardised(x)
            self._centre = scaled.mean(axis=0, dtype=np.float64).astype(np.float32)
            self._axes = _principal_axes(scaled - self._centre, self.components)
        return self

    def transform_rowwise(self, x: np.ndarray) -> np.ndarray:
        """Do the half that was learnt: float32 (N, d) from ``rowwise`` -> float32 (N, d or components)."""
        x = self._standardised(x)
        if self._axes is not None and self._centre is not None:
            x = (x - self._centre) @ self._axes
        return x

    def _standardised(self, x: np.ndarray) -> np.ndarray:
        return x if self.mean is None or self.scale is None else (x - self.mean) / self.scale

    def _normalised(self, x: np.ndarray) -> np.ndarray:
        if self.scaling == "sqrt_l2":
            x = np.sign(x) * np.sqrt(np.abs(x))
        if self.scaling in {"l2", "sqrt_l2"}:
            x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), _TINY)
        return x

    def _pool(self, features: np.ndarray) -> np.ndarray:
        if self.pooling == "flat":
            return features
        cells = features.reshape(len(features), -1, self.layout.channels)
        parts = []
        if self.pooling in {"avg", "avgmax"}:
            parts.append(cells.mean(axis=1, dtype=np.float32))
        if self.pooling in {"max", "avgmax"}:
            parts.append(cells.max(axis=1))
        return np.concatenate(parts, axis=1)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was learnt, float32: ``mean`` and ``scale`` (d,), ``centre`` (d,) and ``axes`` (d, components)."""
        learnt = {"mean": self.mean, "scale": self.scale, "centre": self._centre, "axes": self._axes}
        return {name: array for name, array in learnt.items() if array is not None}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """Take back what ``arrays()`` returned; a HeadError where an array has another number of axes."""
        self.mean, self.scale, self._centre = (
            stored(arrays, name, 1) if name in arrays else None for name in ("mean", "scale", "centre")
        )
        self._axes = stored(arrays, "axes", 2) if "axes" in arrays else None
        return self


def stored(arrays: Mapping[str, np.ndarray], name: str, axes: int) -> np.ndarray:
    """Return an array of a kept head, whose number of axes must fit, or NumPy would spread it over others; else a HeadError."""
    array = arrays.get(name)
    if array is None or array.ndim != axes:
        raise HeadError(f"The head has no array '{name}' of {axes} axes; make the model again.")
    return array


def size_in_bytes(arrays: Mapping[str, np.ndarray]) -> int:
    """Return the bytes of the arrays of a fitted head or map."""
    return sum(array.nbytes for array in arrays.values())


def poolings_of(layout: FeatureLayout) -> tuple[str, ...]:
    """Return the poolings that rows of a layout have."""
    return ("flat",) if layout.grid is None else POOLING.choices


def pooled_dims(pooling: str, layout: FeatureLayout) -> int:
    """Return how many values of a row a pooling leaves."""
    return {"flat": layout.dims, "avgmax": 2 * layout.channels}.get(pooling, layout.channels)


def averaged(features: np.ndarray, layout: FeatureLayout) -> np.ndarray:
    """Return float32 (N, C): rows float32 (N, D), each part averaged over its grid, side by side."""
    means, start = [], 0
    for part in layout.parts:
        cells = features[:, start : start + part.dims].reshape(len(features), -1, part.channels)
        means.append(cells[:, part.prefix :].mean(axis=1))
        start += part.dims
    return np.concatenate(means, axis=1)


def poolings_searched(rows: int, layout: FeatureLayout) -> tuple[str, ...]:
    """Return the poolings that a search of so many rows tries; a grid of one cell has nothing to pool.

    Many flat features are left to the first trials of heads with a kernel: they cost the others too much.
    """
    dims = layout.dims
    if len(poolings_of(layout)) == 1 or dims == layout.channels:
        return ("flat",)
    pooled = ("avg", "max", "avgmax")
    return pooled if dims > FLAT_FEATURES or rows * dims > FLAT_VALUES else ("flat", *pooled)


def is_flat_by_kernel(rows: int, layout: FeatureLayout) -> bool:
    """Return whether flat features are too many for most trials, and not for one product of matrices."""
    return "flat" not in poolings_searched(rows, layout) and rows * layout.dims <= FLAT_BY_KERNEL


def _mean_and_deviation(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of the columns, float32 (d,); constant columns keep the deviation 1."""
    mean = x.mean(axis=0, dtype=np.float64)
    squares = np.zeros(x.shape[1])
    step = max(1, _BLOCK_VALUES // x.shape[1])
    for start in range(0, len(x), step):
        squares += np.square(x[start : start + step] - mean).sum(axis=0)
    deviation = np.sqrt(squares / len(x))
    constant = deviation <= 1e-7 * np.abs(mean).max(initial=1e-30)
    return mean.astype(np.float32), np.where(constant, 1, deviation).astype(np.float32)


def _principal_axes(centred: np.ndarray, components: int) -> np.ndarray:
    """Return the directions of most variance, float32 (d, k), k = components or fewer for few rows or columns.

    Each is signed so that its largest entry is positive.
    """
    rows, dims = centred.shape
    wide = dims > rows
    square = (centred @ centred.T if wide else centred.T @ centred).astype(np.float64)
    values, vectors = np.linalg.eigh(square)
    kept = min(components, max(1, rows - 1), dims)
    values, vectors = values[::-1][:kept], vectors[:, ::-1][:, :kept]
    axes = (centred.T @ vectors.astype(np.float32)) / np.sqrt(np.maximum(values, 1e-12)) if wide else vectors
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(kept)])
    return np.ascontiguousarray(axes * np.where(signs == 0, 1, signs), np.float32)
