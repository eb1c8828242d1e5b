"""Searches whose training rows are views too: what each head takes, and that no view of a scored image is among it."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout
from ffe.heads import HEADS, nystroem, svm
from ffe.heads.mlp import Orders
from ffe.heads.search_space import complete
from ffe.specs import SearchSpec
from ffe.tuning import score_svm
from ffe.tuning.cost import estimate
from ffe.tuning.kernel_cache import KernelCache
from ffe.tuning.problem import Problem, fold_parts
from ffe.tuning.score_any import fit_each
from ffe.tuning.scoring import ScoreRequest
from ffe.tuning.search import mean_accuracy, refit, score_once, score_sets

LAYOUT = FeatureLayout.of_shape((1, 2, 20))
VIEWS = 3
FEW = {"dense": {"epochs": 4, "patience": 0, "batch_size": 16}, "forest": {}}


def problem_of(images: int = 60, *, drawn: bool = False, signal: float = 1.0, spare: int = 6) -> Problem:
    """Images that are mostly noise of their own, and three views of each that differ from it a little.

    The last ``spare`` images train for no part, and have no views: as validation rows.
    """
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(images) % 2).astype(np.int64)
    x = rng.gamma(2.0, 1.0, (images, 40))
    x[labels == 1, :8] += signal
    train = np.arange(images - spare)
    image = np.concatenate([np.arange(images), np.repeat(train, VIEWS)])
    x = x[image] + rng.normal(0, np.where(np.arange(len(image)) < images, 0.0, 0.3)[:, None], (len(image), 40))
    whole = Problem(x.astype(np.float32), labels[image], train, [], 2, LAYOUT, np.asarray([0.8, 1.3]), image, drawn)
    parts = [(whole.with_views(fit), score) for fit, score in fold_parts(train, train % 3)]
    return dataclasses.replace(whole, train=whole.with_views(train), parts=parts)


def sets_of(head: str, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one complete set of parameters; forests are small."""
    parameters = complete(HEADS[head].space, settings, head)
    return [{**parameters, "trees": 20} if head == "forest" else parameters]


# the rows ----------------------------------------------------------------------------------------------------------------


def test_rows_with_their_views_and_without() -> None:
    problem = problem_of(6, spare=2)
    assert problem.image is not None
    assert problem.image.tolist() == [0, 1, 2, 3, 4, 5, *np.repeat([0, 1, 2, 3], 3)]
    rows = problem.with_views(np.asarray([3, 1]))
    assert rows.tolist() == [3, 1, 9, 10, 11, 15, 16, 17]
    assert problem.plain(rows).tolist() == [3, 1]
    assert problem.with_views(np.asarray([5])).tolist() == [5]
    assert problem.fit_data(rows, 0).images is None
    drawn = dataclasses.replace(problem, drawn=True).fit_data(rows, 0).images
    assert drawn is not None
    assert drawn.tolist() == [3, 1, 1, 1, 1, 3, 3, 3]


def test_a_problem_without_views_is_as_it_was() -> None:
    rows = np.asarray([4, 2])
    plain = Problem(np.zeros((6, 40), np.float32), np.zeros(6, np.int64), np.arange(6), [], 2, LAYOUT)
    assert plain.with_views(rows) is rows
    assert plain.plain(rows) is rows
    assert plain.fit_data(rows, 0).images is None


def test_an_epoch_has_one_row_of_each_image_and_all_rows_have_their_turn() -> None:
    images = np.asarray([7, 3, 7, 3, 7, 5, 3, 3])
    orders = Orders(8, 1, images)
    assert orders.size == 3
    epochs = list(itertools.islice(orders, 60))
    assert all(sorted(images[order]) == [3, 5, 7] for order in epochs)
    assert {tuple(images[order]) for order in epochs} == set(itertools.permutations((3, 5, 7)))
    counts = np.bincount(np.concatenate(epochs), minlength=8)
    assert counts[5] == 60
    assert counts[[0, 2, 4]].min() > 10
    assert counts[[1, 3, 6, 7]].min() > 7
    again = list(itertools.islice(Orders(8, 1, images), 60))
    np.testing.assert_array_equal(epochs, again)
    assert not np.array_equal(epochs, list(itertools.islice(Orders(8, 2, images), 60)))


def test_orders_without_views_are_those_of_before() -> None:
    generator = np.random.default_rng([4, 2])
    for order in itertools.islice(Orders(9, 4), 3):
        np.testing.assert_array_equal(order, generator.permutation(9))


