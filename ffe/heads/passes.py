"""Linear machines on more rows than memory holds: the exact optimum, in a few passes over blocks of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ffe.base.arrays import RowSource, blocks_of_rows
from ffe.heads.base import SAMPLE_ROWS, FitData, sample_of
from ffe.heads.transform import FeatureMap

log = logging.getLogger("ffe")

MOST_PASSES = 200
_ENOUGH, _NEARLY = 1e-10, 1e-6  # of the loss: a step that brings less is the last; on a sample
_WIDEST = 4_096  # features whose products with each other are held, 128 MiB
_SAMPLE_VALUES = 1 << 26  # of the rows that a fit begins with, 256 MiB

# scores float64 (n, K), labels int64 (n,) -> loss (n,), its derivative by the scores (n, K), and its curvature (n,)
Loss = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
Blocks = Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]  # mapped rows float32 (n, d), labels int64 (n,), weights (n,)


def logistic_loss(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the log loss of class 1 for one column of scores, of a softmax for more; see ``Loss``."""
    from scipy.special import expit, logsumexp

    if scores.shape[1] == 1:
        chance = expit(scores)
        return np.logaddexp(0, scores[:, 0]) - labels * scores[:, 0], chance - labels[:, None], (chance * (1 - chance))[:, 0]
    rows, total = np.arange(len(labels)), logsumexp(scores, axis=1)
    chance = np.exp(scores - total[:, None])
    curvature = (chance * (1 - chance)).mean(axis=1)
    loss = total - scores[rows, labels]
    chance[rows, labels] -= 1
    return loss, chance, curvature


