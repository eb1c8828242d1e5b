"""Scores, against values by hand and against scikit-learn."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn import metrics

from ffe.errors import DataError
from ffe.evaluation.scores import evaluate_probabilities


def test_two_classes_by_hand() -> None:
    of_dog = np.asarray([0.1, 0.6, 0.4, 0.8, 0.9])
    scored = evaluate_probabilities(np.stack([1 - of_dog, of_dog], 1), np.asarray([0, 0, 1, 1, 1]), ("cat", "dog"))
    assert scored.n == 5
    assert scored.accuracy == pytest.approx(3 / 5)
    assert scored.balanced_accuracy == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert scored.log_loss == pytest.approx(-sum(map(math.log, (0.9, 0.4, 0.4, 0.8, 0.9))) / 5)
    assert scored.auc == pytest.approx(5 / 6)  # of 6 pairs of a cat and a dog, one is in the wrong order
    assert scored.confusion == ((1, 1), (1, 2))
    assert scored.precision == pytest.approx((1 / 2, 2 / 3))
    assert scored.recall == pytest.approx((1 / 2, 2 / 3))
    assert scored.class_names == ("cat", "dog")


def test_four_classes_equal_sklearn() -> None:
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(4), rng.choice(4, 196, p=[0.5, 0.2, 0.2, 0.1])])
    probabilities = rng.dirichlet(np.ones(4), 200)
    probabilities[np.arange(200), labels] += 0.3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    guessed = probabilities.argmax(axis=1)
    scored = evaluate_probabilities(probabilities, labels, "abcd")
    assert scored.accuracy == pytest.approx(metrics.accuracy_score(labels, guessed))
    assert scored.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, guessed))
    assert scored.log_loss == pytest.approx(metrics.log_loss(labels, probabilities))
    assert scored.auc == pytest.approx(metrics.roc_auc_score(labels, probabilities, multi_class="ovr"))
    assert scored.confusion == tuple(map(tuple, metrics.confusion_matrix(labels, guessed)))
    assert scored.precision == pytest.approx(metrics.precision_score(labels, guessed, average=None))
    assert scored.recall == pytest.approx(metrics.recall_score(labels, guessed, average=None))


def test_a_class_without_rows_has_no_auc_and_no_recall() -> None:
    probabilities = np.asarray([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.3, 0.6, 0.1]])
    scored = evaluate_probabilities(probabilities, np.asarray([0, 1, 1]), "abc")
    assert scored.auc is None
    assert scored.recall == (1.0, 0.5, None)
    assert scored.precision == (0.5, 1.0, None)
    assert scored.balanced_accuracy == pytest.approx(0.75)
    assert scored.confusion == ((1, 0, 0), (1, 1, 0), (0, 0, 0))


def test_certainty_in_the_wrong_class_is_a_finite_loss() -> None:
    scored = evaluate_probabilities(np.asarray([[1.0, 0.0], [1.0, 0.0]]), np.asarray([0, 1]), "ab")
    assert scored.log_loss == pytest.approx(-math.log(1e-15) / 2, rel=1e-6)
    assert scored.auc == 0.5


def test_it_is_plain_json() -> None:
    scored = evaluate_probabilities(np.asarray([[0.7, 0.3], [0.4, 0.6]]), np.asarray([0, 1]), ("cat", "dog"))
    value = json.loads(json.dumps(scored.to_json(), allow_nan=False))
    assert value == {
        "n": 2,
        "accuracy": 1.0,
        "balanced_accuracy": 1.0,
        "log_loss": pytest.approx(-(math.log(0.7) + math.log(0.6)) / 2),
        "auc": 1.0,
        "confusion": [[1, 0], [0, 1]],
        "precision": [1.0, 1.0],
        "recall": [1.0, 1.0],
        "class_names": ["cat", "dog"],
    }


def test_no_rows_are_refused() -> None:
    sentence = r"^There are no labelled rows to score; give a file or folder with labels\.$"
    with pytest.raises(DataError, match=sentence):
        evaluate_probabilities(np.empty((0, 2)), np.empty(0, np.int64), "ab")


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    with pytest.raises(DataError, match=r"^Some rows have no label; score labelled rows only\.$"):
        evaluate_probabilities(np.asarray([[0.5, 0.5], [0.5, 0.5]]), np.asarray([0, label]), "ab")
