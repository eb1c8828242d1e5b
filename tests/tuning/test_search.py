"""The search: what it tries, how it scores, how it ranks, and what is refitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest

from ffe.errors import HeadError
from ffe.heads import HEADS
from ffe.heads.base import Validation
from ffe.heads.feature_map import POOLING
from ffe.heads.space import Parameter, complete
from ffe.specs import SearchSpec
from ffe.testing.head import separable_rows
from ffe.tuning.search import (
    FLAT_FEATURES,
    Problem,
    Trial,
    fold_parts,
    poolings_searched,
    rank,
    refit,
    run_trial,
    search,
)

GRID = (2, 3, 4)


@dataclasses.dataclass
class _Fit:
    parameters: dict[str, Any]
    rows: np.ndarray
    seed: int
    validation: Validation | None


class _StubHead:
    """Answers rightly from an even seed, wrongly from an odd one; notes every fit."""

    name: ClassVar[str] = "stub"
    random: ClassVar[bool] = True
    parallel: ClassVar[bool] = False
    space: ClassVar[tuple[Parameter, ...]] = (
        POOLING,
        Parameter("k", 1.0, low=0.0, high=2.0),
        Parameter("epochs", 50, low=1, high=100, searched=False),
    )
    fits: ClassVar[list[_Fit]] = []

    def __init__(self, parameters: Mapping[str, Any], grid: tuple[int, int, int]) -> None:
        self.parameters = dict(parameters)

    def fit(
        self, features: np.ndarray, labels: np.ndarray, classes: int, *, seed: int = 0, validation: Validation | None = None
    ) -> Self:
        self.fits.append(_Fit(self.parameters, features, seed, validation))
        self._right = seed % 2 == 0
        self._fit_number = len(self.fits)
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        answers = features.reshape(len(features), 6, 4).mean(axis=1)[:, :2].argmax(axis=1)
        return np.eye(2)[answers if self._right else 1 - answers]

    def found(self) -> dict[str, Any]:
        return {"epochs": self._fit_number * 10}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"nothing": np.zeros(10, np.float32)}


class _SureStubHead(_StubHead):
    name: ClassVar[str] = "sure stub"
    random: ClassVar[bool] = False


@pytest.fixture(autouse=True)
def stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_StubHead, "fits", [])
    for kind in (_StubHead, _SureStubHead):
        monkeypatch.setitem(HEADS, kind.name, kind)


@pytest.fixture(scope="module")
def problem() -> Problem:
    features, labels = separable_rows(2, 15)
    features += np.random.default_rng(0).normal(0, 1.5, features.shape).astype(np.float32)
    train = np.arange(24)
    return Problem(features, labels, train, fold_parts(train, train % 3), 2, GRID)


def _easy(parts: int = 3) -> Problem:
    features, labels = separable_rows(2, 12)
    train = np.arange(24)
    return Problem(features, labels, train, fold_parts(train, train % parts), 2, GRID)


def test_fold_parts_score_every_row_once() -> None:
    train = np.asarray([3, 5, 8, 9, 11])
    parts = fold_parts(train, np.asarray([0, 1, 0, 2, 1]))
    assert [(fit.tolist(), score.tolist()) for fit, score in parts] == [
        ([5, 9, 11], [3, 8]),
        ([3, 8, 9], [5, 11]),
        ([3, 5, 8, 11], [9]),
    ]


@pytest.mark.parametrize(
    ("grid", "poolings"),
    [
        ((1, 1, 512), ("flat",)),
        ((1, 1, 40_000), ("flat",)),
        ((4, 4, 512), ("flat", "avg", "max", "avgmax")),
        ((4, 4, FLAT_FEATURES // 16), ("flat", "avg", "max", "avgmax")),
        ((1, 17, FLAT_FEATURES // 16), ("avg", "max", "avgmax")),
    ],
)
def test_poolings_that_make_sense(grid: tuple[int, int, int], poolings: tuple[str, ...]) -> None:
    assert poolings_searched(grid) == poolings


@pytest.mark.parametrize("head", ["svm", "logistic"])
def test_the_first_trials_are_the_defaults_in_each_pooling(problem: Problem, head: str) -> None:
    tried: list[Trial] = []
    search(problem, SearchSpec((head,), trials=5), lambda trial, done, total: tried.append(trial))
    defaults = complete(HEADS[head].space, {}, head)
    assert [trial.parameters for trial in tried[:4]] == [{**defaults, "pooling": p} for p in ("avg", "flat", "max", "avgmax")]
    assert len(tried) == 5


def test_a_grid_of_one_cell_is_searched_flat_only(problem: Problem) -> None:
    single = dataclasses.replace(problem, grid=(1, 1, 24))
    tried = search(single, SearchSpec(("logistic",), trials=3))
    assert [trial.parameters["pooling"] for trial in tried] == ["flat"] * 3
    assert complete(HEADS["logistic"].space, {"pooling": "flat"}, "") in [trial.parameters for trial in tried]


def test_too_many_features_are_never_searched_flat(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.tuning.search.FLAT_FEATURES", 20)
    tried = search(problem, SearchSpec(("logistic",), trials=5))
    assert {trial.parameters["pooling"] for trial in tried} == {"avg", "max", "avgmax"}


def test_every_head_gets_its_trials_and_is_reported(problem: Problem) -> None:
    counts: list[tuple[str, int, int]] = []
    board = search(
        problem, SearchSpec(("logistic", "svm"), trials=3), lambda trial, done, total: counts.append((trial.head, done, total))
    )
    assert counts == [*(("logistic", i, 6) for i in (1, 2, 3)), *(("svm", i, 6) for i in (4, 5, 6))]
    assert len(board) == 6
    assert board == rank(board)
    assert [trial.score for trial in board] == sorted((trial.score for trial in board), reverse=True)


def test_the_same_seed_gives_the_same_leaderboard(problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = SearchSpec(("svm", "logistic"), trials=6, seed=4)
    first, second = ([dataclasses.replace(t, fit_seconds=0) for t in search(problem, spec)] for _ in range(2))
    assert first == second
    assert list(tmp_path.iterdir()) == []


def test_a_score_is_the_mean_over_the_folds(problem: Problem) -> None:
    trial = run_trial(problem, "logistic", {"C": "0.01"})
    scores = []
    for fit, score in problem.parts:
        head = HEADS["logistic"](trial.parameters, GRID).fit(problem.features[fit], problem.labels[fit], 2)
        scores.append((head.predict_proba(problem.features[score]).argmax(axis=1) == problem.labels[score]).mean())
    assert trial.score == pytest.approx(np.mean(scores))
    assert trial.spread == pytest.approx(np.std(scores))
    assert trial.parameters == {"pooling": "avg", "scaling": "sqrt_l2", "C": 0.01}
    assert trial.size == 4 * 4 + 8


def test_one_part_and_one_execution_have_no_spread(problem: Problem) -> None:
    alone = dataclasses.replace(problem, parts=problem.parts[:1])
    assert run_trial(alone, "logistic", {}).spread is None


def test_executions_average_over_seeds_for_random_heads() -> None:
    trial = run_trial(_easy(), "stub", {}, executions=2, seed=4)
    assert sorted(fit.seed for fit in _StubHead.fits) == [4, 4, 4, 5, 5, 5]
    assert trial.score == 0.5
    assert trial.spread == 0.5


def test_executions_mean_nothing_for_heads_without_chance() -> None:
    trial = run_trial(_easy(), "sure stub", {}, executions=5, seed=4)
    assert [fit.seed for fit in _SureStubHead.fits] == [4, 4, 4]
    assert trial.score == 1.0


def test_a_fit_watches_the_rows_that_it_is_scored_on_and_no_others() -> None:
    problem = _easy()
    run_trial(problem, "stub", {})
    for fit, (rows, held) in zip(_StubHead.fits, problem.parts, strict=True):
        np.testing.assert_array_equal(fit.rows, problem.features[rows])
        assert fit.validation is not None
        np.testing.assert_array_equal(fit.validation.features, problem.features[held])
        np.testing.assert_array_equal(fit.validation.labels, problem.labels[held])


def test_the_epochs_that_the_fits_found_are_used_in_the_refit() -> None:
    problem = _easy()
    trial = run_trial(problem, "stub", {"epochs": 70})
    assert [fit.parameters["epochs"] for fit in _StubHead.fits] == [70, 70, 70]
    assert trial.parameters["epochs"] == 20  # the median of 10, 20 and 30
    assert isinstance(trial.parameters["epochs"], int)
    head = refit(problem, trial, 9)
    last = _StubHead.fits[-1]
    assert last.parameters == head.parameters == {"pooling": "avg", "k": 1.0, "epochs": 20}
    assert last.seed == 9
    assert last.validation is None


def test_the_refit_takes_all_training_rows_and_no_validation_rows() -> None:
    easy = _easy()
    with_validation = dataclasses.replace(easy, train=np.arange(20), parts=[(np.arange(20), np.arange(20, 24))])
    refit(with_validation, run_trial(with_validation, "stub", {}), 0)
    np.testing.assert_array_equal(_StubHead.fits[-1].rows, easy.features[:20])


def test_the_longest_training_is_that_of_the_search() -> None:
    search(_easy(), SearchSpec(("stub",), trials=2, epochs=7))
    assert {fit.parameters["epochs"] for fit in _StubHead.fits} == {7}


def _trial(head: str, score: float, size: int, **parameters: Any) -> Trial:
    return Trial(head, parameters, score, None, 1.0, size)


def test_equal_scores_go_to_the_smaller_head_then_by_name() -> None:
    trials = [
        _trial("svm", 0.9, 500),
        _trial("svm", 0.95, 900),
        _trial("forest", 0.9 + 1e-12, 800),
        _trial("dense", 0.9, 500),
        _trial("logistic", 0.9, 100),
    ]
    ranked = [(trial.head, trial.size) for trial in rank(trials)]
    assert ranked == [("svm", 900), ("logistic", 100), ("dense", 500), ("svm", 500), ("forest", 800)]
    assert rank(trials[::-1]) == rank(trials)


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(HeadError, match="There is no head 'tree'"):
        search(_easy(), SearchSpec(("tree",)))


def test_an_error_of_a_head_comes_out_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("the head broke")

    def broken(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(_StubHead, "fit", broken)
    with pytest.raises(RuntimeError) as caught:
        search(_easy(), SearchSpec(("stub",), trials=3))
    assert caught.value is error
