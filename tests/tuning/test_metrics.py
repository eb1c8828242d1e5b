"""What a search aims at, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

from ffe.evaluation.temperature import softmax, with_temperature
from ffe.tuning.metrics import ROW_SCORES, mean_score


def _answers() -> tuple[np.ndarray, np.ndarray]:
    """Make float32 probabilities (300, 3), and labels in very unequal shares that follow them loosely."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 300, p=[0.7, 0.2, 0.1])
    scores = rng.normal(0, 1, (300, 3))
    scores[:, 0] += 0.5
    scores[np.arange(300), labels] += 1.0
    return softmax(scores).astype(np.float32), labels


def test_the_metrics_by_name() -> None:
    assert set(ROW_SCORES) == {"accuracy", "balanced_accuracy", "log_loss"}


def test_accuracies_equal_scikit_learn() -> None:
    probabilities, labels = _answers()
    answers = probabilities.argmax(axis=1)
    plain, balanced = (mean_score(name, probabilities, labels) for name in ("accuracy", "balanced_accuracy"))
    assert plain == pytest.approx(accuracy_score(labels, answers))
    assert balanced == pytest.approx(balanced_accuracy_score(labels, answers))
    assert abs(plain - balanced) > 0.02


def test_balanced_accuracy_is_over_the_classes_that_are_there() -> None:
    probabilities = np.asarray([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.7, 0.3, 0.0]], np.float32)
    assert mean_score("balanced_accuracy", probabilities, np.asarray([0, 1, 1])) == pytest.approx(0.75)


def test_log_loss_is_that_of_the_calibrated_head_and_higher_is_better() -> None:
    """How sure a head is does not count, for a model is calibrated: only what calibration cannot mend."""
    probabilities, labels = _answers()
    score = mean_score("log_loss", probabilities, labels)
    factors = np.geomspace(0.1, 10, 400)
    best = min(log_loss(labels, with_temperature(probabilities.astype(np.float64), float(factor))) for factor in factors)
    assert score == pytest.approx(-best, abs=1e-3)
    for factor in (0.3, 3.0):
        surer = with_temperature(probabilities, factor).astype(np.float32)
        assert mean_score("log_loss", surer, labels) == pytest.approx(score, abs=1e-3)
    noise = np.random.default_rng(1).permutation(len(labels))
    assert mean_score("log_loss", probabilities[noise], labels) < score - 0.1


def test_sure_and_wrong_is_finite() -> None:
    probabilities = np.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], np.float32)
    assert np.isfinite(mean_score("log_loss", probabilities, np.asarray([0, 1, 1])))
