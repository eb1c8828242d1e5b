"""Which engine and batches are the fastest: measured once, on machines that are only told of, and remembered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_network import SIZE, model

from ffe.base.system import cores
from ffe.engines import fastest
from ffe.engines.base import Engine
from ffe.engines.fastest import USUAL, Choice, choice, opened, remembered, winner
from ffe.engines.openvino import OpenVinoEngine

KEY = "0" * 32


class Machine:
    """Images a second of each way, and how it was asked."""

    def __init__(self, **rates: float) -> None:
        self.rates = {Choice(*_way(name)): rate for name, rate in rates.items()}
        self.asked: list[Choice] = []

    def run_for(self, engine: Engine, pixels: np.ndarray, seconds: float) -> tuple[int, float, float]:
        way = Choice(engine.name, engine.batch_size)
        assert pixels.shape[1:3] == SIZE
        self.asked.append(way)
        return 60, 60 / self.rates[way], 60 * cores() / self.rates[way]


def _way(name: str) -> tuple[str, int]:
    engine, _, size = name.partition("_")
    return engine, int(size)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({"openvino_2": 100, "openvino_4": 98, "openvino_8": 98, "openvino_16": 97, "winograd_12": 102}, USUAL),
        ({"openvino_2": 104, "openvino_4": 101, "openvino_8": 100, "winograd_12": 80}, Choice("openvino", 2)),
        ({"openvino_2": 104, "openvino_4": 101, "openvino_8": 100, "winograd_12": 110}, Choice("winograd", 12)),
        ({"openvino_2": 80, "openvino_4": 90, "openvino_8": 100, "openvino_16": 104, "winograd_12": 100}, Choice("openvino", 16)),
    ],
)
def test_auto_measures_once_and_remembers(
    cache: Path, monkeypatch: pytest.MonkeyPatch, rates: dict[str, float], chosen: Choice
) -> None:
    monkeypatch.setattr(fastest, "cores", lambda: 2)
    machine = Machine(**rates)
    monkeypatch.setattr(fastest, "run_for", machine.run_for)
    for images in (0, 199):  # too few to wait for it
        assert choice(KEY, model(), images) == USUAL
    assert machine.asked == []
    assert choice(KEY, model(), 10_000) == chosen
    assert sorted(machine.asked) == sorted([*machine.rates] * 3)
    assert choice(KEY, model(), 10_000) == choice(KEY, model()) == chosen
    assert len(machine.asked) == 3 * len(rates)
    assert remembered(KEY) == machine.rates
    assert choice(KEY, model(), engine="winograd") == Choice("winograd", 12)
    assert choice(KEY, model(), engine="openvino") == (chosen if chosen.engine == "openvino" else Choice("openvino", 2))
    engine = opened(chosen, model(), 3)
    assert (engine.name, engine.batch_size) == (chosen.engine, 3)  # what the user names is taken


def test_the_best_of_three_rounds_counts(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program may slow down one round of one way: a slow backbone is measured as often as a quick one."""
    monkeypatch.setattr(fastest, "cores", lambda: 2)
    machine = Machine(openvino_2=12, openvino_4=12, winograd_12=17)

    def disturbed(engine: Engine, pixels: np.ndarray, seconds: float) -> tuple[int, float, float]:
        count, took, busy = machine.run_for(engine, pixels, seconds)
        return count, took, busy * (1.5 if len(machine.asked) < 5 else 1.0)

    monkeypatch.setattr(fastest, "run_for", disturbed)
    assert choice(KEY, model(), 10**6) == Choice("winograd", 12)
    assert machine.asked == list(machine.rates) * 3
    assert remembered(KEY) == pytest.approx(machine.rates, abs=0.01)


def test_what_was_measured_of_networks_written_otherwise_is_measured_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(openvino_2=12, openvino_4=12, winograd_12=17)
    monkeypatch.setattr(fastest, "cores", lambda: 2)
    monkeypatch.setattr(fastest, "run_for", machine.run_for)
    assert choice(KEY, model(), 10**6) == Choice("winograd", 12)
    monkeypatch.setattr(fastest, "VERSION", fastest.VERSION + 1)
    assert remembered(KEY) == {}
    machine.rates[Choice("winograd", 12)] = 10
    assert choice(KEY, model(), 10**6) == choice(KEY, model()) == Choice("openvino", 2)


def test_what_is_soon_done_is_looked_at_once_and_not_measured(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(openvino_2=100)
    monkeypatch.setattr(fastest, "run_for", machine.run_for)
    for _ in range(2):
        assert choice(KEY, model(), 1999) == USUAL
    assert machine.asked == [Choice("openvino", 2)]


def test_long_calls_are_not_tried(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "cores", lambda: 2)
    machine = Machine(openvino_2=10, openvino_4=9.5, winograd_12=10)
    monkeypatch.setattr(fastest, "run_for", machine.run_for)
    assert choice(KEY, model(), 300) == Choice("openvino", 2)


def test_a_model_that_is_sent_says_what_it_runs_on(cache: Path) -> None:
    sent = replace(model(), record={fastest.RUNS_ON: ("winograd", 4)})
    assert choice(KEY, sent, 10**6) == Choice("winograd", 4)
    assert choice(KEY, sent, engine="openvino") == winner({}) == USUAL


def test_batches_do_not_change_a_bit() -> None:
    """What allows each machine of a cluster, and each run, its own batches."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, *SIZE, 3), np.uint8)
    rows = {n: np.concatenate([OpenVinoEngine(model(), n).extract(pixels[i : i + n]) for i in range(0, 8, n)]) for n in (2, 4, 8)}
    for found in rows.values():
        np.testing.assert_array_equal(found, rows[8])
