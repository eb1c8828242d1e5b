"""Kernel machines on many rows: the kernel approximated from some of them, the machine solved in the primal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

LANDMARKS = 1_024

_MOST_STEPS = 300
_TINY = 1e-6  # of the largest eigenvalue
_BLOCK = 8_192
_MOST_SCORES = 8_000_000  # of rows and machines, that are held at once
_FEWEST = 0.01  # of the rows, that are taken to be inside the margin
_ENOUGH = 1e-8  # of the loss: what no step would bring is enough


def choose_landmarks(rows: int, seed: int) -> np.ndarray:
    """Choose the rows that stand for all of them: int64 (m,), rising, 1,024 or fewer."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:LANDMARKS])


def whitener(kernel: np.ndarray) -> np.ndarray:
    """Return float64 (m, r) so that ``k(x, landmarks) @ whitener`` has the kernel as inner products; from that of the landmarks.

    Nyström's approximation; Williams & Seeger 2001 (NIPS 13).
    """
    values, vectors = np.linalg.eigh(kernel)
    kept = values > values[-1] * _TINY
    return vectors[:, kept] / np.sqrt(values[kept])


def machine_path(
    z: np.ndarray, signs: np.ndarray, penalties: Sequence[float], weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Solve linear machines with squared hinge loss for one ``C`` after the other; a rising order is the quickest.

    Each minimises |w|^2 / 2 + C * sum(weight * max(0, 1 - sign * (z @ w + b))^2), which has one minimum: Chapelle 2007
    (Training a support vector machine in the primal, Neural Computation 19:1155). All machines go together, by conjugate
    gradients: a step is two products with z. The curvature that all rows would give, by how many of them are inside the
    margin, is the preconditioner, and serves all machines and all ``C``.
    Takes z float32 (n, r), signs -1 or 1, float64 (n, K), and weights float64 (n,); yields w float64 (r, K) and b (K,).
    """
    curvature, vectors, mean = _curvature(z, weights)
    machines = max(1, _MOST_SCORES // len(z))
    parts = [
        _path(z, signs[:, i : i + machines], penalties, weights, curvature, vectors, mean)
        for i in range(0, signs.shape[1], machines)
    ]
    for found in zip(*parts, strict=True):
        yield np.concatenate([w for w, _ in found], axis=1), np.concatenate([b for _, b in found])


def _path(
    z: np.ndarray,
    signs: np.ndarray,
    penalties: Sequence[float],
    weights: np.ndarray,
    curvature: np.ndarray,
    vectors: np.ndarray,
    mean: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Solve some machines: see ``machine_path``. Inside, columns of z have a mean of 0, so that b stands by itself."""
    weight, total = weights[:, None], weights.sum()
    w, b = np.zeros((z.shape[1], signs.shape[1])), np.zeros(signs.shape[1])
    gap = np.ones_like(signs)  # how far each row is inside the margin, below 0 where it is outside
    for penalty in penalties:
        inside = np.maximum((weight * (gap > 0)).sum(axis=0) / total, _FEWEST)
        softness, softness_b = 1 / (1 + 2 * penalty * curvature[:, None] * inside), 1 / (2 * penalty * total * inside)
        loss = _loss(w, gap, weight, penalty)
        step = step_b = old = old_b = before = None
        for _ in range(_MOST_STEPS):
            push = 2 * penalty * weight * signs * np.maximum(gap, 0)
            down_b = push.sum(axis=0)
            down = (z.T @ push.astype(z.dtype)).astype(np.float64) - np.outer(mean, down_b) - w
            soft, soft_b = vectors @ (softness * (vectors.T @ down)), softness_b * down_b
            decrement = (down * soft).sum(axis=0) + down_b * soft_b
            if (decrement <= _ENOUGH * loss).all():
                break
            if step is None:
                step, step_b = soft, soft_b
            else:
                turn = np.maximum(0, (((down - old) * soft).sum(axis=0) + (down_b - old_b) * soft_b) / before)
                step, step_b = soft + turn * step, soft_b + turn * step_b
            uphill = (down * step).sum(axis=0) + down_b * step_b <= 0
            step, step_b = np.where(uphill, soft, step), np.where(uphill, soft_b, step_b)
            old, old_b, before = down, down_b, np.maximum(decrement, np.finfo(float).tiny)
            change = signs * ((z @ step.astype(z.dtype)).astype(np.float64) + (step_b - mean @ step))
            share = _line_search(w, step, gap, change, weight, penalty)
            while True:
                new_gap = gap - share * change
                new_loss = _loss(w + share * step, new_gap, weight, penalty)
                worse = (new_loss > loss) & (share > 1e-9)
                if not worse.any():
                    break
                share = np.where(worse, share / 2, share)
            w, b, gap, loss = w + share * step, b + share * step_b, new_gap, new_loss
        yield w.copy(), b - mean @ w


def _curvature(z: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the weighted scatter of z about its mean, as values (r,) and vectors (r, r), and that mean (r,); float64."""
    scatter, total = np.zeros((z.shape[1], z.shape[1])), np.zeros(z.shape[1])
    for start in range(0, len(z), _BLOCK):
        block, weight = z[start : start + _BLOCK], weights[start : start + _BLOCK, None].astype(z.dtype)
        scatter += block.T @ (weight * block)
        total += (weight * block).sum(axis=0, dtype=np.float64)
    mean = total / weights.sum()
    values, vectors = np.linalg.eigh(scatter - np.outer(mean, total))
    return np.maximum(values, 0), vectors, mean


def _loss(w: np.ndarray, gap: np.ndarray, weight: np.ndarray, penalty: float) -> np.ndarray:
    """Return what each machine minimises: float64 (K,)."""
    loss: np.ndarray = (w * w).sum(axis=0) / 2 + penalty * (weight * np.maximum(gap, 0) ** 2).sum(axis=0)
    return loss


def _line_search(
    w: np.ndarray, step: np.ndarray, gap: np.ndarray, change: np.ndarray, weight: np.ndarray, penalty: float
) -> np.ndarray:
    """Return how much of a step each machine goes: Newton's steps along it, where the loss is made of parabolas."""
    share = np.zeros(step.shape[1])
    for _ in range(4):
        inside = weight * (gap > share * change) * change
        rise = (w * step).sum(axis=0) - 2 * penalty * (inside * gap).sum(axis=0)
        bend = (step * step).sum(axis=0) + 2 * penalty * (inside * change).sum(axis=0)
        share = -rise / np.maximum(bend, np.finfo(float).tiny)
    return share
