"""Dense heads side by side: when a set stops, what it is scored by, and that its neighbours do not matter."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout
from ffe.heads.dense import DenseHead
from ffe.heads.search_space import complete
from ffe.testing.head import separable_rows
from ffe.tuning import score_dense
from ffe.tuning.problem import Outcome, Problem, fold_parts
from ffe.tuning.search import score_sets

LAYOUT = FeatureLayout.of_shape((2, 3, 4))


def _problem(classes: int = 2, parts: int = 3, noise: float = 1.5) -> Problem:
    features, labels = separable_rows(classes, 60 // classes)
    features = features + np.random.default_rng(0).normal(0, noise, features.shape).astype(np.float32)
    train = np.arange(60)
    return Problem(features, labels, train, fold_parts(train, train % parts), classes, LAYOUT)


def _set(**settings: Any) -> dict[str, Any]:
    return complete(DenseHead.space, {"learning_rate": 0.01, "batch_size": 16, "first_dense": 8, **settings}, "dense")


def _outcomes(problem: Problem, *sets: dict[str, Any], executions: int = 1, seed: int = 0) -> list[Outcome]:
    return score_sets("dense", problem, sets, executions, seed)


def test_a_set_stops_when_the_loss_has_not_fallen_for_its_patience() -> None:
    """The curve of the scored rows tells it; the best epoch is one for all parts, and its probabilities are the outcome's."""
    problem = _problem(3)
    labels = problem.labels[problem.scored]
    stopped = 0
    for patience in (1, 3):
        outcome = _outcomes(problem, _set(epochs=60, patience=patience, learning_rate=0.05))[0]
        losses = outcome.curves["valid_loss"]
        best = outcome.found["epochs"]
        assert isinstance(best, int)
        assert losses[best - 1] == min(losses)
        assert len(losses) == min(60, best + patience)
        stopped += len(losses) < 60
        probabilities = outcome.runs[0]
        assert -np.log(probabilities[np.arange(60), labels]).mean() == pytest.approx(min(losses), rel=1e-4)
        assert (probabilities.argmax(axis=1) == labels).mean() == pytest.approx(outcome.curves["valid_accuracy"][best - 1])
        assert all(len(curve) == len(losses) for curve in outcome.curves.values())
        assert set(outcome.curves) == {"train_loss", "valid_loss", "train_accuracy", "valid_accuracy"}
    assert stopped == 2


def test_where_scored_rows_contradict_the_others_the_first_epoch_is_the_best() -> None:
    features, labels = separable_rows(2, 30)
    labels = labels.copy()
    parts = [(np.arange(40), np.arange(40, 60))]
    labels[40:] = 1 - labels[40:]
    problem = Problem(features, labels, np.arange(40), parts, 2, LAYOUT)
    outcome = _outcomes(problem, _set(epochs=30, patience=4))[0]
    assert outcome.found == {"epochs": 1}
    assert len(outcome.curves["valid_loss"]) == 5
    assert outcome.curves["train_loss"][-1] < outcome.curves["train_loss"][0]


def test_patience_0_trains_all_epochs() -> None:
    outcome = _outcomes(_problem(noise=4), _set(epochs=25, patience=0, learning_rate=0.1))[0]
    losses = outcome.curves["valid_loss"]
    assert len(losses) == 25
    assert outcome.found["epochs"] == 25 - int(np.argmin(losses[::-1]))
    assert outcome.found["epochs"] < 20, "it would have gone on anyway"


