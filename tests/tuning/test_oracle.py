"""What KerasTuner is told, and what it does with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras_tuner
import pytest
import scipy.optimize
from threadpoolctl import threadpool_limits

from ffe.heads.dense import DenseHead
from ffe.heads.space import Parameter, complete
from ffe.heads.svm import SvmHead
from ffe.tuning import oracle
from ffe.tuning.oracle import declare, search_space

NUMBERS = (
    Parameter("a", 1.0, low=0.001, high=10.0, log=True),
    Parameter("b", 0.5, low=0.1, high=0.9, step=0.2),
    Parameter("c", "x", ("x", "y", "z")),
)


@pytest.fixture(autouse=True)
def quick_oracle(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the oracle take the best of its 50 starting points, without a climb from each: good sets are not the point here."""
    minimize = scipy.optimize.minimize

    def no_climb(fun: Any, x0: Any, **options: Any) -> Any:
        if options.get("jac"):  # scikit-learn, fitting the Gaussian process
            return minimize(fun, x0, **options)
        return scipy.optimize.OptimizeResult(x=x0, fun=float(fun(x0)[0]))

    monkeypatch.setattr(scipy.optimize, "minimize", no_climb)
    with threadpool_limits(1):
        yield


def _score(values: dict[str, Any]) -> float:
    return -abs(values["a"] - 2) - abs(values["b"] - 0.3) + (values["c"] == "y")


def _tried(space: tuple[Parameter, ...], trials: int, seed: int = 0, score: Any = _score, **options: Any) -> list[dict[str, Any]]:
    tried: list[dict[str, Any]] = []

    def evaluate(values: dict[str, Any]) -> float:
        tried.append(values)
        return float(score(values))

    search_space(space, evaluate, trials=trials, seed=seed, **options)
    return tried


def test_every_set_lies_in_the_space() -> None:
    tried = _tried(NUMBERS, 12)
    assert len(tried) == 12
    for values in tried:
        assert complete(NUMBERS, values, "head") == values
        assert (values["b"] - 0.1) % 0.2 == pytest.approx(0, abs=1e-6) or (values["b"] - 0.1) % 0.2 == pytest.approx(0.2)
    assert len({str(values) for values in tried}) == 12


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_tries_the_same_sets(seed: int) -> None:
    """Also from the seed 0, which KerasTuner by itself takes for none."""
    first = _tried(NUMBERS, 8, seed=seed)
    assert _tried(NUMBERS, 8, seed=seed) == first
    assert _tried(NUMBERS, 8, seed=seed + 1) != first


def test_the_sets_given_come_first() -> None:
    first = [{"a": 1.0, "b": 0.5, "c": "x"}, {"a": 1.0, "b": 0.5, "c": "z"}]
    assert _tried(NUMBERS, 5, first=first)[:2] == first
    assert _tried(NUMBERS, 1, first=first) == first[:1]


def test_a_small_space_ends_early() -> None:
    space = (Parameter("c", "x", ("x", "y", "z")),)
    tried = _tried(space, 20, score=lambda values: 1.0)
    assert sorted(values["c"] for values in tried) == ["x", "y", "z"]


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
    searched = tuple(p for p in head.space if p.searched)
    conditional = [p.name for p in searched if p.when is not None]
    for name in conditional:
        assert any(name in values for values in tried), f"'{name}' was never tried"
        assert any(name not in values for values in tried), f"'{name}' was always there"
    for values in [*tried, *known_to_tuner[-24:]]:
        assert set(values) == set(complete(head.space, values, "head")) - {p.name for p in head.space if not p.searched}


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


class _BrokenError(Exception):
    pass


@pytest.mark.parametrize("error", [_BrokenError("no"), ValueError("bad"), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_an_error_of_a_trial_ends_the_search_and_comes_out_unchanged(error: BaseException) -> None:
    calls = 0

    def evaluate(values: dict[str, Any]) -> float:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise error
        return 1.0

    with pytest.raises(type(error)) as caught:
        search_space(NUMBERS, evaluate, trials=5, seed=0)
    assert caught.value is error
    assert calls == 2


def test_it_leaves_no_files_and_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    _tried(NUMBERS, 6)
    assert list(here.iterdir()) == []
    assert list(temporary.iterdir()) == []
    assert capfd.readouterr().out == ""
