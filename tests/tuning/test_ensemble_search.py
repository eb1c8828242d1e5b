"""Which heads are averaged, and when that wins."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ffe.evaluation.temperature import calibrate, with_temperature
from ffe.heads import HEADS
from ffe.heads.ensemble import EnsembleHead
from ffe.heads.search_space import complete
from ffe.specs import SearchSpec
from ffe.tuning.ensemble_search import best_ensemble
from ffe.tuning.problem import Problem, fold_parts
from ffe.tuning.search import refit, score_once
from ffe.tuning.trial import Trial, rank

ROWS = 120
SPEC = SearchSpec(("svm",), ensemble=3)


@pytest.fixture(scope="module")
def rows() -> Problem:
    train = np.arange(ROWS)
    labels = train % 3
    return Problem(np.zeros((ROWS, 24), np.float32), labels, train, fold_parts(train, train // 40), 3, (2, 3, 4))


def _trial(rows: Problem, head: str, wrong: np.ndarray, sure: float, *, pooling: str = "avg", size: int = 10) -> Trial:
    """Return a trial that is wrong on some of the scored rows, and as sure of itself everywhere."""
    labels = rows.labels[rows.scored]
    answers = labels.copy()
    answers[wrong] = (answers[wrong] + 1) % 3
    probabilities = np.full((ROWS, 3), (1 - sure) / 2, np.float32)
    probabilities[np.arange(ROWS), answers] = sure
    parameters = {"pooling": pooling}
    return Trial(head, parameters, float((answers == labels).mean()), None, 2.0, size, 9.0, probabilities)


def _disjoint(rows: Problem) -> list[Trial]:
    """Three heads, each wrong on rows of its own: of the three, two are always right."""
    heads = zip(("svm", "dense", "forest"), ((0, 10), (40, 51), (80, 92)), strict=True)
    return rank([_trial(rows, head, np.arange(*span), 0.8) for head, span in heads])


def test_heads_that_err_on_different_rows_win_together(rows: Problem) -> None:
    trials = _disjoint(rows)
    found = best_ensemble(rows, SPEC, trials)
    assert found is not None
    assert found.head == "ensemble"
    assert found.score == 1.0 > trials[0].score
    assert [member["head"] for member in found.parameters["members"]] == ["svm", "dense", "forest"]
    assert found.size == 30
    assert found.fit_seconds == 6.0
    assert found.finished == 9.0


def test_the_members_are_calibrated_before_they_are_averaged(rows: Problem) -> None:
    """One that is always nearly certain, and often wrong, does not drown the others."""
    trials = rank(
        [
            _trial(rows, "svm", np.arange(0, 20), 0.999),
            _trial(rows, "dense", np.arange(20, 42), 0.6),
            _trial(rows, "forest", np.arange(60, 85), 0.7),
        ]
    )
    found = best_ensemble(rows, SPEC, trials)
    assert found is not None
    labels = rows.labels[rows.scored]
    members = found.parameters["members"]
    of_head = {trial.head: trial for trial in trials}
    of_members = [of_head[member["head"]] for member in members]
    assert [m["temperature"] for m in members] == [calibrate(t.probabilities, labels).factor for t in of_members]
    assert members[0]["temperature"] < 1
    expected = np.mean(
        [with_temperature(t.probabilities, m["temperature"]) for t, m in zip(of_members, members, strict=True)], axis=0
    )
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert found.score == (expected.argmax(axis=1) == labels).mean()


def test_heads_that_err_on_the_same_rows_win_nothing(rows: Problem) -> None:
    """An average that is as good as the best head alone is not taken."""
    trials = rank([_trial(rows, head, np.arange(n), 0.8) for head, n in (("svm", 10), ("dense", 11), ("forest", 12))])
    assert best_ensemble(rows, SPEC, trials) is None


def test_a_perfect_head_stands_alone(rows: Problem) -> None:
    trials = rank([_trial(rows, "svm", np.arange(0), 0.9), *_disjoint(rows)[1:]])
    assert best_ensemble(rows, SPEC, trials) is None


@pytest.mark.parametrize("count", [2, 3])
def test_no_more_members_than_asked(rows: Problem, count: int) -> None:
    trials = rank(
        [
            _trial(rows, "svm", np.arange(0, 10), 0.9),
            _trial(rows, "dense", np.arange(10, 21), 0.8),
            _trial(rows, "forest", np.arange(20, 32), 0.9),
        ]
    )
    found = best_ensemble(rows, SearchSpec(("svm",), ensemble=count), trials)
    if found is not None:
        assert 2 <= len(found.parameters["members"]) <= count
    assert count == 2 or found is not None


def test_members_are_those_that_lower_the_log_loss_most(rows: Problem) -> None:
    """Not the second of the leaderboard, which errs where the best does."""
    best, second = _trial(rows, "svm", np.arange(10), 0.8), _trial(rows, "svm", np.arange(11), 0.8)
    other = _trial(rows, "dense", np.arange(90, 103), 0.8)
    found = best_ensemble(rows, dataclasses.replace(SPEC, ensemble=2), [best, second, other])
    assert found is not None
    assert [m["head"] for m in found.parameters["members"]] == ["svm", "dense"]
    assert found.tied
    truth = found.probabilities[np.arange(ROWS), rows.labels[rows.scored]]
    assert found.log_loss == pytest.approx(-np.log(truth).mean(), rel=1e-5)
    assert best_ensemble(rows, SPEC, [best]) is None
    assert best_ensemble(rows, SPEC, [best, second]) is None


def test_default_parameters_that_won_stay_alone(rows: Problem) -> None:
    best, *others = _disjoint(rows)
    assert best_ensemble(rows, SPEC, [best, *others]) is not None
    assert best_ensemble(rows, SPEC, [dataclasses.replace(best, default=True), *others]) is None


def test_an_average_that_scores_lower_is_none(rows: Problem) -> None:
    """Less log loss does not pay for more answers that are wrong."""
    best, *others = _disjoint(rows)
    two = dataclasses.replace(SPEC, ensemble=2)
    found = best_ensemble(rows, two, [dataclasses.replace(best, score=0.9), *others])
    assert found is not None
    assert 0.9 < found.score < 1.0
    assert best_ensemble(rows, two, [dataclasses.replace(best, score=found.score), *others]) is not None
    assert best_ensemble(rows, two, [dataclasses.replace(best, score=1.0), *others]) is None


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "log_loss"])
def test_it_aims_at_what_the_search_aims_at(rows: Problem, metric: Any) -> None:
    """Log losses are below 0; there, too, an ensemble is taken where it is better, and only there."""
    spec = SearchSpec(("svm",), ensemble=3, metric=metric)
    same = [
        Trial(t.head, t.parameters, -0.5 if metric == "log_loss" else t.score, None, 1.0, 1, 0.0, t.probabilities)
        for t in _disjoint(rows)
    ]
    found = best_ensemble(rows, spec, same)
    assert found is not None
    assert found.score > same[0].score


def test_an_ensemble_of_real_heads_is_fitted_and_rebuilt(problem: Problem) -> None:
    spec = SearchSpec(("svm",))
    trials = rank([score_once(problem, spec, head, {"pooling": p}) for head in ("svm", "logistic") for p in ("avg", "max")])
    members = [{"head": t.head, "parameters": t.parameters, "temperature": 1.5} for t in trials[:3]]
    head = refit(problem, Trial("ensemble", {"members": members}, 1.0, None, 1.0, 1), 3)
    again = EnsembleHead.from_arrays(head.parameters, problem.layout, {n: a.copy() for n, a in head.arrays().items()})
    np.testing.assert_array_equal(again.predict_proba(problem.features), head.predict_proba(problem.features))
    expected = np.mean(
        [
            with_temperature(
                HEADS[m["head"]](complete(HEADS[m["head"]].space, m["parameters"], ""), problem.layout)
                .fit(problem.features, problem.labels, 2, seed=3)
                .predict_proba(problem.features),
                1.5,
            )
            for m in members
        ],
        axis=0,
    )
    np.testing.assert_allclose(head.predict_proba(problem.features), expected, atol=1e-12)
