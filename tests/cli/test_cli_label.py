"""``ffe label`` and ``ffe.label``: ImageNet's classes, without a model of one's own."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import ffe
from ffe.cli import cli
from ffe.commands.label import Labeller
from ffe.errors import SpecError, WeightsError


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chequerboard, which ImageNet's classes have a good name for."""
    squares = (np.indices((8, 8)).sum(axis=0) % 2 * 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("label") / "squares.png"
    Image.fromarray(np.kron(squares, np.ones((28, 28), np.uint8))).convert("RGB").save(path)
    return path


def _run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["label", *map(str, arguments)], input=stdin)


def test_the_best_five_classes_of_a_file_a_folder_and_standard_input(picture: Path) -> None:
    result = _run(picture)
    assert result.exit_code == 0, result.output
    name, _, answer = result.stdout.rstrip("\n").rpartition(": ")
    assert name == str(picture)
    assert len(answer.split("%, ")) == 5
    assert "crossword puzzle" in answer or "quilt" in answer or "prayer rug" in answer
    assert _run(picture.parent).stdout == result.stdout
    assert _run("-", stdin=f"{picture}\n".encode()).stdout == result.stdout
    assert _run("-", stdin=picture.read_bytes()).stdout == f"-: {answer}\n"


def test_json_has_the_classes_that_are_asked_for(picture: Path) -> None:
    value = json.loads(_run(picture, "--json", "--top", "3").stdout)
    assert set(value) == {"path", "label", "sure", "probabilities", "error"}
    shares = list(value["probabilities"].values())
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    assert value["label"] == next(iter(value["probabilities"]))
    assert 0 < sum(shares) <= 1


def test_python_gives_the_same(picture: Path) -> None:
    (answer,) = ffe.label(picture, top=3)
    assert json.loads(_run(picture, "--json", "--top", "3").stdout) == answer.to_json()
    everything = next(iter(ffe.label([picture], top=1000)))
    assert len(everything.probabilities) == 1000
    assert sum(everything.probabilities.values()) == pytest.approx(1)
    again = pickle.loads(pickle.dumps(Labeller(top=3)))  # noqa: S301 (our own)
    assert list(again.predict(picture)) == [answer]


def test_what_cannot_be_read_is_said(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no picture")
    result = _run(picture, tmp_path / "bad.jpg", "--strict")
    assert result.exit_code == 1
    assert f"{tmp_path / 'bad.jpg'}: cannot be read: " in result.stderr
    result = _run(tmp_path / "bad.jpg")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.endswith("ffe: No image could be read; give JPEG, PNG or other picture files.\n")


def test_what_cannot_be_asked_is_refused(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(picture, "--top", "0").exit_code == 2
    assert "-0 says how a list on standard input is written; name - among the images." in _run(picture, "-0").stderr
    with pytest.raises(SpecError, match="The number of classes to name is 1001, but must be 1 to 1000"):
        ffe.label(picture, top=1001)
    monkeypatch.setattr("ffe.backbones.lite0.PACKAGE", "no-such-package-of-weights")
    with pytest.raises(WeightsError, match="come with the package no-such-package-of-weights, which is not installed here"):
        ffe.label(picture)
    assert _run(picture).exit_code == 3
