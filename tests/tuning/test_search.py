"""The search: what it tries, how it scores, how it ranks, when it ends, and what is refitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout
from ffe.errors import HeadError
from ffe.heads import HEADS, svm, transform
from ffe.heads.dense import DenseHead
from ffe.heads.ensemble import EnsembleHead
from ffe.heads.search_space import complete
from ffe.heads.transform import FLAT_BY_KERNEL, FLAT_FEATURES, FLAT_VALUES, poolings_searched
from ffe.specs import SearchSpec
from ffe.tuning import search as searching
from ffe.tuning.choosing import choose
from ffe.tuning.keras_tuner import hyperband_trials
from ffe.tuning.kernel_cache import KernelCache
from ffe.tuning.metrics import ROW_SCORES, mean_score
from ffe.tuning.problem import Outcome, Problem, fold_parts
from ffe.tuning.scoring import ScoreRequest
from ffe.tuning.search import SCORERS, SearchProgress, refit, score_once, score_sets, search
from ffe.tuning.trial import Trial, best_of_each_head, rank

from .fake_evaluators import FakeEvaluators

LAYOUT = FeatureLayout.of_shape((2, 3, 4))
POOLINGS = ("flat", "avg", "max", "avgmax")


def _comparable(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials without what a clock measured."""
    return [dataclasses.replace(trial, fit_seconds=0, finished=0) for trial in trials]


# the rows ----------------------------------------------------------------------------------------------------------------


def test_fold_parts_score_every_row_once() -> None:
    train = np.asarray([3, 5, 8, 9, 11])
    parts = fold_parts(train, np.asarray([0, 1, 0, 2, 1]))
    assert [(fit.tolist(), score.tolist()) for fit, score in parts] == [
        ([5, 9, 11], [3, 8]),
        ([3, 8, 9], [5, 11]),
        ([3, 5, 8, 11], [9]),
    ]


def test_views_are_computed_once_and_the_oldest_makes_room(problem: Problem) -> None:
    views = KernelCache(problem.features)
    maps = [DenseHead(complete(DenseHead.space, {"pooling": pooling}, "dense"), LAYOUT).map for pooling in POOLINGS]
    assert views.rowwise(maps[0]) is problem.features
    first = views.rowwise(maps[1])
    assert views.rowwise(maps[1]) is first
    views._limit = first.nbytes
    views.rowwise(maps[2])
    again = views.rowwise(maps[1])
    assert again is not first
    np.testing.assert_array_equal(again, first)


