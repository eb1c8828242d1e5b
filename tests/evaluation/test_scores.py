"""Scores, against values by hand and against scikit-learn."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest
from sklearn import metrics

from ffe.errors import DataError
from ffe.evaluation import intervals
from ffe.evaluation.intervals import group_numbers, resampled_weights, wilson
from ffe.evaluation.scores import _Counts, evaluate_probabilities


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
    one, two = pytest.approx([0.2065, 1], abs=1e-4), pytest.approx([0.3424, 1], abs=1e-4)  # Wilson's: 1 of 1, 2 of 2
    losses = sorted([-math.log(0.7), -math.log(0.6)])
    assert value == {
        "n": 2,
        "accuracy": 1.0,
        "balanced_accuracy": 1.0,
        "log_loss": pytest.approx(sum(losses) / 2),
        "auc": 1.0,
        "confusion": [[1, 0], [0, 1]],
        "precision": [1.0, 1.0],
        "recall": [1.0, 1.0],
        "class_names": ["cat", "dog"],
        "expected_calibration_error": pytest.approx(0.35),
        "groups": None,
        "resamples": 2000,
        "intervals": {"accuracy": two, "balanced_accuracy": one, "log_loss": pytest.approx(losses), "auc": one},
        "precision_intervals": [one, one],
        "recall_intervals": [one, one],
        "confusion_intervals": [[[0.2, 1.8], [0.0, 1.3]], [[0.0, 1.3], [0.2, 1.8]]],
    }


def problem(rows: int = 300, classes: int = 2, ties: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with many ties, and labels that mostly follow them."""
    rng = np.random.default_rng(rows + classes)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, rows - classes)])
    scores = rng.normal(0, 1, (rows, classes))
    scores[np.arange(rows), labels] += 1.5
    probabilities = np.maximum(np.round(np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True) * ties), 1)
    return probabilities / probabilities.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_are_those_of_sklearn_on_explicit_resamples(
    classes: int, grouped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 60)
    probabilities, labels = problem(120, classes)
    groups = np.arange(120) // 3 if grouped else None
    scored = evaluate_probabilities(probabilities, labels, "abcd"[:classes], groups=groups)
    assert scored.groups == (40 if grouped else None)
    found: dict[str, list[float]] = {name: [] for name in ("balanced_accuracy", "log_loss", "auc")}
    recalls = []
    for weights in np.hstack(list(resampled_weights(group_numbers(groups, 120)))).T:
        rows = np.repeat(np.arange(120), weights.astype(int))
        true, p = labels[rows], probabilities[rows]
        guessed = p.argmax(axis=1)
        found["balanced_accuracy"].append(metrics.balanced_accuracy_score(true, guessed))
        found["log_loss"].append(metrics.log_loss(true, p, labels=range(classes)))
        score = p[:, 1] if classes == 2 else p
        found["auc"].append(metrics.roc_auc_score(true, score, multi_class="ovr"))
        recalls.append(metrics.recall_score(true, guessed, average=None))
    for name, values in found.items():
        assert scored.intervals[name] == pytest.approx(np.quantile(values, (0.025, 0.975)), abs=1e-6), name
    for label, (interval, drawn) in enumerate(zip(scored.recall_intervals, np.transpose(recalls), strict=True)):
        assert interval is not None
        low, high = np.quantile(drawn, (0.025, 0.975))
        share, n = scored.recall[label] or 0, (labels == label).sum()
        assert interval == pytest.approx(wilson(share, min(n, share * (1 - share) / np.var(drawn)) if grouped else n))
        assert interval[0] < share < interval[1]
        assert interval[1] - interval[0] < 1.5 * (high - low)


def test_the_accuracy_lies_in_its_interval_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 300)
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        right = rng.uniform(size=200) < 0.9
        probabilities = np.where(right[:, None], [0.8, 0.2], [0.2, 0.8])
        labels = np.zeros(200, np.int64)
        low, high = evaluate_probabilities(probabilities, labels, "ab").intervals["accuracy"] or (1, 0)
        hits += low <= 0.9 <= high
    assert 88 <= hits <= 100


def test_rows_of_one_group_count_for_less_than_rows_of_their_own() -> None:
    """20 groups of 15 equal rows are 20 rows, not 300."""
    probabilities, labels = (np.repeat(part, 15, axis=0) for part in problem(20))
    few = evaluate_probabilities(probabilities, labels, "ab", groups=np.repeat(np.arange(20) * 7, 15)).intervals["accuracy"]
    many = evaluate_probabilities(probabilities, labels, "ab").intervals["accuracy"]
    assert few is not None
    assert many is not None
    assert few[1] - few[0] > 2.5 * (many[1] - many[0])


