"""Which trial wins, and which are no different from the best."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ffe.tuning.choosing import choose
from ffe.tuning.problem import Problem, fold_parts
from ffe.tuning.trial import Trial

ROWS = 400


@pytest.fixture(scope="module")
def rows() -> Problem:
    train = np.arange(ROWS)
    return Problem(np.zeros((ROWS, 24), np.float32), train % 2, train, fold_parts(train, train // 100), 2, (2, 3, 4))


def _trial(rows: Problem, name: str, wrong: int, right: float, *, start: int = 0, size: int = 10, default: bool = False) -> Trial:
    """Return a trial that is wrong, and barely so, on some rows from a start on, and elsewhere sure of itself to some degree."""
    labels = rows.labels[rows.scored]
    of_truth = np.full(ROWS, right)
    of_truth[start : start + wrong] = 0.45
    probabilities = np.empty((ROWS, 2), np.float32)
    probabilities[np.arange(ROWS), labels] = of_truth
    probabilities[np.arange(ROWS), 1 - labels] = 1 - of_truth
    return Trial(name, {}, 1 - wrong / ROWS, None, 1.0, size, probabilities=probabilities, default=default)


def _order(trials: list[Trial]) -> list[tuple[str, bool]]:
    return [(trial.head, trial.tied) for trial in trials]


def test_scores_that_chance_cannot_tell_apart_are_told_apart_by_log_loss(rows: Problem) -> None:
    """A row of 400 is chance, 40 are not: the surer of the two that are tied wins, though it has one row less."""
    lucky, surer, bad = _trial(rows, "dense", 8, 0.8), _trial(rows, "svm", 9, 0.99), _trial(rows, "forest", 48, 0.999)
    found = choose(rows, "accuracy", [bad, lucky, surer])
    assert _order(found) == [("svm", True), ("dense", True), ("forest", False)]
    first, second, third = (trial.log_loss for trial in found)
    assert first is not None
    assert second is not None
    assert first < second
    assert third is None
    assert [trial.score for trial in found] == [surer.score, lucky.score, bad.score]


@pytest.mark.parametrize(("right", "winner"), [(0.97, "logistic"), (0.6, "svm")])
def test_defaults_stay_unless_another_is_better_by_more_than_chance(rows: Problem, right: float, winner: str) -> None:
    """Both are wrong on ten rows; of the better one's errors nine are others, so that a little less loss is chance."""
    other = _trial(rows, "svm", 10, 0.975, start=9)
    default = _trial(rows, "logistic", 10, right, default=True)
    assert choose(rows, "accuracy", [other, default])[0].head == winner
    unnamed = dataclasses.replace(default, default=False)
    assert choose(rows, "accuracy", [other, unnamed])[0].head == "svm"


def test_of_several_defaults_the_best_stays(rows: Problem) -> None:
    first, second = _trial(rows, "svm", 10, 0.9, default=True), _trial(rows, "logistic", 10, 0.974, default=True)
    other = _trial(rows, "dense", 10, 0.975, start=9, default=True)  # of a head that hangs on a seed
    assert [head for head, _ in _order(choose(rows, "accuracy", [first, second, other]))] == ["logistic", "dense", "svm"]


def test_a_default_goes_where_another_scores_better_by_more_than_chance(rows: Problem) -> None:
    found = choose(rows, "accuracy", [_trial(rows, "svm", 48, 0.999, default=True), _trial(rows, "dense", 8, 0.8)])
    assert _order(found) == [("dense", True), ("svm", False)]


def test_equal_ones_go_to_the_smaller_head(rows: Problem) -> None:
    large, small = _trial(rows, "svm", 8, 0.9, size=900), _trial(rows, "dense", 8, 0.9, size=20)
    assert [trial.size for trial in choose(rows, "accuracy", [large, small])] == [20, 900]


def test_rows_that_belong_together_count_as_one(rows: Problem) -> None:
    """Ten rows that only one of two has right are no chance; where they show one thing, they are."""
    better, worse = _trial(rows, "svm", 4, 0.9), _trial(rows, "dense", 14, 0.9)
    assert _order(choose(rows, "accuracy", [better, worse])) == [("svm", True), ("dense", False)]
    alike = np.arange(ROWS)
    alike[4:14] = 4
    together = dataclasses.replace(rows, groups=alike)
    assert _order(choose(together, "accuracy", [better, worse])) == [("svm", True), ("dense", True)]


def test_classes_count_alike_where_the_metric_lets_them(rows: Problem) -> None:
    """One of 20 rows of a rare class weighs as much as 19 of the others, in the score and in the loss."""
    labels = np.zeros(ROWS, np.int64)
    labels[:20] = 1
    uneven = dataclasses.replace(rows, labels=labels)
    of_rare, of_many = _trial(uneven, "svm", 15, 0.9), _trial(uneven, "dense", 30, 0.9, start=100)
    assert [head for head, _ in _order(choose(uneven, "balanced_accuracy", [of_rare, of_many]))] == ["dense", "svm"]
    assert [head for head, _ in _order(choose(uneven, "accuracy", [of_rare, of_many]))] == ["svm", "dense"]
    (alone,) = choose(uneven, "balanced_accuracy", [of_rare])
    assert alone.log_loss == pytest.approx(
        np.mean([-np.log(p[labels == k, k]).mean() for k in (0, 1) for p in [_calibrated(of_rare, labels)]]), rel=1e-6
    )


def _calibrated(trial: Trial, labels: np.ndarray) -> np.ndarray:
    from ffe.evaluation.temperature import fit_temperature, with_temperature

    return with_temperature(trial.probabilities, fit_temperature(np.log(trial.probabilities.astype(np.float64)), labels))