def test_neighbours_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets that train together, stop at different epochs and need different maps, batches and widths, are as alone."""
    sets = [
        _set(epochs=12, patience=2),
        _set(epochs=30, patience=3, learning_rate=0.05),
        _set(epochs=30, patience=1, batch_size=8),
        _set(epochs=4, first_dense=64, extra_dense_layer=True, extra_dense=8),
        _set(epochs=9, scaling="sqrt_l2", first_dense=32),
        _set(epochs=9, pooling="flat", pca=True, components=32),
        _set(epochs=7, pooling="max", scaling="none", l2=0.01),
    ]
    problem = _problem(3)
    together = _outcomes(problem, *sets, executions=2)
    assert len({outcome.found["epochs"] for outcome in together}) > 2
    monkeypatch.setattr(score_dense, "_WIDEST", 1)  # a group for every network
    apart = _outcomes(problem, *sets, executions=2)
    for i, parameters in enumerate(sets):
        alone = _outcomes(problem, parameters, executions=2)[0]
        for other in (alone, apart[i]):
            assert together[i].found == other.found
            assert together[i].size == other.size
            np.testing.assert_allclose(together[i].runs, other.runs, atol=1e-5)
            np.testing.assert_allclose(together[i].curves["valid_loss"], other.curves["valid_loss"], rtol=1e-5)


def test_groups_are_no_wider_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_dense, "_WIDEST", 70)
    networks = [score_dense.network_of(_set(first_dense=units), 2) for units in (64, 4, 4, 64, 32, 32, 8)]
    assigned = list(score_dense._in_widths(range(7), networks))
    assert assigned == [[0, 1], [2, 3], [4, 5], [6]]


@pytest.mark.parametrize("trainer", ["together", "keras"])
def test_executions_begin_from_seeds_of_their_own(trainer: str) -> None:
    """After one epoch each run is that of a search from its seed; the loss that decides is their mean."""
    problem, parameters = _problem(parts=2), _set(epochs=1, trainer=trainer)
    problem = dataclasses.replace(problem, parts=problem.parts[:1])
    both = _outcomes(problem, parameters, executions=2, seed=7)[0]
    for run, seed in zip(both.runs, (7, 8), strict=True):
        np.testing.assert_allclose(run, _outcomes(problem, parameters, seed=seed)[0].runs[0], atol=1e-6)
    assert np.abs(both.runs[0] - both.runs[1]).max() > 1e-3
    losses = [-np.log(run[np.arange(30), problem.labels[problem.scored]]).mean() for run in both.runs]
    assert both.curves["valid_loss"][0] == pytest.approx(np.mean(losses), rel=1e-5)


def test_class_weights_count_in_training_and_not_in_the_score() -> None:
    problem = _problem()
    weighted = dataclasses.replace(problem, class_weights=np.asarray([1.0, 8.0]))
    plain, shifted = (_outcomes(p, _set(epochs=5, patience=0))[0] for p in (problem, weighted))
    assert shifted.runs[0][:, 1].mean() > plain.runs[0][:, 1].mean() + 0.1
    labels = problem.labels[problem.scored]
    loss = -np.log(shifted.runs[0][np.arange(60), labels]).mean()
    assert loss == pytest.approx(min(shifted.curves["valid_loss"]), rel=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_keras_stops_where_batched_networks_stop(classes: int) -> None:
    """Without dropout the two trainers give the same curve, epoch and probabilities, within 1e-4; mixed in one call, too."""
    problem = _problem(classes, parts=2)
    problem = dataclasses.replace(problem, parts=problem.parts[: 4 - classes])
    same = {"dropout_rate": 0.0, "epochs": 5, "patience": 2, "learning_rate": 0.05}
    batched, keras, other = _outcomes(problem, _set(**same), _set(**same, trainer="keras"), _set(epochs=2))
    assert keras.found == batched.found
    assert keras.size == batched.size
    assert len(keras.curves["valid_loss"]) == len(batched.curves["valid_loss"])
    np.testing.assert_allclose(keras.curves["valid_loss"], batched.curves["valid_loss"], rtol=1e-4)
    np.testing.assert_allclose(keras.runs[0], batched.runs[0], atol=1e-4)
    assert len(other.curves["valid_loss"]) == 2


def test_rows_that_diverge_still_give_probabilities() -> None:
    """Features in the thousands, as they are, and the fastest rate: whatever comes of it is finite."""
    problem = _problem(3)
    wild = dataclasses.replace(problem, features=problem.features * 1e4)
    outcome = _outcomes(wild, _set(scaling="none", pooling="flat", learning_rate=0.1, epochs=5))[0]
    assert np.isfinite(outcome.runs[0]).all()
    np.testing.assert_allclose(outcome.runs[0].sum(axis=1), 1, atol=1e-5)
    assert outcome.found["epochs"] >= 1