def test_a_perfect_score_is_not_certain() -> None:
    labels = np.arange(300) % 2
    probabilities = np.where(labels[:, None] == 0, [0.9, 0.1], [0.2, 0.8])
    scored = evaluate_probabilities(probabilities, labels, "ab")
    assert scored.intervals["accuracy"] == pytest.approx((0.98736, 1), abs=1e-5)  # Wilson's for 300 of 300
    assert scored.intervals["auc"] == scored.recall_intervals[0] == pytest.approx((0.97503, 1), abs=1e-5)
    assert scored.intervals["balanced_accuracy"] == scored.recall_intervals[0]
    grouped = evaluate_probabilities(probabilities, labels, "ab", groups=np.arange(300) // 10)
    assert grouped.intervals["accuracy"] == pytest.approx((0.88649, 1), abs=1e-5)  # 30 of 30
    labels[0] = 1  # one error may not give a higher lower end than none
    one = evaluate_probabilities(probabilities, labels, "ab").intervals["accuracy"]
    assert one is not None
    assert one[0] < 0.98736


@pytest.mark.parametrize("groups", [None, np.arange(40) // 4])
def test_no_share_may_be_one_where_a_photo_was_wrong(groups: np.ndarray | None) -> None:
    labels = np.arange(40) % 2
    probabilities = np.where(labels[:, None] == 0, [0.9, 0.1], [0.2, 0.8])
    labels[0] = 1
    scored = evaluate_probabilities(probabilities, labels, "ab", groups=groups)
    assert (scored.precision, scored.recall) == ((19 / 20, 1), (1, 20 / 21))
    shares = [scored.precision_intervals[0], scored.recall_intervals[1]]
    for interval in (*shares, scored.intervals["accuracy"], scored.intervals["balanced_accuracy"]):
        assert interval is not None
        assert interval[1] < 1


def test_a_single_row_tells_next_to_nothing() -> None:
    scored = evaluate_probabilities(np.asarray([[0.7, 0.3]]), np.asarray([0]), "ab")
    assert scored.intervals["accuracy"] == pytest.approx((0.2065, 1), abs=1e-4)
    assert scored.intervals["log_loss"] is None
    assert scored.intervals["auc"] is None
    assert scored.recall_intervals[1] is None
    assert scored.precision_intervals[1] is None
    one_group = evaluate_probabilities(*problem(100), "ab", groups=np.zeros(100, np.int64))
    assert 0 < one_group.accuracy < 1
    assert one_group.intervals["accuracy"] == (0, 1)
    assert one_group.intervals["auc"] is None


def test_the_same_rows_have_the_same_intervals() -> None:
    assert evaluate_probabilities(*problem(), "ab") == evaluate_probabilities(*problem(), "ab")


def test_the_cells_have_intervals_in_images() -> None:
    scored = evaluate_probabilities(*problem(), "ab")
    assert scored.confusion_intervals is not None
    for row, ends in zip(scored.confusion, scored.confusion_intervals, strict=True):
        for count, (low, high) in zip(row, ends, strict=True):
            width = 1.96 * math.sqrt(count * (1 - count / 300))
            assert (low, high) == pytest.approx((count - width, count + width), abs=3.5)


def test_more_than_a_hundred_classes_have_no_cell_intervals() -> None:
    probabilities = np.full((4, 101), 1 / 101)
    assert evaluate_probabilities(probabilities, np.arange(4), [str(i) for i in range(101)]).confusion_intervals is None


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"^There are 2 group numbers for 3 rows; give one for each row\.$"):
        evaluate_probabilities(np.full((3, 2), 0.5), np.asarray([0, 1, 0]), "ab", groups=np.asarray([0, 1]))


def test_no_rows_are_refused() -> None:
    sentence = r"^There are no labelled rows to score; give a file or folder with labels\.$"
    with pytest.raises(DataError, match=sentence):
        evaluate_probabilities(np.empty((0, 2)), np.empty(0, np.int64), "ab")


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    with pytest.raises(DataError, match=r"^Some rows have no label; score labelled rows only\.$"):
        evaluate_probabilities(np.asarray([[0.5, 0.5], [0.5, 0.5]]), np.asarray([0, label]), "ab")


def test_memory_does_not_grow_with_rows_times_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 400)
    probabilities, labels = problem(25_000)
    tracemalloc.start()
    try:
        evaluate_probabilities(probabilities, labels, "ab", groups=np.arange(25_000) // 2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 120 << 20  # all weights at once would be several arrays of 40 MB


def test_memory_does_not_grow_with_the_square_of_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,500 rows almost each is a cell of its own: a table of cells and classes, and the probabilities, take 4 and 8 MB."""
    monkeypatch.setattr("ffe.evaluation.scores._BLOCK", 100)
    rng = np.random.default_rng(0)
    probabilities, labels = rng.random((1500, 700)), rng.integers(0, 600, 1500)
    _Counts(probabilities[:9], labels[:9], 700)  # imports
    tracemalloc.start()
    counts = _Counts(probabilities, labels, 700)
    scored = counts.weighted(np.ones((1500, 1), np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(counts.seen) > 1400
    assert "cells" not in scored
    assert peak < 2 << 20
