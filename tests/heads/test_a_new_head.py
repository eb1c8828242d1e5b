"""A new head is one file: this one, with k nearest neighbours. It is searched, kept, named and asked like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ffe.cli import cli
from ffe.heads import HEADS
from ffe.heads.base import FitData, Head
from ffe.heads.search_space import Parameter
from ffe.heads.transform import POOLING, SCALING, stored
from ffe.predictor import Predictor
from ffe.testing.head import HeadContract


class NearestNeighboursHead(Head):
    """The weighted share of each class among the k nearest rows, by cosine similarity."""

    name: ClassVar[str] = "knn"
    space: ClassVar[tuple[Parameter, ...]] = (POOLING, SCALING, Parameter("k", 5, (1, 3, 5, 9)))

    def fit_rowwise(self, x: np.ndarray, data: FitData) -> Self:
        self._rows = self._unit(self.map.fit_rowwise(x).transform_rowwise(x))
        self._votes = np.eye(data.classes, dtype=np.float32)[data.labels] * data.row_weights[:, None].astype(np.float32)
        return self

    def proba_rowwise(self, x: np.ndarray) -> np.ndarray:
        similar = np.round(self._unit(self.map.transform_rowwise(x)) @ self._rows.T, 5)
        nearest = np.argsort(-similar, axis=1, kind="stable")[:, : self.parameters["k"]]
        votes = self._votes[nearest].sum(axis=1, dtype=np.float64) + 1e-3
        return votes / votes.sum(axis=1, keepdims=True)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"rows": self._rows, "votes": self._votes, **self.map.arrays()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._rows, self._votes = stored(arrays, "rows", 2), stored(arrays, "votes", 2)

    @staticmethod
    def _unit(x: np.ndarray) -> np.ndarray:
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.float32(1e-12))


class TestNearestNeighboursHead(HeadContract):
    head: ClassVar[type[Head]] = NearestNeighboursHead


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(HEADS, NearestNeighboursHead.name, NearestNeighboursHead)
    return


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.usefixtures("registered")
def test_it_is_searched_kept_and_named(fake_store: Path, pictures: Path, tmp_path: Path) -> None:
    model, report = tmp_path / "m.ffe", tmp_path / "r.html"
    found = json.loads(run("tune", fake_store, "-o", model, "--heads", "knn", "--report", report, "--json").stdout)
    assert found["head"] == "knn"
    tried = [trial["parameters"] for trial in found["leaderboard"]]
    assert {"pooling", "scaling", "k"} == set(tried[0])
    assert len({str(parameters) for parameters in tried}) == len(tried) >= 1 + NearestNeighboursHead.further_trials
    assert "knn (" in report.read_text()

    assert "knn" in run("info", model).stdout
    run("verify", model)
    images = [pictures / "cat" / "cat_000.png", pictures / "dog" / "dog_000.png"]
    said = [json.loads(line) for line in run("predict", model, *images, "--json").stdout.splitlines()]
    assert [sorted(answer["probabilities"]) for answer in said] == [["cat", "dog"]] * 2
    assert [answer.probabilities for answer in Predictor(model).predict(images)] == [answer["probabilities"] for answer in said]
    assert json.loads(run("evaluate", model, fake_store, "--json").stdout)["n"]


@pytest.mark.usefixtures("registered")
def test_it_competes_with_the_others_and_is_averaged_with_them(fake_store: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.ffe"
    options = ("--trials", 2, "--ensemble", 3, "--heads", "knn,logistic", "--class-weights", "balanced", "--json")
    found = json.loads(run("tune", fake_store, "-o", model, *options).stdout)
    assert {trial["head"] for trial in found["leaderboard"]} >= {"knn", "logistic"}
    assert sorted(found["rivals"]) == ["knn", "logistic"]


@pytest.mark.usefixtures("registered")
def test_it_is_trained_with_given_parameters(fake_store: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.ffe"
    found = json.loads(run("train", fake_store, "-o", model, "--head", "knn", "--set", "k=3", "--json").stdout)
    assert (found["head"], found["parameters"]["k"]) == ("knn", 3)
