"""What KerasTuner is told, and what it does with it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import keras_tuner
import pytest

from ffe.base.helper_process import keras_process
from ffe.heads import HEADS
from ffe.heads.dense import DenseHead
from ffe.heads.search_space import Parameter, active, complete
from ffe.heads.svm import SvmHead
from ffe.specs import Oracle
from ffe.tuning import keras_tuner as oracle
from ffe.tuning.keras_tuner import TrialProposer, declare, hyperband_trials

NUMBERS = (
    Parameter("a", 1.0, low=0.001, high=10.0, log=True),
    Parameter("b", 0.5, low=0.1, high=0.9, step=0.2),
    Parameter("c", "x", ("x", "y", "z")),
)


def _score(values: dict[str, Any]) -> float:
    return -abs(values["a"] - 2) - abs(values["b"] - 0.3) + (values["c"] == "y")


def _tried(
    space: tuple[Parameter, ...],
    trials: int,
    *,
    batch: int = 4,
    score: Callable[[dict[str, Any]], float] = _score,
    **options: Any,
) -> list[dict[str, Any]]:
    """Ask and tell until there is nothing more, or ``trials`` sets; return them."""
    proposer = TrialProposer(space, trials=trials, **options)
    tried: list[dict[str, Any]] = []
    while len(tried) < trials:
        asked = proposer.ask(min(batch, trials - len(tried)))
        if not asked:
            break
        tried += asked
        proposer.tell([score(values) for values in asked])
    return tried


def _different(sets: list[dict[str, Any]]) -> int:
    return len({str(sorted(values.items())) for values in sets})


@pytest.mark.parametrize("name", ["bayesian", "random"])
@pytest.mark.parametrize("batch", [1, 5])
def test_every_set_lies_in_the_space_and_none_comes_twice(name: str, batch: int) -> None:
    tried = _tried(NUMBERS, 15, oracle=name, batch=batch)
    assert len(tried) == 15
    for values in tried:
        assert complete(NUMBERS, values, "head") == values
        assert (values["b"] - 0.1) / 0.2 == pytest.approx(round((values["b"] - 0.1) / 0.2), abs=1e-6)
    assert _different(tried) == 15


@pytest.mark.parametrize("name", get_args(Oracle))
@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_tries_the_same_sets(seed: int, name: str) -> None:
    """Also from the seed 0, which KerasTuner by itself takes for none."""
    first = _tried(NUMBERS, 8, seed=seed, oracle=name, epochs=9)
    assert _tried(NUMBERS, 8, seed=seed, oracle=name, epochs=9) == first
    assert _tried(NUMBERS, 8, seed=seed + 1, oracle=name, epochs=9) != first


def test_the_bayesian_oracle_learns_from_the_scores() -> None:
    """Of its last sets, most lie near the best point of a smooth curve, where random ones rarely do."""
    space = (Parameter("a", 0.5, low=0.0, high=1.0), Parameter("b", 0.5, low=0.0, high=1.0))

    def score(values: dict[str, Any]) -> float:
        return -((values["a"] - 0.8) ** 2) - (values["b"] - 0.2) ** 2

    def near(name: str) -> int:
        tried = _tried(space, 30, oracle=name, batch=3, score=score, seed=2)
        return sum(score(values) > -0.02 for values in tried[-12:])

    assert near("bayesian") >= 4
    assert near("bayesian") > near("random")


def test_the_sets_given_come_first_and_are_told() -> None:
    first = [{"a": 1.0, "b": 0.5, "c": "x"}, {"a": 1.0, "b": 0.5, "c": "z"}]
    assert _tried(NUMBERS, 5, first=first)[:2] == first
    assert _tried(NUMBERS, 5, first=first, batch=1)[:2] == first
    assert _tried(NUMBERS, 1, first=first) == first[:1]
    proposer = TrialProposer(NUMBERS, trials=5, first=first)
    proposer.ask(2)
    proposer.tell([0.25, 0.75])
    proposer.ask(1)
    known = [(trial.hyperparameters.values, trial.score) for trial in proposer._proposals.oracle.trials.values()][:2]
    assert known == [(first[0], 0.25), (first[1], 0.75)]


@pytest.mark.parametrize("name", ["bayesian", "random"])
def test_the_sets_given_are_not_tried_again(name: str) -> None:
    space = (Parameter("c", "x", ("x", "y", "z")), Parameter("d", 1, (1, 2)))
    first = [{"c": "x", "d": 1}, {"c": "z", "d": 2}]
    tried = _tried(space, 20, first=first, oracle=name, score=lambda values: float(values["d"]))
    assert tried[:2] == first
    assert _different(tried) == len(tried) == 6


def test_sets_that_the_oracle_could_not_propose_are_not_told() -> None:
    """Flat pooling of a large grid is tried in the opening, and is no choice of the search."""
    first = [{"a": 1.0, "b": 0.5, "c": "flat"}, {"a": 1.0, "b": 0.5, "c": "z"}]
    proposer = TrialProposer(NUMBERS, trials=6, first=first)
    assert proposer.ask(2) == first
    proposer.tell([0.9, 0.1])
    further = proposer.ask(3)
    assert len(further) == 3
    assert all(values["c"] != "flat" for values in further)
    told = [trial.hyperparameters.values["c"] for trial in proposer._proposals.oracle.trials.values()]
    assert "flat" not in told
    assert told[0] == "z"


@pytest.mark.parametrize("name", ["bayesian", "random"])
@pytest.mark.parametrize("batch", [1, 2, 10])
def test_a_used_up_space_ends_the_search(name: str, batch: int) -> None:
    space = (Parameter("c", "x", ("x", "y", "z")),)
    proposer = TrialProposer(space, oracle=name, trials=20)
    tried: list[dict[str, Any]] = []
    for _ in range(10):
        asked = proposer.ask(batch)
        proposer.tell([1.0] * len(asked))
        tried += asked
    assert sorted(values["c"] for values in tried) == ["x", "y", "z"]
    assert proposer.done
    assert proposer.ask(1) == []


@pytest.mark.parametrize("epochs", [1, 4, 27])
def test_hyperband_trains_the_better_ones_longer_and_ends(epochs: int) -> None:
    tried = _tried(NUMBERS, 1000, oracle="hyperband", epochs=epochs)
    assert 0 < len(tried) <= hyperband_trials(epochs)
    lengths = [values.pop("epochs") for values in tried]
    assert max(lengths) == epochs
    assert min(lengths) >= 1
    assert (min(lengths) < epochs) == (epochs > 1)
    short = [_score(values) for values, length in zip(tried, lengths, strict=True) if length == min(lengths)]
    long = [_score(values) for values, length in zip(tried, lengths, strict=True) if length == epochs]
    if epochs == 27:
        assert sum(long) / len(long) > sum(short) / len(short)
        assert len(short) > len(long)
        assert len(tried) == hyperband_trials(27)


def test_hyperband_is_counted_as_keras_tuner_does() -> None:
    for epochs in range(1, 120):
        its = keras_tuner.oracles.HyperbandOracle(keras_tuner.Objective("score", "max"), max_epochs=epochs)
        brackets = range(its._get_num_brackets())
        wanted = sum(its._get_size(bracket, i) for bracket in brackets for i in range(its._get_num_rounds(bracket)))
        assert hyperband_trials(epochs) == wanted


def test_hyperband_promotes_no_set_that_it_has_not_tried() -> None:
    tried = _tried(NUMBERS, 1000, oracle="hyperband", epochs=9, batch=32)
    seen: dict[str, int] = {}
    for values in tried:
        epochs = values.pop("epochs")
        key = str(sorted(values.items()))
        assert seen.get(key, 0) < epochs, "the same set, trained no longer than before"
        seen[key] = epochs


@pytest.mark.parametrize("name", get_args(Oracle))
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_conditions_hold_for_every_head_and_oracle(head: Any, name: str) -> None:
    """A parameter is in a set just where its condition holds; what is not searched is in none."""
    tried = _tried(head.space, 40, oracle=name, epochs=9, batch=8, score=lambda values: len(values) / 10)
    searched = [p for p in head.space if p.searched]
    for values in tried:
        values.pop("epochs", None)
        assert set(values) == {p.name for p in searched if active(p, values)}
        complete(head.space, values, head.name)
    for parameter in searched:
        if parameter.when is not None:
            assert any(parameter.name in values for values in tried), f"'{parameter.name}' was never tried"
            assert any(parameter.name not in values for values in tried), f"'{parameter.name}' was always there"


@pytest.mark.parametrize("head", [DenseHead, SvmHead])
def test_conditions_hold_inside_keras_tuner(head: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are not active are in no trial of KerasTuner itself, not only hidden by ffe."""
    known_to_tuner: list[dict[str, Any]] = []
    plain = oracle.declare

    def spying(hp: Any, space: Any) -> dict[str, Any]:
        values = plain(hp, space)
        known_to_tuner.append(dict(hp.values))
        return values

    monkeypatch.setattr(oracle, "declare", spying)
    tried = _tried(head.space, 24, score=lambda values: len(values) / 10)
    assert len(tried) == 24
    unsearched = {p.name for p in head.space if not p.searched}
    for values in known_to_tuner[-24:]:
        assert set(values) == set(complete(head.space, values, "head")) - unsearched


