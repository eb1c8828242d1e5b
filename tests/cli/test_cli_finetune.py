"""``ffe finetune`` and ``ffe scratch``."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import ffe
from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.images.augment_text import SCRATCH, parse_augment
from ffe.specs import AugmentSpec
from ffe.wording.results import kept_text

pytestmark = pytest.mark.usefixtures("quick_measures")

BACKBONE, SIZE = "mobilenet_0.25", "32"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def models(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Result]:
    """A model, what ``ffe finetune`` made of it, and what that printed."""
    folder = tmp_path_factory.mktemp("models")
    features, base, tuned = folder / "f.h5", folder / "m.ffe", folder / "t.ffe"
    ffe.extract(pictures, features, backbone=BACKBONE, size=int(SIZE), weights="random")
    ffe.train(features, base, head="logistic")
    options = ("--unfreeze", "6,19", "--epochs", 2, "--learning-rate", "3e-3,1e-4", "--batch-size", 8)
    result = run("finetune", pictures, "--from", base, "-o", tuned, *options)
    return base, tuned, result


def test_it_says_what_it_does_and_what_came_of_it(models: tuple[Path, Path, Result], pictures: Path) -> None:
    base, tuned, result = models
    assert result.exit_code == 0, result.output
    assert f"stage 1 of 2: the last 6 layers of {BACKBONE} learn, from conv_dw_13 on" in result.stderr
    assert "\nbefore: validation loss " in result.stderr
    assert "\nstage 2, epoch 1: loss " in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["training", "validation"]
    assert lines[1].split() == ["stage", "epoch", "loss", "accuracy", "loss", "accuracy", "rate", "took", "at"]
    ends = [[found.end() for found in re.finditer(word, lines[row])] for row, word in ((0, "[a-z]+"), (1, "accuracy"))]
    assert ends[0] == ends[1]
    assert sum(line.endswith(" s") and "*" in line for line in lines[3:8]) == 1
    training = Bundle(tuned).manifest.training
    assert kept_text(training["best"], Bundle(tuned).manifest.search["rows"]["valid"]) in lines  # the page has the same sentence
    assert "Before and after: " in result.stdout
    assert f"{tuned}: written in " in lines[-1]
    info = run("info", tuned)
    assert f"backbone     {BACKBONE}, fine-tuned weights " in info.stdout
    assert f"Stage 1 trained the last 6 layers of {BACKBONE}, from conv_dw_13 on; below conv_pw_12_relu it stayed" in info.stdout
    assert f"Stage 2 trained the last 19 layers of {BACKBONE}, from conv_dw_11 on; " in info.stdout
    assert f"{lines[0]}\n{lines[1]}\n" in info.stdout
    dry = run("extract", pictures, "-o", base.with_name("g.h5"), "--weights", tuned, "--dry-run")
    assert (dry.exit_code, dry.stdout.splitlines()[0][:26]) == (0, "40 files: 40 to compute, 0")
    assert run("verify", tuned).exit_code == 0
    refused = run("evaluate", tuned, base.with_name("f.h5"))
    assert refused.exit_code == 3
    assert "backbone.weights: the file has random weights, the model needs fine-tuned weights" in refused.stderr


def test_scratch_as_json(pictures: Path, tmp_path: Path) -> None:
    result = run("scratch", pictures, "-o", tmp_path / "s.ffe", "--size", 48, "--epochs", 1, "--plain", "--json")
    assert result.exit_code == 0, result.output
    record: dict[str, Any] = json.loads(result.stdout)
    assert [epoch["epoch"] for epoch in record["history"]] == [0, 1]
    assert record["ended_early"] is None
    assert sum(map(sum, record["evaluation"]["test"]["confusion"])) == record["rows"]["test"]
    assert Bundle(tmp_path / "s.ffe").manifest.training["options"]["dropout"] == 0.0


@pytest.mark.parametrize(
    ("options", "more"), [((), "more --epochs, or more photos"), (("--budget", "0.001s"), "more time with --budget")]
)
def test_a_network_that_learnt_nothing_is_said_to(options: tuple[str, ...], more: str, pictures: Path, tmp_path: Path) -> None:
    """At such a rate its loss only rises."""
    given = ("--size", 48, "--plain", "--epochs", 2, "--learning-rate", 10, *options)
    result = run("scratch", pictures, "-o", tmp_path / "s.ffe", *given)
    assert result.exit_code == 0, result.output
    assert Bundle(tmp_path / "s.ffe").manifest.training["best"]["epoch"] == 0
    told = "no epoch was better than the untrained network, so it has learnt nothing and answers as by chance; give it "
    assert f"warning: {told}{more}\n" in result.stderr
    assert "The weights from before the first epoch are kept (*): no epoch had less validation loss, on " in result.stdout


def test_a_model_goes_on_from_itself(models: tuple[Path, Path, Result], pictures: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.ffe"
    shutil.copy(models[0], model)
    result = run("finetune", pictures, "--from", model, "-o", model, "--unfreeze", 0, "--epochs", 1, "--overwrite")
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["m.ffe"]
    Bundle(model)


def test_that_the_time_ended_it_is_said(pictures: Path, tmp_path: Path) -> None:
    options = ("--size", 48, "--epochs", 500, "--plain", "--budget", "0.5s")
    again = (*options, "--overwrite", "--json")
    said = "he 0.5 s were over after epoch 1 of 500, so the training ended there, and the best weights so far are kept"
    assert f"\nT{said}.\n" in run("scratch", pictures, "-o", tmp_path / "s.ffe", *options).stdout
    assert json.loads(run("scratch", pictures, "-o", tmp_path / "s.ffe", *again).stdout)["ended_early"] == f"t{said}"


@pytest.mark.parametrize(("name", "stages"), [("finetune", True), ("scratch", False)])
def test_only_what_has_stages_speaks_of_them(name: str, stages: bool) -> None:
    assert ("stage" in run(name, "--help").stdout) == stages


def test_the_changes_of_the_article_are_the_default() -> None:
    assert parse_augment(SCRATCH) == AugmentSpec(flip=True, zoom=(0.8, 1.2), rotate=40, shift=0.2, shear=0.2)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--unfreeze", "99"), 3, f"The backbone '{BACKBONE}' has 86 layers, so 99 of them cannot be unfrozen; give at most 86"),
        (("--unfreeze", "6,19", "--epochs", "1,2,3"), 3, "--unfreeze names 2 stages, but --epochs 3; give one value for each"),
        (("--unfreeze", "6,"), 3, "--unfreeze names no layers; write, for example, --unfreeze 6"),
        (("--unfreeze", "6", "--epochs", "x"), 3, "--epochs is 'x', but takes whole numbers; write, for example, 15 or 15,10."),
        (("--unfreeze", "6", "--epochs", "0"), 3, "epochs are 0, but each must be from 1 to 10000."),
        (("--unfreeze", "6", "--learning-rate", "nan"), 3, "learning rates are nan, but each must be above 0, and at most 10."),
        (("--unfreeze", "6", "--budget", "soon"), 2, "'soon'"),
    ],
)
def test_bad_options(
    models: tuple[Path, Path, Result], pictures: Path, tmp_path: Path, options: tuple[str, ...], code: int, message: str
) -> None:
    result = run("finetune", pictures, "--from", models[0], "-o", tmp_path / "t.ffe", *options)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_plain_does_not_go_with_changes(pictures: Path, tmp_path: Path) -> None:
    result = run("scratch", pictures, "-o", tmp_path / "s.ffe", "--plain", "--augment", "flip")
    assert result.exit_code == 2
    assert "--plain is without changing images, so it does not go with --augment; leave one of them out." in result.stderr


@pytest.mark.parametrize(
    ("name", "where", "kept"),
    [
        ("finetune", "ffe.finetuning.trainer.Trainer.stage", "; activations that were computed are kept for the same command"),
        ("finetune", "ffe.finetuning.activation_cache.extract", ""),
        ("finetune", "ffe.commands.finetune.build", ""),
        ("scratch", "ffe.finetuning.trainer.Trainer.stage", ""),
    ],
)
def test_after_an_interruption_it_says_what_is_left(
    *, name: str, where: str, kept: str, models: tuple[Path, Path, Result], pictures: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    source = tmp_path / "p"
    shutil.copytree(pictures, source)
    options = ("--from", models[0], "--unfreeze", 6) if name == "finetune" else ("--size", 48)
    monkeypatch.setattr(where, stop)
    result = run(name, source, "-o", tmp_path / "o.ffe", *options)
    assert result.exit_code == 130
    assert f"ffe: interrupted; no model was written{kept}\n" in result.stderr
    assert not (tmp_path / "o.ffe").exists()
    assert bool(list(tmp_path.glob("o.ffe.cache/*.h5"))) == bool(kept)
