"""Kernel machines on many rows: the kernel approximated from some of them, the machine solved in the primal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

LANDMARKS = 1_024

_MOST_STEPS = 40
_TINY = 1e-6  # of the largest eigenvalue
_BLOCK = 8_192
_COARSE = 8
_ENOUGH = 1e-7  # of the loss: a step that brings less is the last


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
) -> Iterator[tuple[np.ndarray, float]]:
    """Solve linear machines with squared hinge loss for one ``C`` after the other; a rising order is the quickest.

    Each minimises |w|^2 / 2 + C * sum(weight * max(0, 1 - sign * (z @ w + b))^2),
    which has one minimum. Newton's steps in the primal, where every step is a
    least squares fit to the rows inside the margin: Chapelle 2007 (Training a
    support vector machine in the primal, Neural Computation 19:1155).
    Takes z float32 (n, r), signs -1 or 1 and weights, both float64 (n,); yields w float64 (r,) and b.
    """
    dims = z.shape[1]
    solution = np.zeros(dims + 1)
    if len(z) > _COARSE * dims:  # an eighth of the rows gives a start that is nearly there
        ((column, bias),) = machine_path(z[::_COARSE], signs[::_COARSE], [_COARSE * penalties[0]], weights[::_COARSE])
        solution = np.append(column, bias)
    for penalty in penalties:
        loss, gap = _loss(z, signs, weights, penalty, solution)
        for _ in range(_MOST_STEPS):
            inside = gap > 0
            hessian, right = _normal_equations(z, signs, weights * penalty, inside)
            hessian[np.arange(dims), np.arange(dims)] += 1.0
            hessian[dims, dims] += 1e-9
            step = np.linalg.solve(hessian, right) - solution
            share = 1.0
            while True:
                further = solution + share * step
                new_loss, new_gap = _loss(z, signs, weights, penalty, further)
                if new_loss <= loss or share < 1e-4:
                    break
                share /= 2
            solution = further
            settled = share == 1.0 and np.array_equal(new_gap > 0, inside)
            settled = settled or abs(loss - new_loss) <= _ENOUGH * abs(loss)
            loss, gap = new_loss, new_gap
            if settled:
                break
        yield solution[:dims].copy(), float(solution[dims])


def _loss(
    z: np.ndarray, signs: np.ndarray, weights: np.ndarray, penalty: float, solution: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return what is minimised, and how far each row is inside the margin."""
    scores = (z @ solution[:-1].astype(z.dtype)).astype(np.float64) + solution[-1]
    gap = np.maximum(0.0, 1.0 - signs * scores)
    return float(solution[:-1] @ solution[:-1] / 2 + penalty * (weights * gap**2).sum()), gap


def _normal_equations(z: np.ndarray, signs: np.ndarray, weights: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return matrix (r + 1, r + 1) and right side (r + 1,) of the least squares fit to the rows inside; blocks of rows."""
    dims = z.shape[1]
    matrix, right = np.zeros((dims + 1, dims + 1)), np.zeros(dims + 1)
    rows = np.flatnonzero(inside)
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        weight = 2 * weights[some]
        root = np.sqrt(weight).astype(z.dtype)
        block = z[some] * root[:, None]
        matrix[:dims, :dims] += block.T @ block
        total = block.T @ root
        matrix[:dims, dims] += total
        matrix[dims, :dims] += total
        matrix[dims, dims] += weight.sum()
        right[:dims] += block.T @ (root * signs[some].astype(z.dtype))
        right[dims] += (weight * signs[some]).sum()
    return matrix, right
