"""What a search is said to take grows with what it has to do."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout
from ffe.heads import HEADS
from ffe.specs import SearchSpec
from ffe.tuning import cost
from ffe.tuning.cost import Cost, estimate
from ffe.tuning.problem import Problem, fold_parts


@pytest.fixture(autouse=True)
def a_machine_that_does_not_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "_rate", lambda: 2e10)
    monkeypatch.setattr(cost, "cores", lambda: 2)


def _estimate(rows: int, spec: SearchSpec, *, channels: int = 512, classes: int = 2, parts: int = 5) -> Cost:
    features = np.broadcast_to(np.zeros((), np.float32), (rows, 4 * channels))  # takes no memory
    train = np.arange(rows)
    folds, layout = fold_parts(train, train % parts), FeatureLayout.of_shape((2, 2, channels))
    return estimate(Problem(features, train % classes, train, folds, classes, layout), spec)


@pytest.mark.parametrize("head", HEADS)
def test_more_rows_take_longer(head: str) -> None:
    spec = SearchSpec((head,), trials=10)
    estimates = [_estimate(rows, spec) for rows in (50, 500, 5_000)]
    seconds = [found.seconds for found in estimates]
    assert 0 < seconds[0] < seconds[1] < seconds[2]
    assert seconds[2] > 10 * seconds[1] / 2
    assert all(found.trials == 10 for found in estimates)
    assert 0 < estimates[0].bytes < estimates[1].bytes < estimates[2].bytes


@pytest.mark.parametrize("head", HEADS)
def test_it_is_a_number_above_the_limit_of_exact_kernels_too(head: str) -> None:
    found = _estimate(50_000, SearchSpec((head,)), channels=64)
    assert np.isfinite(found.seconds)
    assert found.seconds > 0
    assert found.bytes < 10 << 30, "no Gram matrix of all rows is computed there"


@pytest.mark.parametrize("head", HEADS)
def test_more_trials_folds_and_features_take_longer(head: str) -> None:
    spec = SearchSpec((head,), trials=10)
    plain = _estimate(400, spec).seconds
    assert _estimate(400, dataclasses.replace(spec, trials=20)).seconds == pytest.approx(2 * plain)
    assert _estimate(400, spec, parts=10).seconds > 1.5 * plain
    assert _estimate(400, spec, channels=2048).seconds >= plain * (1 if head == "logistic" else 1.01)


def test_all_heads_take_as_long_as_each() -> None:
    each = [_estimate(400, SearchSpec((head,))) for head in HEADS]
    together = _estimate(400, SearchSpec(tuple(HEADS)))
    assert together.seconds == pytest.approx(sum(found.seconds for found in each))
    assert together.trials == sum(found.trials or 0 for found in each)


def test_a_budget_is_the_answer() -> None:
    found = _estimate(400, SearchSpec(("svm",), seconds=90.0))
    assert (found.trials, found.seconds, found.overhead) == (None, 90.0, 0.0)
    both = [_estimate(160, SearchSpec(("logistic",), trials=2, seconds=seconds)) for seconds in (0.5, 1e6)]
    assert [found.trials for found in both] == [2, 2]
    assert both[0].seconds == 0.5
    assert both[1].seconds < 1e5  # trials end it before its time does


@pytest.mark.parametrize("head", HEADS)
def test_the_least_of_every_fit_is_counted_however_few_rows_there_are(head: str) -> None:
    few, more = (_estimate(20, SearchSpec((head,), trials=trials), channels=8) for trials in (60, 80))
    assert more.overhead - few.overhead == pytest.approx(20 * 5 * HEADS[head].least_seconds)
    assert more.overhead - few.overhead >= 1


def test_what_loads_and_compiles_is_counted_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The libraries always, the loops of dense heads until they are kept, and KerasTuner where it proposes something."""
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("ffe.heads.base.Head.least_seconds", 0.0)
    monkeypatch.setattr("ffe.heads.dense.DenseHead.least_seconds", 0.0)

    def overhead(heads: tuple[str, ...], **options: Any) -> float:
        return _estimate(160, SearchSpec(heads, **options)).overhead

    plain = overhead(("logistic",), trials=4)
    assert plain > 1
    assert overhead(("logistic", "svm"), trials=4) == overhead(("logistic",), trials=4, oracle="random") == plain
    assert overhead(("logistic",), trials=40) > plain + 2
    compiling = overhead(("logistic", "dense"), trials=4)
    (tmp_path / "numba" / "heads").mkdir(parents=True)
    (tmp_path / "numba" / "heads" / "mlp_kernels.score-1.py311.nbi").touch()
    assert plain < overhead(("logistic", "dense"), trials=4) < compiling - 5


@pytest.mark.parametrize("pooling", ["flat", "avg", "max", "avgmax"])
def test_a_fixed_pooling_is_counted_by_its_features(pooling: str) -> None:
    spec = SearchSpec(("svm",), trials=10, fixed={"pooling": pooling})
    wide, narrow = (_estimate(2000, SearchSpec(("svm",), trials=10, fixed={"pooling": p})).seconds for p in ("flat", "avg"))
    assert narrow <= _estimate(2000, spec).seconds <= wide
    assert narrow < wide


def test_this_machine_has_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    rate: Any = cost._rate()
    assert 1e7 < rate < 1e14
