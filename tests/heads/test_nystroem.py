"""Machines on landmarks: the kernel that they see, and the one minimum that they find."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics.pairwise import rbf_kernel

from ffe.base.feature_layout import FeatureLayout
from ffe.heads import nystroem, svm
from ffe.heads.nystroem import choose_landmarks, machine_path, whitener
from ffe.heads.search_space import complete
from ffe.heads.svm import SvmHead, kernel_of, kernel_rows, signs_of
from ffe.testing.head import separable_rows

LAYOUT = FeatureLayout.of_shape((2, 3, 4))


def _rows(rows: int = 90, dims: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make float32 (rows, dims), signs that follow them loosely, and weights."""
    rng = np.random.default_rng(0)
    signs = np.where(rng.uniform(size=rows) < 0.4, 1.0, -1.0)
    z = rng.normal(size=(rows, dims))
    z[:, 0] += 0.8 * signs
    return z.astype(np.float32), signs, rng.uniform(0.3, 2, rows)


def _minimum(z: np.ndarray, signs: np.ndarray, penalty: float, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Find the minimum of |w|^2 / 2 + C * sum(weight * hinge^2) by SciPy."""

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        gap = np.maximum(0, 1 - signs * (z @ values[:-1] + values[-1]))
        back = -2 * penalty * weights * signs * gap
        gradient = np.append(values[:-1] + z.T @ back, back.sum())
        return float(values[:-1] @ values[:-1] / 2 + penalty * (weights * gap**2).sum()), gradient

    start = np.zeros(z.shape[1] + 1)
    values = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-8, "maxiter": 5000}).x
    return values[:-1], float(values[-1])


@pytest.mark.parametrize("penalties", [[1e-3], [10.0], [1e-3, 0.1, 10.0], [10.0, 0.1, 1e-3]], ids=str)
def test_a_path_of_machines_ends_at_the_minima(penalties: list[float]) -> None:
    """Within 2e-3 of the largest weight: it stops where no step would bring more than 1e-8 of the loss."""
    z, signs, weights = _rows()
    for penalty, ((column,), (bias,)) in zip(
        penalties, ((w.T, b) for w, b in machine_path(z, signs[:, None], penalties, weights)), strict=True
    ):
        expected, offset = _minimum(z.astype(np.float64), signs, penalty, weights)
        largest = max(np.abs(expected).max(), abs(offset))
        np.testing.assert_allclose(column, expected, atol=2e-3 * largest)
        assert bias == pytest.approx(offset, abs=2e-3 * largest)


def test_blocks_and_machines_that_go_apart_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines."""
    z, signs, weights = _rows(400)
    signs = np.stack([signs, np.where(z[:, 1] > 0.5, 1.0, -1.0)], axis=1)
    ((together, biases),) = machine_path(z, signs, [1.0], weights)
    for k, own in enumerate(signs.T):
        expected, offset = _minimum(z.astype(np.float64), own, 1.0, weights)
        np.testing.assert_allclose(together[:, k], expected, atol=2e-3 * max(np.abs(expected).max(), abs(offset)))
        assert biases[k] == pytest.approx(offset, abs=2e-3)
    monkeypatch.setattr(nystroem, "_BLOCK", 17)
    monkeypatch.setattr(nystroem, "_MOST_SCORES", 400)
    ((apart, others),) = machine_path(z, signs, [1.0], weights)
    np.testing.assert_allclose(apart, together, atol=1e-4)
    np.testing.assert_allclose(others, biases, atol=1e-4)


def test_a_weight_counts_as_so_many_rows() -> None:
    z, signs, _ = _rows()
    ((once, bias),) = machine_path(z, signs[:, None], [0.5], np.where(signs > 0, 3.0, 1.0))
    times = np.where(signs > 0, 3, 1)
    ((often, other),) = machine_path(np.repeat(z, times, axis=0), np.repeat(signs, times)[:, None], [0.5], np.ones(times.sum()))
    np.testing.assert_allclose(once, often, atol=1e-4)
    assert bias == pytest.approx(other, abs=1e-4)


def test_rows_of_one_sign_that_separate_settle() -> None:
    """Few rows, far apart, and a huge C: no step is endless."""
    z = np.asarray([[5.0, 0], [6, 1], [-5, 0], [-6, 2]], np.float32)
    ((column, bias),) = machine_path(z, np.asarray([[1.0], [1], [-1], [-1]]), [1e3], np.ones(4))
    column = column[:, 0]
    assert (np.sign(z @ column + bias) == [1, 1, -1, -1]).all()


@pytest.mark.parametrize("gamma", [0.0, 0.05])
def test_all_rows_as_landmarks_give_the_kernel_itself(gamma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer of them approximate it; blocks of rows change nothing."""
    x = _rows(60)[0]
    exact = x.astype(np.float64) @ x.T if gamma == 0 else rbf_kernel(x.astype(np.float64), gamma=gamma)
    np.testing.assert_allclose(kernel_of(x, x, gamma), exact, atol=1e-5)
    z = kernel_rows(x, x, gamma, whitener(kernel_of(x, x, gamma)))
    assert z.dtype == np.float32
    np.testing.assert_allclose(z @ z.T, exact, atol=1e-3 * np.abs(exact).max())
    monkeypatch.setattr(svm, "_BLOCK_ROWS", 7)
    np.testing.assert_allclose(kernel_rows(x, x, gamma, whitener(kernel_of(x, x, gamma))), z, atol=1e-5 * np.abs(z).max())
    some = x[choose_landmarks(60, 0)[:20]]
    part = kernel_rows(x, some, gamma, whitener(kernel_of(some, some, gamma)))
    assert np.abs(part @ part.T - exact).mean() < 0.1 * np.abs(exact).mean()


def test_landmarks_are_different_rows_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nystroem, "LANDMARKS", 10)
    first, again, other = (choose_landmarks(50, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(first)) == 10
    np.testing.assert_array_equal(first, np.sort(first))
    np.testing.assert_array_equal(choose_landmarks(7, 0), np.arange(7))


def test_two_classes_are_one_machine_more_are_one_against_the_rest() -> None:
    labels = np.asarray([0, 1, 2, 1])
    np.testing.assert_array_equal(signs_of(labels % 2, 2), [[-1], [1], [-1], [1]])
    np.testing.assert_array_equal(signs_of(labels, 3).T, [[1, -1, -1, -1], [-1, 1, -1, 1], [-1, -1, 1, -1]])


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_head_on_landmarks_is_these_machines(classes: int, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows as landmarks: decisions are those of SciPy's minima on the kernel, within 1e-2 of the largest."""
    rng = np.random.default_rng(0)
    features, labels = separable_rows(classes, 15)
    features = features + rng.normal(0, 0.7, features.shape).astype(np.float32)
    monkeypatch.setattr(svm, "EXACT_ROWS", 20)
    parameters: dict[str, Any] = complete(SvmHead.space, {"pooling": "avg", "scaling": "l2", "kernel": kernel, "C": 3.0}, "svm")
    weights = np.linspace(0.5, 2, classes)
    head = SvmHead(parameters, LAYOUT).fit(features, labels, classes, class_weights=weights)

    x = head.map.transform_rowwise(head.map.rowwise(features)).astype(np.float64)
    gram = x @ x.T if kernel == "linear" else rbf_kernel(x, gamma=1 / (x.shape[1] * x.var()))
    values, vectors = np.linalg.eigh(gram)
    kept = values > values[-1] * 1e-6
    coordinates = vectors[:, kept] * np.sqrt(values[kept])
    minima = [_minimum(coordinates, signs, 3.0, weights[labels]) for signs in signs_of(labels, classes).T]
    expected = np.stack([coordinates @ column + bias for column, bias in minima], axis=1)
    scores = np.log(head.predict_proba(features))
    found = scores[:, 1:] - scores[:, :1]
    wanted = expected if classes == 2 else expected[:, 1:] - expected[:, :1]
    np.testing.assert_allclose(found, wanted, atol=1e-2 * np.abs(wanted).max())
