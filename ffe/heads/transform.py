"""Pooling, scaling and PCA: what a head does to stored features before it looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from ffe.base.arrays import empty_array
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.errors import HeadError
from ffe.heads.search_space import Parameter

_OF_GRIDS = ("flat", "avg", "max", "avgmax", "gem")
_OF_TOKENS = ("flat", "cls", "mean", "cls+mean", "max", "gem")
# what each pooling but ``flat`` takes of a part; side by side
_VIEWS = {
    "avg": ("mean",),
    "max": ("max",),
    "avgmax": ("mean", "max"),
    "gem": ("gem",),
    "cls": ("cls",),
    "mean": ("mean",),
    "cls+mean": ("cls", "mean"),
}
_NEEDS = {"avg": "a grid", "avgmax": "a grid", "cls": "a class token", "cls+mean": "a class token"}

POOLING = Parameter("pooling", "avg", ("flat", *_VIEWS))
PARTS = Parameter("parts", "all", ("all",))  # only where rows have several: all, or one, counted from 1; see ``space_of``
SCALING = Parameter("scaling", "sqrt_l2", ("standard", "l2", "sqrt_l2", "none"))
PCA = Parameter("pca", False, (False, True))
COMPONENTS = Parameter("components", 128, (32, 64, 128, 256), when=("pca", (True,)))
FEATURE_SPACE = (POOLING, SCALING, PCA, COMPONENTS)

FLAT_FEATURES = 16_384  # with more, or with more values in all, most trials pool
FLAT_VALUES = 40_000_000  # rows times features
FLAT_BY_KERNEL = 160_000_000  # ... where one matrix product is all that looks at them

LEAST_GEM = 1e-6  # what smaller values count as in a generalised mean

_TINY = np.float32(1e-12)
_BLOCK_VALUES = 1 << 22  # values worked on at once, 16 MiB
_CACHED_VALUES = 1 << 18  # ... where they are worked on several times, and better stay in a core's cache


class FeatureMap:
    """Pooling over the grid or the tokens, then scaling, then PCA; fitted on training rows alone.

    What happens to each row by itself (pooling, L2 normalisation) needs no fitting,
    so a search does it once for all folds. What is learnt comes after it.

    Several parts of a row are pooled and scaled each by itself, and stand side by
    side: inner products of rows of length 1 are the mean of those of their parts,
    and no part outweighs another that is shorter.

    ``sqrt_l2`` is the signed square root and L2 normalisation of Perronnin et
    al. 2010 (Improving the Fisher kernel, ECCV), ``gem`` the generalised mean with
    p = 3 of Radenovic et al. 2019, https://arxiv.org/abs/1711.02512. Takes the
    parameters of a head, of which it reads its own, and the layout of the stored
    features.
    """

    def __init__(self, parameters: Mapping[str, Any], layout: FeatureLayout) -> None:
        self.pooling: str = parameters["pooling"]
        self.scaling: str = parameters.get("scaling", "none")
        self.components: int | None = parameters.get("components")
        self.layout = layout
        self.parts: str = parameters.get("parts", "all")
        self._chosen = part_layout(layout, self.parts)
        check_pooling(self.pooling, self._chosen if self.pooling in poolings_of(self._chosen) else layout)
        self.mean: np.ndarray | None = None
        self.scale: np.ndarray | None = None
        self._centre: np.ndarray | None = None
        self._axes: np.ndarray | None = None

    @property
    def is_fitted_to_rows(self) -> bool:
        """Whether the map depends on the rows that it is fitted on."""
        return self.scaling == "standard" or self.components is not None

    @property
    def leaves_rows(self) -> bool:
        """Whether ``rowwise`` returns rows as they are."""
        return self.pooling == "flat" and self.scaling in {"none", "standard"} and self.parts == "all"

    @property
    def dims(self) -> int:
        """Values of a row that ``rowwise`` has made: d."""
        return pooled_dims(self.pooling, self._chosen)

    def rowwise(self, features: np.ndarray) -> np.ndarray:
        """Do the half that needs no fitting: float32 (N, D) -> float32 (N, d), d = ``dims``; in blocks of rows."""
        if self.leaves_rows:
            return features
        step, shape = max(1, _CACHED_VALUES // features.shape[1]), (len(features), self.dims)
        result = empty_array(shape) if features.size > _BLOCK_VALUES else np.empty(shape, np.float32)  # one block fits
        for start in range(0, len(features), step):
            rows = features[start : start + step]
            pooled = [self._normalised(_pooled(rows[:, columns], part, self.pooling)) for part, columns in self.columns()]
            np.concatenate(pooled, axis=1, out=result[start : start + step])
        return result

    def columns(self) -> list[tuple[Part, slice]]:
        """Return the parts that count, and where each lies in a row."""
        every = list(zip(self.layout.parts, self.layout.columns, strict=True))
        return every if self.parts == "all" else [every[int(self.parts) - 1]]

    @property
    def weight(self) -> float:
        """The length of each part of a row that is scaled to length 1 in all."""
        return len(self._chosen.parts) ** -0.5

    def fit_rowwise(self, x: np.ndarray) -> Self:
        """Learn from what ``rowwise`` made of the training rows: float32 (N, d)."""
        if self.scaling == "standard":
            self.mean, self.scale = _mean_and_deviation(x)
        if self.components is not None:
            scaled = self._standardised(x)
            self._centre = scaled.mean(axis=0, dtype=np.float64).astype(np.float32)
            self._axes = _principal_axes(scaled - self._centre, self.components)
        return self

    def fit_blocks(self, blocks: Callable[[], Iterable[np.ndarray]]) -> Self:
        """Learn as ``fit_rowwise`` does, but for rounding, from rows float32 (n, d), block by block; a call is a pass."""
        if self.scaling == "standard":
            count, mean, squares = 0, np.zeros(self.dims), np.zeros(self.dims)
            for x in blocks():  # Chan et al. 1979, updating formulae for variances
                own = x.mean(axis=0, dtype=np.float64)
                total, apart = count + len(x), own - mean
                squares += np.square(x - own).sum(axis=0) + apart**2 * (count * len(x) / total)
                mean += apart * (len(x) / total)
                count = total
            self.mean, self.scale = _with_deviation(mean, squares / count)
        if self.components is not None:
            count, sums = 0, np.zeros(self.dims)
            for x in blocks():
                sums += self._standardised(x).sum(axis=0, dtype=np.float64)
                count += len(x)
            self._centre = (sums / count).astype(np.float32)
            square = np.zeros((self.dims, self.dims))
            for x in blocks():
                centred = self._standardised(x) - self._centre
                square += centred.T @ centred
            vectors = np.linalg.eigh(square)[1]
            self._axes = _signed(vectors[:, ::-1][:, : min(self.components, max(1, count - 1), self.dims)])
        return self

    def transform_rowwise(self, x: np.ndarray) -> np.ndarray:
        """Do the half that was learnt: float32 (N, d) from ``rowwise`` -> float32 (N, d or components)."""
        x = self._standardised(x)
        if self._axes is not None and self._centre is not None:
            x = (x - self._centre) @ self._axes
        return x

    def _standardised(self, x: np.ndarray) -> np.ndarray:
        if self.mean is None or self.scale is None:
            return x
        x = x - self.mean
        x /= self.scale
        return x

    def rooted(self, x: np.ndarray) -> np.ndarray:
        """Return the signed square roots of values where the scaling takes them, else the values."""
        if self.scaling != "sqrt_l2":
            return x
        roots = np.abs(x)
        return np.copysign(np.sqrt(roots, out=roots), x, out=roots)

    def _normalised(self, x: np.ndarray) -> np.ndarray:
        x = self.rooted(x)
        if self.scaling in {"l2", "sqrt_l2"}:
            x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), _TINY)
            if self.weight < 1:
                x *= np.float32(self.weight)
        return x

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


def _pooled(features: np.ndarray, part: Part, pooling: str) -> np.ndarray:
    """Return float32 (N, d) of the features of one part, float32 (N, part.dims)."""
    if pooling == "flat":
        return features
    tokens = features.reshape(len(features), -1, part.channels)
    cells, views = tokens[:, part.prefix :], []
    for view in views_of(pooling, part):
        if view == "mean":
            views.append(cells.mean(axis=1, dtype=np.float32))
        elif view == "max":
            views.append(cells.max(axis=1))
        elif view == "cls":
            views.append(tokens[:, 0])
        else:
            clamped = np.maximum(cells, np.float32(LEAST_GEM))
            views.append(np.cbrt((clamped * clamped * clamped).mean(axis=1, dtype=np.float32)))
    return np.concatenate(views, axis=1)


def views_of(pooling: str, part: Part) -> tuple[str, ...]:
    """Return what a pooling takes of a part: ``mean``, ``max`` and ``gem`` of its grid, and ``cls``; side by side."""
    views = tuple(view for view in _VIEWS[pooling] if view != "cls" or part.class_token)
    return ("mean",) if views == ("gem",) and part.dims == part.channels else views  # a vector has nothing to pool


def part_layout(layout: FeatureLayout, parts: str) -> FeatureLayout:
    """Return the layout of those parts of a row that count: ``all``, or the number of one, from 1; else a HeadError."""
    if parts == "all":
        return layout
    if not (parts.isdecimal() and 1 <= int(parts) <= len(layout.parts)):
        raise HeadError(f"The features have no part {parts!r}: they are {layout}.")
    return FeatureLayout((layout.parts[int(parts) - 1],))


def poolings_of(layout: FeatureLayout) -> tuple[str, ...]:
    """Return the poolings that rows of a layout have.

    Beside tokens, a part that is a grid has those of tokens: without a class token, ``cls+mean`` is its mean. Where no part
    has a class token, there is neither ``cls`` nor ``cls+mean``.
    """
    if not any(part.prefix for part in layout.parts):
        return _OF_GRIDS
    classes = [part.class_token for part in layout.parts]
    has = {"cls": all(classes), "cls+mean": any(classes)}
    return tuple(name for name in _OF_TOKENS if has.get(name, True))


def check_pooling(pooling: str, layout: FeatureLayout) -> None:
    """Raise a HeadError where rows of a layout do not have a pooling."""
    if pooling not in (have := poolings_of(layout)):
        raise HeadError(
            f"The pooling '{pooling}' needs {_NEEDS.get(pooling, 'tokens')}, but the features are {layout}; "
            f"use {', '.join(have[:-1])} or {have[-1]}."
        )


def space_of(space: Sequence[Parameter], layout: FeatureLayout) -> tuple[Parameter, ...]:
    """Return the parameters that a head has on rows of a layout: the default of ``pooling`` fits, and there may be ``parts``."""
    found: list[Parameter] = []
    for parameter in space:
        if parameter.name == POOLING.name and parameter.default not in poolings_of(layout):
            parameter = replace(parameter, default="cls+mean" if "cls+mean" in poolings_of(layout) else "mean")
        found.append(parameter)
        if parameter.name == POOLING.name and len(layout.parts) > 1:
            found.append(replace(PARTS, choices=("all", *(str(1 + i) for i in range(len(layout.parts))))))
    return tuple(found)


def pooled_dims(pooling: str, layout: FeatureLayout) -> int:
    """Return how many values of a row a pooling leaves."""
    if pooling == "flat":
        return layout.dims
    return sum(len(views_of(pooling, part)) * part.channels for part in layout.parts)


def averaged(features: np.ndarray, layout: FeatureLayout) -> np.ndarray:
    """Return float32 (N, C): rows float32 (N, D), each part averaged over its grid, side by side."""
    every = zip(layout.parts, layout.columns, strict=True)
    means = [
        features[:, columns].reshape(len(features), -1, part.channels)[:, part.prefix :].mean(axis=1) for part, columns in every
    ]
    return np.concatenate(means, axis=1)


def poolings_searched(rows: int, layout: FeatureLayout) -> tuple[str, ...]:
    """Return the poolings that a search of so many rows tries; vectors have nothing to pool, and ``gem`` is left to tokens.

    Many flat features are left to the first trials of heads with a kernel: they cost the others too much.
    """
    dims = layout.dims
    if dims == layout.channels:
        return ("flat",)
    tokens = any(part.prefix for part in layout.parts)
    pooled = tuple(name for name in poolings_of(layout) if name != "flat" and (tokens or name != "gem"))
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
    return _with_deviation(mean, squares / len(x))


def _with_deviation(mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    deviation = np.sqrt(variance)
    constant = deviation <= 1e-7 * np.abs(mean).max(initial=1e-30)
    return mean.astype(np.float32), np.where(constant, 1, deviation).astype(np.float32)


def _principal_axes(centred: np.ndarray, components: int) -> np.ndarray:
    """Return the directions of most variance, float32 (d, k), k = components or fewer for few rows or columns.

    Each is signed so that its largest entry is positive.
    """
    from scipy.linalg import eigh

    rows, dims = centred.shape
    wide = dims > rows
    square = (centred @ centred.T if wide else centred.T @ centred).astype(np.float64)
    kept = min(components, max(1, rows - 1), dims)
    values, vectors = eigh(square, subset_by_index=[len(square) - kept, len(square) - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    axes = (centred.T @ vectors.astype(np.float32)) / np.sqrt(np.maximum(values, 1e-12)) if wide else vectors
    return _signed(axes)


def _signed(axes: np.ndarray) -> np.ndarray:
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    return np.ascontiguousarray(axes * np.where(signs == 0, 1, signs), np.float32)