# no leak -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_a_head_never_sees_a_view_of_an_image_that_scores_it(head: str) -> None:
    """Labels say nothing about these images, so only who has seen a view of an image knows its label."""
    problem = problem_of(36, signal=0.0, spare=0)
    training = {"epochs": 60, "patience": 0, "dropout_rate": 0.0, "learning_rate": 0.01}
    own = {"pooling": "flat", **({} if head == "forest" else {"scaling": "none"}), **(training if head == "dense" else {})}

    def accuracy(parts: list[tuple[np.ndarray, np.ndarray]]) -> float:
        some = dataclasses.replace(problem, parts=parts)
        (outcome,) = score_sets(head, some, sets_of(head, own), 1, 0)
        assert outcome.runs[0].shape == (36, 2)
        return mean_accuracy(some, outcome.runs[0])

    assert 0.3 < accuracy(list(problem.parts)) < 0.7
    assert accuracy([(np.setdiff1d(problem.train, score), score) for _, score in problem.parts]) > 0.85


# what the searches share, against fits of each head by itself ------------------------------------------------------------


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    "mapping", [{"scaling": "standard"}, {"pooling": "flat", "scaling": "sqrt_l2"}], ids=["fitted", "shared"]
)
def test_a_search_on_views_comes_to_what_each_head_comes_to(head: str, drawn: bool, mapping: dict[str, Any]) -> None:
    problem, kind = problem_of(drawn=drawn), HEADS[head]
    own = {**({"pooling": mapping.get("pooling", "avg")} if head == "forest" else mapping), **FEW.get(head, {})}
    sets = sets_of(head, own)
    fast = score_sets(head, problem, sets, 1, 3)
    found = [{**sets[0], **fast[0].found}]
    slow = fit_each(ScoreRequest(kind, problem, KernelCache(problem.features), found, 1, 3))
    assert fast[0].runs[0].shape == (54, 2)
    np.testing.assert_allclose(fast[0].runs[0], slow[0].runs[0], atol=2e-3)
    without = [(problem.plain(fit), score) for fit, score in problem.parts]
    undrawn = dataclasses.replace(problem, parts=without, drawn=False)
    plain = fit_each(ScoreRequest(kind, undrawn, KernelCache(problem.features), found, 1, 3))
    assert np.abs(fast[0].runs[0] - plain[0].runs[0]).max() > 1e-3, "the views changed nothing"


def test_above_the_limit_the_machines_on_landmarks_take_views_too(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, kind = problem_of(), HEADS["svm"]
    for module in (svm, score_svm):
        monkeypatch.setattr(module, "EXACT_ROWS", 59)  # a part has 36 images, and with views 144 rows
    monkeypatch.setattr(nystroem, "LANDMARKS", 30)
    sets = [complete(kind.space, {"C": penalty, "gamma": 0.3}, "svm") for penalty in (30.0, 3.0)]
    found = score_sets("svm", problem, sets, 1, 2)
    for ours, theirs in zip(found, fit_each(ScoreRequest(kind, problem, KernelCache(problem.features), sets, 1, 2)), strict=True):
        np.testing.assert_allclose(ours.runs[0], theirs.runs[0], atol=2e-3)


@pytest.mark.parametrize("drawn", [False, True])
def test_the_final_fit_is_on_all_views_or_draws_them(drawn: bool) -> None:
    problem = problem_of(drawn=drawn)
    trial = score_once(problem, SearchSpec(("dense",)), "dense", FEW["dense"])
    head = refit(problem, trial, 3)
    x, labels, images = problem.features[problem.train], problem.labels[problem.train], problem.fit_data(problem.train, 0).images
    assert len(x) == 54 * (1 + VIEWS)
    assert (images is not None) == drawn
    kind = HEADS["dense"](trial.parameters, LAYOUT)
    expected = kind.fit(x, labels, 2, seed=3, class_weights=problem.class_weights, images=images)
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(head.arrays()[name], array)
    other = HEADS["dense"](trial.parameters, LAYOUT).fit(x, labels, 2, seed=3, class_weights=problem.class_weights)
    assert np.array_equal(other.arrays()["kernel0"], head.arrays()["kernel0"]) != drawn


# what it costs -----------------------------------------------------------------------------------------------------------


def test_the_cost_counts_the_rows_of_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.tuning.cost._rate", lambda: 1e9)
    problem = problem_of(600)
    without = Problem(
        problem.features[:600],
        problem.labels[:600],
        problem.plain(problem.train),
        problem.parts,
        2,
        LAYOUT,
        problem.class_weights,
    )
    without = dataclasses.replace(without, parts=[(problem.plain(fit), score) for fit, score in problem.parts])
    for head in HEADS:
        with_views, plain = (estimate(p, SearchSpec((head,), trials=4)) for p in (problem, without))
        assert with_views.seconds > 3 * plain.seconds
        assert with_views.bytes > plain.bytes + 100_000
    drawn = estimate(dataclasses.replace(problem, drawn=True), SearchSpec(("dense",), trials=4))
    assert drawn.seconds == pytest.approx(estimate(without, SearchSpec(("dense",), trials=4)).seconds)