def squared_hinge_loss(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the squared hinge loss of class 1 for one column of scores, of each against the rest for more; see ``Loss``."""
    wanted = np.asarray([1]) if scores.shape[1] == 1 else np.arange(scores.shape[1])
    signs = np.where(labels[:, None] == wanted, 1.0, -1.0)
    gap = np.maximum(0.0, 1.0 - signs * scores)
    return np.square(gap).sum(axis=1), -2 * signs * gap, 2 * (gap > 0).mean(axis=1)


def fit_map(feature_map: FeatureMap, source: RowSource, data: FitData) -> None:
    """Fit a map to rows float32 (N, D) in passes; a PCA of more than 4,096 features, and what goes before it, to a sample."""
    if feature_map.components is not None and feature_map.dims > _WIDEST:
        feature_map.fit_rowwise(feature_map.rowwise(source[_begin_with(source, data)]))
    elif feature_map.is_fitted_to_rows:
        feature_map.fit_blocks(lambda: (feature_map.rowwise(x) for _, x in blocks_of_rows(source)))


def mapped_blocks(feature_map: FeatureMap, source: RowSource, size: int | None = None) -> Iterator[np.ndarray]:
    """Yield what a fitted map makes of all rows, in order: float32 (n, d); ``size`` as of ``blocks_of_rows``."""
    return (x for _, x in blocks_of_rows(_Mapped(feature_map, source), size))


class _Mapped:
    """What a fitted map makes of rows float32 (N, D) that are asked for: so blocks that are read ahead are mapped ahead."""

    def __init__(self, feature_map: FeatureMap, source: RowSource) -> None:
        self._map, self._source, self.shape = feature_map, source, source.shape

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self._map.transform_rowwise(self._map.rowwise(self._source[rows]))


def wide_pca_text(feature_map: FeatureMap) -> str:
    """Return what ``fit_map`` leaves to a sample; empty = nothing."""
    wide = feature_map.components is not None and feature_map.dims > _WIDEST
    return "scaling and PCA are learnt from some of them" if wide else ""


def fit_linear(
    source: RowSource, feature_map: FeatureMap, data: FitData, penalty: float, loss: Loss
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a map, then a linear machine; return weights float64 (d, K), K = 1 for two classes, and bias (K,).

    Minimises |w|^2 / 2 + C * sum(weight * loss), without a penalty on the bias, by L-BFGS, whose every step is a pass. It
    begins where a sample of the rows ends, in coordinates in which the curvature there is the same in all directions
    (up to 4,096 features), so a few steps do.
    """
    fit_map(feature_map, source, data)
    weights = data.row_weights

    def blocks() -> Blocks:
        return ((x, data.labels[rows], weights[rows]) for rows, x in blocks_of_rows(mapped))

    some, mapped = _begin_with(source, data), _Mapped(feature_map, source)
    sample = [(mapped[some], data.labels[some], weights[some])]
    columns = 1 if data.classes == 2 else data.classes
    found, total = np.zeros((sample[0][0].shape[1] + 1, columns)), float(weights.sum())
    for passed, enough in ((lambda: sample, _NEARLY), (lambda: sample, _NEARLY), (blocks, _ENOUGH)):
        root = _root_of_curvature(*sample[0], loss, found, penalty * total)
        found = _minimised(passed, loss, found, root, penalty * total, enough)
    return found[:-1], found[-1]


def _begin_with(source: RowSource, data: FitData) -> np.ndarray:
    return sample_of(data.labels, min(SAMPLE_ROWS, max(2_000, _SAMPLE_VALUES // source.shape[1])), data.seed)


def _scores(x: np.ndarray, found: np.ndarray) -> np.ndarray:
    return (x @ found[:-1].astype(np.float32)).astype(np.float64) + found[-1]


def _root_of_curvature(
    x: np.ndarray, labels: np.ndarray, weights: np.ndarray, loss: Loss, found: np.ndarray, scale: float
) -> np.ndarray:
    """Return a triangle L (d + 1, d + 1), so that the mean curvature of the loss at a place is about L @ L.T."""
    if x.shape[1] > _WIDEST:
        return np.ones((1, 1))
    curvature = weights * loss(_scores(x, found), labels)[2] / weights.sum()
    rooted = np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1) * np.sqrt(curvature).astype(np.float32)[:, None]
    square = (rooted.T @ rooted).astype(np.float64)
    square[np.diag_indices(len(square))] += 1 / scale + 1e-6 * np.trace(square) / len(square)
    root: np.ndarray = np.linalg.cholesky(square)
    return root


def _minimised(
    blocks: Callable[[], Blocks], loss: Loss, start: np.ndarray, root: np.ndarray, scale: float, enough: float
) -> np.ndarray:
    """Return where the mean loss and the penalty, divided by ``scale``, are least: float64 (d + 1, K), the bias last."""
    from scipy.linalg import solve_triangular
    from scipy.optimize import minimize

    plain = len(root) == 1

    def of(coordinates: np.ndarray) -> np.ndarray:
        values = coordinates.reshape(start.shape)
        return values if plain else np.asarray(solve_triangular(root, values, trans=1, lower=True))

    def value(coordinates: np.ndarray) -> tuple[float, np.ndarray]:
        found = of(coordinates)
        total, weight, gradient = 0.0, 0.0, np.zeros_like(found)
        for x, labels, weights in blocks():
            losses, slopes, _ = loss(_scores(x, found), labels)
            slopes *= weights[:, None]
            total += float(weights @ losses)
            weight += float(weights.sum())
            gradient[:-1] += x.T @ slopes.astype(np.float32)
            gradient[-1] += slopes.sum(axis=0)
        total, gradient = total / weight, gradient / weight
        total += float(np.square(found[:-1]).sum()) / (2 * scale)
        gradient[:-1] += found[:-1] / scale
        return total, (gradient if plain else solve_triangular(root, gradient, lower=True)).ravel()

    begin = start if plain else root.T @ start
    options = {"maxiter": MOST_PASSES, "maxfun": MOST_PASSES, "maxcor": 20, "ftol": enough, "gtol": 1e-8}
    done = minimize(value, begin.ravel(), jac=True, method="L-BFGS-B", options=options)
    log.debug("%d passes: %s", done.nfev, done.message)
    if done.status == 1:
        log.warning(
            "the fit had not settled after %d passes, so it may be worse than it could be; a smaller C mends that", done.nfev
        )
    return of(done.x)