def test_what_trials_share_is_bounded_on_large_machines(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, limit in ((1 << 40, 2 << 30), (5 << 30, 1 << 30), (0, 256 << 20)):
        monkeypatch.setattr("ffe.tuning.kernel_cache.free_memory", lambda free=free: free)
        assert KernelCache(problem.features)._limit == limit


def test_standard_and_plain_rows_share_a_view_and_others_do_not(problem: Problem) -> None:
    views = KernelCache(problem.features)
    made = {
        scaling: views.rowwise(DenseHead(complete(DenseHead.space, {"pooling": "avg", "scaling": scaling}, ""), LAYOUT).map)
        for scaling in ("standard", "none", "l2", "sqrt_l2")
    }
    assert made["standard"] is made["none"]
    assert len({id(rows) for rows in made.values()}) == 3


def test_sets_are_grouped_by_what_they_do_to_features(problem: Problem) -> None:
    sets = [{"pooling": "avg", "scaling": "l2", "C": c} for c in (1, 2)] + [{"pooling": "avg", "scaling": "l2", "components": 32}]
    request = ScoreRequest(HEADS["logistic"], problem, KernelCache(problem.features), sets, 1, 0)
    found = [(feature_map.components, positions) for feature_map, positions in request.by_feature_map()]
    assert found == [(None, [0, 1]), (32, [2])]


# what is tried -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "grid", "poolings"),
    [
        (100, (1, 1, 512), ("flat",)),
        (100_000, (1, 1, 40_000), ("flat",)),
        (100, (4, 4, 512), POOLINGS),
        (100, (4, 4, FLAT_FEATURES // 16), POOLINGS),
        (100, (1, 17, FLAT_FEATURES // 16), POOLINGS[1:]),
        (FLAT_VALUES // 8192, (4, 4, 512), POOLINGS),
        (FLAT_VALUES // 8192 + 1, (4, 4, 512), POOLINGS[1:]),
    ],
)
def test_poolings_that_make_sense(rows: int, grid: tuple[int, int, int], poolings: tuple[str, ...]) -> None:
    assert poolings_searched(rows, FeatureLayout.of_shape(grid)) == poolings


@pytest.mark.parametrize("layout", [LAYOUT, FeatureLayout.of_shape((1, 1, 24)), FeatureLayout.of_shape((5, 5, 4096))])
@pytest.mark.parametrize("head", HEADS)
def test_the_first_trials_are_valid_sets_and_begins_with_the_defaults(head: str, layout: FeatureLayout) -> None:
    sets = HEADS[head].first_trials(100, layout)
    assert sets
    for settings in sets:
        complete(HEADS[head].space, settings, head)
    if head != "forest":
        assert sets[0] == {}
        assert [settings["pooling"] for settings in sets[1 : 1 + len(poolings_searched(100, layout))]] == [
            *poolings_searched(100, layout)
        ]


@pytest.mark.parametrize("layout", [LAYOUT, FeatureLayout.of_shape((1, 1, 24))])
@pytest.mark.parametrize("head", HEADS)
def test_where_rows_are_many_fewer_sets_are_tried(
    problem: Problem, fake: FakeEvaluators, head: str, layout: FeatureLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(problem, layout=layout)
    search(small, SearchSpec((head,)))
    few = len(fake.sets)
    fake.calls.clear()
    for module in (svm, searching):
        monkeypatch.setattr(module, "EXACT_ROWS", 29)
    search(small, SearchSpec((head,)))
    assert 1 <= len(fake.sets) <= few
    assert head == "forest" or len(fake.sets) < few
    assert {parameters["pooling"] for parameters in fake.sets} <= set(poolings_searched(30, layout))


def test_flat_rows_of_a_large_grid_are_left_to_the_heads_that_see_kernels() -> None:
    large = FeatureLayout.of_shape((5, 5, 4096))
    assert "flat" not in poolings_searched(100, large)
    tried = {head: {settings.get("pooling") for settings in HEADS[head].first_trials(100, large)} for head in HEADS}
    assert "flat" in tried["svm"]
    assert "flat" in tried["logistic"]
    assert "flat" not in tried["dense"] | tried["forest"]
    beyond = FLAT_BY_KERNEL // (25 * 4096) + 1
    assert all(settings.get("pooling") != "flat" for head in HEADS for settings in HEADS[head].first_trials(beyond, large))


def test_flat_pooling_of_a_large_grid_is_tried_once_and_not_by_the_oracle(
    problem: Problem, fake: FakeEvaluators, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transform, "FLAT_FEATURES", 20)
    search(problem, SearchSpec(("svm", "logistic"), trials=60))
    for head in ("svm", "logistic"):
        sets = [parameters for name, sets, _, _ in fake.calls if name == head for parameters in sets]
        flat = [i for i, parameters in enumerate(sets) if parameters["pooling"] == "flat"]
        assert flat
        assert max(flat) < len(HEADS[head].first_trials(30, LAYOUT))
        assert len(sets) == 60


@pytest.mark.parametrize("head", ["svm", "logistic", "dense"])
def test_the_first_trials_are_the_defaults_in_each_pooling(problem: Problem, fake: FakeEvaluators, head: str) -> None:
    search(problem, SearchSpec((head,), trials=5))
    defaults = complete(HEADS[head].space, {}, head)
    assert fake.sets[:4] == [{**defaults, "pooling": pooling} for pooling in ("avg", "flat", "max", "avgmax")]
    assert len(fake.sets) == 5


def test_a_grid_of_one_cell_is_searched_flat_only(problem: Problem, fake: FakeEvaluators) -> None:
    single = dataclasses.replace(problem, layout=FeatureLayout.of_shape((1, 1, 24)))
    tried = search(single, SearchSpec(("logistic", "svm"), trials=12))
    assert {trial.parameters["pooling"] for trial in tried} == {"flat"}
    assert len(tried) == 24


@pytest.mark.parametrize("oracle", ["bayesian", "random"])
@pytest.mark.parametrize("trials", [1, 3, 50])
def test_every_head_gets_its_trials_and_tries_nothing_twice(
    problem: Problem, fake: FakeEvaluators, trials: int, oracle: str
) -> None:
    spec = SearchSpec(("logistic", "svm", "dense"), trials=trials, oracle=oracle)  # type: ignore[arg-type]
    found = search(problem, spec)
    for head in spec.heads:
        sets = [str(parameters) for name, sets, _, _ in fake.calls if name == head for parameters in sets]
        assert len(sets) == trials == len(set(sets))
    assert len(found) == 3 * trials


def test_without_a_number_each_head_has_its_own(problem: Problem, fake: FakeEvaluators) -> None:
    search(problem, SearchSpec(tuple(HEADS)))
    for head, kind in HEADS.items():
        sets = [parameters for name, sets, _, _ in fake.calls if name == head for parameters in sets]
        first = {str(complete(kind.space, settings, head)) for settings in HEADS[head].first_trials(30, LAYOUT)}
        assert len(sets) == len(first) + kind.further_trials


def test_heads_take_turns_and_report_after_each_batch(problem: Problem, fake: FakeEvaluators) -> None:
    seen: list[SearchProgress] = []
    board = search(problem, SearchSpec(("logistic", "svm"), trials=60), seen.append)
    assert [name for name, *_ in fake.calls][:6] == ["logistic", "svm"] * 3
    assert [progress.done for progress in seen] == np.cumsum([len(sets) for _, sets, _, _ in fake.calls]).tolist()
    assert {(progress.total, progress.budget) for progress in seen} == {(120, None)}
    for progress, (name, sets, _, _) in zip(seen, fake.calls, strict=True):
        assert [(trial.head, trial.parameters) for trial in progress.new] == [(name, parameters) for parameters in sets]
        assert list(progress.trials) == rank(progress.trials)
        assert len(progress.trials) == progress.done
    made = [trial for progress in seen for trial in progress.new]
    assert choose(problem, "accuracy", made) == board
    assert [trial.finished for progress in seen for trial in progress.new] == sorted(t.finished for t in board)


def test_the_very_first_trial_is_told_alone(problem: Problem, fake: FakeEvaluators) -> None:
    """The other trials of its batch follow, and all are those that a whole batch would have."""
    seen: list[SearchProgress] = []
    search(problem, SearchSpec(("svm", "forest")), seen.append)
    assert [(name, len(sets)) for name, sets, _, _ in fake.calls[:3]] == [("svm", 1), ("svm", 11), ("forest", 1)]
    assert [progress.done for progress in seen[:3]] == [1, 12, 13]
    assert [trial.default for trial in seen[0].new] == [True]


def test_the_longest_training_is_that_of_the_search(problem: Problem, fake: FakeEvaluators) -> None:
    search(problem, SearchSpec(("dense",), trials=4, epochs=7))
    assert {parameters["epochs"] for parameters in fake.sets} == {7}


@pytest.mark.parametrize(("fixed", "longest"), [({}, 9), ({"epochs": 4}, 4)])
def test_hyperband_gives_the_epochs_and_goes_through_all_its_rounds(
    problem: Problem, fake: FakeEvaluators, fixed: dict[str, Any], longest: int
) -> None:
    """The trials are as many as it needs, unless their number was said; a fixed number of epochs is the longest training."""
    search(problem, SearchSpec(("dense",), oracle="hyperband", epochs=9, fixed=fixed))
    lengths = [parameters["epochs"] for parameters in fake.sets]
    assert len(lengths) == hyperband_trials(longest)
    assert max(lengths) == longest
    assert min(lengths) == (1 if longest == 9 else 2)
    fake.calls.clear()
    search(problem, SearchSpec(("dense",), oracle="hyperband", epochs=9, trials=4))
    assert len(fake.sets) == 4


def test_heads_without_epochs_are_searched_by_bayes_beside_hyperband(problem: Problem, fake: FakeEvaluators) -> None:
    search(problem, SearchSpec(("logistic",), oracle="hyperband", trials=12))
    by_hyperband = list(fake.sets)
    fake.calls.clear()
    search(problem, SearchSpec(("logistic",), oracle="bayesian", trials=12))
    assert fake.sets == by_hyperband
    assert len(by_hyperband) == 12


# what is fixed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "fixed"),
    [
        ("svm", {"C": "3", "scaling": "l2"}),
        ("svm", {"kernel": "linear"}),
        ("svm", {"kernel": "rbf", "gamma": "0.5"}),
        ("svm", {"pca": True, "components": 32, "pooling": "max"}),
        ("dense", {"first_dense": 8}),
        ("dense", {"first_dense": 64, "extra_dense_layer": True}),
        ("dense", {"l2": 0.1, "batch_size": 8, "patience": 0, "epochs": 3, "trainer": "keras"}),
        ("forest", {"trees": 400}),
    ],
)
@pytest.mark.parametrize("oracle", ["bayesian", "random", "hyperband"])
def test_what_is_fixed_is_not_searched(
    problem: Problem, fake: FakeEvaluators, head: str, fixed: dict[str, Any], oracle: str
) -> None:
    search(problem, SearchSpec((head,), trials=25, epochs=9, fixed=fixed, oracle=oracle))  # type: ignore[arg-type]
    wanted = complete(HEADS[head].space, fixed, head, fill=False)
    if oracle == "hyperband":
        wanted.pop("epochs", None)
    for parameters in fake.sets:
        assert {name: parameters[name] for name in wanted} == wanted
        assert complete(HEADS[head].space, parameters, head) == parameters
    sets = [str(parameters) for parameters in fake.sets]
    assert len(set(sets)) == len(sets) >= 6


@pytest.mark.parametrize(
    ("head", "name", "value", "parent", "wanted"),
    [("svm", "gamma", 0.5, "kernel", ("rbf",)), ("dense", "extra_dense_layer", True, "first_dense", (32, 64))],
)
def test_what_is_fixed_under_a_condition_is_there_where_the_condition_holds(
    problem: Problem, fake: FakeEvaluators, head: str, name: str, value: Any, parent: str, wanted: tuple[Any, ...]
) -> None:
    """The parameter that it depends on is searched all the same."""
    search(problem, SearchSpec((head,), trials=40, fixed={name: value}))
    assert len(fake.sets) == 40
    for parameters in fake.sets:
        assert (name in parameters) == (parameters[parent] in wanted)
        assert parameters.get(name, value) == value
        assert ("extra_dense" in parameters) == (head == "dense" and parameters["first_dense"] in (32, 64))
    assert len({parameters[parent] for parameters in fake.sets}) > 1


def test_what_one_head_has_is_fixed_for_it_alone(problem: Problem, fake: FakeEvaluators) -> None:
    search(problem, SearchSpec(("svm", "forest"), trials=3, fixed={"C": 2.0}))
    assert {parameters.get("C") for parameters in fake.sets} == {2.0, None}


@pytest.mark.parametrize("oracle", ["bayesian", "hyperband"])
def test_a_head_with_nothing_left_to_search_is_tried_once(problem: Problem, fake: FakeEvaluators, oracle: str) -> None:
    everything = {p.name: p.default for p in DenseHead.space if p.searched and p.when is None}
    fixed = {**everything, "first_dense": 8}
    for options in ({}, {"trials": 9}, {"seconds": 100.0}):
        fake.calls.clear()
        search(problem, SearchSpec(("dense",), fixed=fixed, oracle=oracle, epochs=3, **options))  # type: ignore[arg-type]
        assert fake.sets == [complete(DenseHead.space, {**fixed, "epochs": 3}, "dense")]


@pytest.mark.parametrize(
    ("fixed", "sentence"),
    [
        ({"C": "much"}, "The parameter 'C' cannot be 'much'"),
        ({"kernel": "linear", "gamma": 1}, "'gamma' of the head 'svm' exists only where 'kernel' is rbf"),
        ({"components": 32}, "'components' of the head 'logistic' exists only where 'pca' is True"),
    ],
)
def test_a_fixed_value_that_does_not_fit_is_refused_before_anything_is_fitted(
    problem: Problem, fake: FakeEvaluators, fixed: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(HeadError, match=sentence):
        search(problem, SearchSpec(("logistic", "svm"), trials=3, fixed=fixed))
    assert fake.calls == []


# time --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(fake: FakeEvaluators, monkeypatch: pytest.MonkeyPatch) -> FakeEvaluators:
    """The evaluators, and a clock for the search that they alone move on."""
    monkeypatch.setattr(searching, "time", fake)
    return fake


@pytest.mark.parametrize(("budget", "each"), [(60.0, 1.0), (60.0, 0.25), (1000.0, 7.0)])
def test_a_search_by_time_stops_in_time(problem: Problem, clock: FakeEvaluators, budget: float, each: float) -> None:
    clock.seconds = each
    seen: list[SearchProgress] = []
    found = search(problem, SearchSpec(("svm", "dense"), seconds=budget), seen.append)
    spent = clock.clock - 1000
    assert spent <= budget + each
    assert spent > 0.8 * budget
    assert len(found) == spent / each
    assert all(progress.total is None and progress.budget == budget for progress in seen)
    assert {trial.head for trial in found} == {"svm", "dense"}
    assert max(trial.finished for trial in found) == spent


def test_the_smallest_budget_makes_one_trial(problem: Problem, clock: FakeEvaluators) -> None:
    clock.seconds = 50.0
    found = search(problem, SearchSpec(("svm", "dense", "forest"), seconds=0.001))
    assert [trial.head for trial in found] == ["svm"]


def test_a_head_that_costs_too_much_leaves_time_to_the_others(problem: Problem, clock: FakeEvaluators) -> None:
    plain = SCORERS["dense"]

    def slow(request: ScoreRequest) -> list[Outcome]:
        clock.clock += 40
        return plain(request)

    SCORERS["dense"] = slow  # undone with the fixture
    search(problem, SearchSpec(("dense", "svm"), seconds=60))
    counts = {head: sum(len(sets) for name, sets, _, _ in clock.calls if name == head) for head in ("dense", "svm")}
    assert counts["dense"] == 1
    assert counts["svm"] > 10


def test_what_comes_after_a_search_is_kept_free(problem: Problem, clock: FakeEvaluators) -> None:
    search(problem, SearchSpec(("svm", "dense"), seconds=60.0), afterwards=lambda best: 20.0)
    assert 0.8 * 40 < clock.clock - 1000 <= 41


def test_a_head_that_would_not_fit_is_not_begun(problem: Problem, clock: FakeEvaluators) -> None:
    found = search(problem, SearchSpec(("svm", "dense"), seconds=60.0), expected={"svm": 100.0, "dense": 100.0})
    assert {trial.head for trial in found} == {"svm"}  # one is always tried


def test_trials_that_take_longer_and_longer_end_near_the_time(problem: Problem, clock: FakeEvaluators) -> None:
    plain = SCORERS["svm"]

    def slower(request: ScoreRequest) -> list[Outcome]:
        clock.seconds *= 2
        return plain(request)

    SCORERS["svm"] = slower  # undone with the fixture
    search(problem, SearchSpec(("svm",), seconds=200.0))
    assert clock.clock - 1000 <= 200


def test_time_and_number_together_end_at_what_comes_first(problem: Problem, clock: FakeEvaluators) -> None:
    assert len(search(problem, SearchSpec(("svm",), seconds=1000, trials=20))) == 20
    assert len(search(problem, SearchSpec(("svm",), seconds=10, trials=20))) <= 11


def test_a_search_by_time_goes_through_the_batches_of_its_seed(problem: Problem, clock: FakeEvaluators) -> None:
    runs = []
    for budget in (25.0, 100.0):
        clock.calls.clear()
        search(problem, SearchSpec(("svm",), seconds=budget, seed=3))
        runs.append(clock.sets)
    assert runs[1][: len(runs[0]) // 2] == runs[0][: len(runs[0]) // 2]
    assert len(runs[1]) > 2 * len(runs[0])


# scores ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ROW_SCORES)
def test_a_score_is_the_mean_over_the_folds(problem: Problem, metric: str) -> None:
    spec = SearchSpec(("logistic",), metric=metric)  # type: ignore[arg-type]
    trial = score_once(problem, spec, "logistic", {"C": "0.01"})
    scores = []
    for fit, score in problem.parts:
        head = HEADS["logistic"](trial.parameters, LAYOUT).fit(problem.features[fit], problem.labels[fit], 2)
        scores.append(mean_score(metric, head.predict_proba(problem.features[score]), problem.labels[score]))
    assert trial.score == pytest.approx(np.mean(scores), abs=1e-6)
    assert trial.spread == pytest.approx(np.std(scores), abs=1e-6)
    assert trial.parameters == {"pooling": "avg", "scaling": "sqrt_l2", "pca": False, "C": 0.01}
    assert trial.size == 4 * 4 + 8
    assert trial.head == "logistic"
    assert trial.fit_seconds > 0


def test_one_set_scores_as_it_does_in_a_search(problem: Problem) -> None:
    spec = SearchSpec(("svm", "dense"), trials=6, epochs=4, executions=2)
    for trial in search(problem, spec)[::3]:
        asked = {**trial.parameters, "epochs": 4} if trial.head == "dense" else trial.parameters
        again = score_once(problem, spec, trial.head, asked)
        assert again.score == pytest.approx(trial.score, abs=1e-9)
        assert again.parameters == trial.parameters
        assert again.size == trial.size


def test_parts_of_different_sizes_count_alike(problem: Problem, fake: FakeEvaluators) -> None:
    """A score is a mean of the parts' scores, as in scikit-learn, not of rows."""
    rows = np.arange(30)
    uneven = dataclasses.replace(problem, parts=[(rows[20:], rows[:20]), (rows[:20], rows[20:])])
    trial = score_once(uneven, SearchSpec(("svm",)), "svm", {})
    right = trial.probabilities.argmax(axis=1) == uneven.labels[uneven.scored]
    assert trial.score == pytest.approx((right[:20].mean() + right[20:].mean()) / 2)


def test_executions_are_averaged_for_random_heads_alone(problem: Problem, fake: FakeEvaluators) -> None:
    spec = SearchSpec(tuple(HEADS), executions=3, seed=4)
    trials = {head: score_once(problem, spec, head, {}) for head in HEADS}
    assert {head: (executions, seed) for head, _, executions, seed in fake.calls} == {
        head: (3 if head in {"dense", "forest"} else 1, 4) for head in HEADS
    }
    runs = score_sets("forest", problem, [trials["forest"].parameters], 3, 4)[0].runs
    labels = problem.labels[problem.scored]
    scores = [(run[part].argmax(1) == labels[part]).mean() for run in runs for part in np.split(np.arange(30), 3)]
    assert trials["forest"].score == pytest.approx(np.mean(scores))
    assert trials["forest"].spread == pytest.approx(np.std(scores))
    np.testing.assert_array_equal(trials["forest"].probabilities, runs[0])


def test_one_part_and_one_execution_have_no_spread(problem: Problem) -> None:
    alone = dataclasses.replace(problem, parts=problem.parts[:1])
    assert score_once(alone, SearchSpec(("logistic",)), "logistic", {}).spread is None


@pytest.mark.portable
def test_the_same_seed_gives_the_same_leaderboard(problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all four heads, fitted for real; and no file is written."""
    monkeypatch.chdir(tmp_path)
    boards = []
    for seed in (4, 4, 5):
        board = search(problem, SearchSpec(("svm", "logistic", "dense"), trials=9, seed=seed, epochs=5))
        forest = search(problem, SearchSpec(("forest",), trials=1, seed=seed, fixed={"trees": 100}))
        boards.append(rank([*board, *forest]))
    assert _comparable(boards[0]) == _comparable(boards[1])
    for a, b in zip(boards[0], boards[1], strict=True):
        np.testing.assert_array_equal(a.probabilities, b.probabilities)
    assert _comparable(boards[2]) != _comparable(boards[0])
    assert list(tmp_path.iterdir()) == []


def test_a_trial_becomes_json(problem: Problem) -> None:
    content = score_once(problem, SearchSpec(("dense",)), "dense", {"epochs": 3}).to_json()
    assert set(content) == {
        "head",
        "parameters",
        "score",
        "spread",
        "fit_seconds",
        "size",
        "finished",
        "default",
        "tied",
        "log_loss",
    }


# ranks -------------------------------------------------------------------------------------------------------------------


def _trial(head: str, score: float, size: int, **parameters: Any) -> Trial:
    return Trial(head, parameters, score, None, 1.0, size)


@pytest.mark.portable
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


def test_the_best_trial_of_each_head() -> None:
    trials = rank([_trial("svm", 0.9, 5), _trial("svm", 0.8, 1), _trial("dense", 0.85, 5), _trial("dense", 0.85, 4)])
    assert [(t.head, t.score, t.size) for t in best_of_each_head(trials)] == [("svm", 0.9, 5), ("dense", 0.85, 4)]


# the refit ---------------------------------------------------------------------------------------------------------------


def test_the_refit_takes_all_training_rows_and_no_others(problem: Problem) -> None:
    weighted = dataclasses.replace(problem, train=np.arange(20), class_weights=np.asarray([1.0, 3.0]))
    parameters = complete(DenseHead.space, {"epochs": 3, "pooling": "max"}, "dense")
    head = refit(weighted, Trial("dense", parameters, 0.5, None, 1.0, 1), 9)
    expected = DenseHead(parameters, LAYOUT).fit(
        problem.features[:20], problem.labels[:20], 2, seed=9, class_weights=np.asarray([1.0, 3.0])
    )
    assert head.arrays().keys() == expected.arrays().keys()
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(head.arrays()[name], array, err_msg=name)


def test_the_epoch_that_a_search_found_is_that_of_the_refit(problem: Problem) -> None:
    trial = score_once(problem, SearchSpec(("dense",)), "dense", {"epochs": 40, "learning_rate": 0.05, "patience": 2})
    assert trial.parameters["epochs"] < 40
    assert trial.parameters["epochs"] == 1 + int(np.argmin(trial.curves["valid_loss"]))
    assert refit(problem, trial, 0).parameters == trial.parameters


def test_an_ensemble_is_refitted_by_its_members(problem: Problem) -> None:
    members = [
        {"head": head, "parameters": complete(HEADS[head].space, {"pooling": "max"}, head), "temperature": 2.0}
        for head in ("svm", "logistic")
    ]
    head = refit(problem, Trial("ensemble", {"members": members}, 0.5, None, 1.0, 1), 0)
    assert isinstance(head, EnsembleHead)
    expected = EnsembleHead({"members": members}, LAYOUT).fit(problem.features, problem.labels, 2)
    np.testing.assert_array_equal(head.predict_proba(problem.features), expected.predict_proba(problem.features))


# errors ------------------------------------------------------------------------------------------------------------------


def test_an_unknown_head_is_refused(problem: Problem, fake: FakeEvaluators) -> None:
    sentence = r"^There is no head 'tree'; choose from svm, logistic, dense, forest\.$"
    with pytest.raises(HeadError, match=sentence):
        search(problem, SearchSpec(("svm", "tree")))
    with pytest.raises(HeadError, match=sentence):
        score_once(problem, SearchSpec(("svm",)), "tree", {})
    assert fake.calls == []


def test_an_unknown_parameter_is_refused(problem: Problem, fake: FakeEvaluators) -> None:
    with pytest.raises(HeadError, match="The head 'forest' has no parameter 'C'; it has pooling, trees"):
        score_once(problem, SearchSpec(("forest",)), "forest", {"C": 1})
    assert fake.calls == []


def test_an_error_of_a_head_comes_out_unchanged(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("the head broke")

    def broken(*arguments: Any) -> list[Outcome]:
        raise error

    monkeypatch.setitem(SCORERS, "svm", broken)
    with pytest.raises(RuntimeError) as caught:
        search(problem, SearchSpec(("svm",), trials=3))
    assert caught.value is error