def test_the_tuner_knows_the_conditions_of_the_conditions() -> None:
    hp = keras_tuner.HyperParameters()
    hp.values["first_dense"] = 4
    hp.values["extra_dense_layer"] = True  # left over from another set
    values = declare(hp, DenseHead.space)
    assert "extra_dense" not in values
    assert "extra_dense_layer" not in values
    extra = next(parameter for parameter in hp.space if parameter.name == "extra_dense")
    assert [(condition.name, list(condition.values)) for condition in extra.conditions] == [
        ("first_dense", [32, 64]),
        ("extra_dense_layer", [True]),
    ]


def test_narrower_ranges_are_those_that_are_tried() -> None:
    tried = _tried(DenseHead.space, 30, oracle="random", score=lambda values: 0.0)
    rates, dropouts = ([values[name] for values in tried] for name in ("learning_rate", "dropout_rate"))
    assert min(rates) >= 1e-4
    assert max(rates) <= 1e-2
    assert min(dropouts) >= 0.3
    assert max(dropouts) <= 0.8
    assert max(rates) / min(rates) > 10


@pytest.mark.parametrize("name", get_args(Oracle))
def test_it_leaves_no_files_and_prints_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    assert _tried(NUMBERS, 12, oracle=name, epochs=9, first=[{"a": 1.0, "b": 0.5, "c": "x"}])
    assert list(here.iterdir()) == []
    assert list(temporary.iterdir()) == []
    assert capfd.readouterr().out == ""


def test_another_process_proposes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """KerasTuner is loaded there, with Keras on OpenVINO."""
    first = [{"a": 1.0, "b": 0.5, "c": "x"}]
    here = _tried(NUMBERS, 9, first=first)
    monkeypatch.delitem(sys.modules, "keras")
    assert _tried(NUMBERS, 9, first=first) == here
    process = keras_process()
    assert process is not None
    try:
        assert process.call(_loaded) == ["keras", "keras_tuner", "openvino"]
    finally:
        process.close()


def _loaded() -> list[str]:
    import keras

    return [*(name for name in ("keras", "keras_tuner", "tensorflow") if name in sys.modules), keras.config.backend()]
