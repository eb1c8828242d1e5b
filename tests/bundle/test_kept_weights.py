"""Which weights ``ffe.finetune`` and ``ffe.scratch`` keep: where nothing helps, and where they are interrupted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.commands.finetune import finetune
from ffe.commands.scratch import scratch
from ffe.commands.tune import train
from ffe.extraction.run import extract
from ffe.finetuning.epochs import Epoch
from ffe.finetuning.trainer import Trainer

BACKBONE, SIZE = "mobilenet_0.25", 32


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def base(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose head was fitted on all images but those of the test; fine-tuning fits it again on fewer."""
    folder = tmp_path_factory.mktemp("base")
    extract(pictures, folder / "f.h5", backbone=BACKBONE, size=SIZE, weights="random")
    train(folder / "f.h5", folder / "m.ffe", head="logistic")
    return folder / "m.ffe"


@pytest.fixture
def validation(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the validation say given losses, one after the other."""

    def says(*losses: float) -> None:
        left = iter(losses)
        monkeypatch.setattr(Trainer, "_validate", lambda self, model, source: (next(left), 0.5))

    return says


def test_where_no_epoch_helps_the_model_stays_to_the_bit(
    base: Path, pictures: Path, tmp_path: Path, validation: Callable[..., None]
) -> None:
    validation(0.1, 0.2, 0.3)
    options = ("--epochs", 1, "--batch-size", 8)
    report = ("--report", tmp_path / "r.html")
    result = run("finetune", pictures, "--from", base, "-o", tmp_path / "t.ffe", "--unfreeze", "0", *options, *report)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "t.ffe").read_bytes() == base.read_bytes()
    (said,) = (line for line in result.stdout.splitlines() if line.startswith("No epoch"))
    assert re.fullmatch(
        r"No epoch had less validation loss than the model had before \(\*\), on \d images: "
        r"it stays as it was, and the new file is a copy of its file\.",
        said,
    )
    assert "Before and after" not in result.stdout
    assert said in (tmp_path / "r.html").read_text()
    test = Bundle(base).manifest.evaluation["test"]
    validation(0.1, 0.2, 0.3)
    again = run("finetune", pictures, "--from", base, "-o", tmp_path / "u.ffe", "--unfreeze", "6,19", *options, "--json")
    assert (tmp_path / "u.ffe").read_bytes() == base.read_bytes()
    record: dict[str, Any] = json.loads(again.stdout)
    assert (record["unchanged"], record["interrupted"], record["comparison"]) == (True, False, None)
    assert record["evaluation"]["test"]["confusion"] == test["confusion"]
    assert record["evaluation"]["test"]["log_loss"] == pytest.approx(test["log_loss"], abs=1e-4)
    assert record["calibration"]["temperature"] == Bundle(base).manifest.temperature


def test_a_model_that_was_replaced_meanwhile_is_not_copied(
    base: Path, pictures: Path, tmp_path: Path, validation: Callable[..., None]
) -> None:
    from ffe.errors import BundleError

    mine = tmp_path / "mine.ffe"
    mine.write_bytes(base.read_bytes())
    validation(0.1, 0.2)

    def replace(epoch: Epoch) -> None:
        mine.write_bytes(b"other")

    with pytest.raises(BundleError, match=r"mine.ffe' was replaced while it was in use; open it again\.$"):
        finetune(pictures, tmp_path / "t.ffe", model=mine, unfreeze=0, epochs=1, on_epoch=replace)
    assert not (tmp_path / "t.ffe").exists()


class InterruptIn:
    """Interrupts after an epoch."""

    def __init__(self, stage: int, epoch: int) -> None:
        self._when = stage, epoch

    def __call__(self, epoch: Epoch) -> None:
        if (epoch.stage, epoch.epoch) == self._when:
            raise KeyboardInterrupt


def test_an_interruption_keeps_the_best_epoch(
    base: Path, pictures: Path, tmp_path: Path, validation: Callable[..., None]
) -> None:
    """The weights are those that a training ends with that has no more epochs."""
    validation(0.5, 0.4)
    finetune(pictures, tmp_path / "u.ffe", model=base, unfreeze=0, batch_size=8, epochs=1)
    for losses in ((0.5, 0.4), (0.5, 0.4, 0.45)):
        validation(*losses)
        options: dict[str, Any] = {"model": base, "unfreeze": (0, 6), "batch_size": 8, "overwrite": True}
        stop = InterruptIn(1, len(losses) - 1)
        result = finetune(pictures, tmp_path / "t.ffe", epochs=9, on_epoch=stop, **options)
        assert (result.interrupted, result.unchanged, len(result.stages)) == (True, False, 1)
        assert (result.best.stage, result.best.epoch) == (1, 1)
        assert result.ended_early == (
            f"the command was interrupted after epoch {len(losses) - 1} of 9 in stage 1 of 2, "
            "so the training ended there, and the best weights so far are kept"
        )
        interrupted, plain = (Bundle(tmp_path / name).head().arrays() for name in ("t.ffe", "u.ffe"))
        assert all((interrupted[name] == plain[name]).all() for name in plain)


def test_an_interruption_while_a_later_stage_is_prepared(
    base: Path, pictures: Path, tmp_path: Path, validation: Callable[..., None]
) -> None:
    calls: list[int] = []

    def progress(now: Any) -> None:
        calls.append(now.done)
        if len(told) == 2:  # the state before, and the only epoch of the first stage
            raise KeyboardInterrupt

    told: list[Epoch] = []
    validation(0.5, 0.4)
    options: dict[str, Any] = {"model": base, "unfreeze": (6, 19), "epochs": 1, "batch_size": 8}
    result = finetune(pictures, tmp_path / "t.ffe", on_epoch=told.append, progress=progress, **options)
    assert (result.interrupted, len(result.stages)) == (True, 1)
    assert Bundle(tmp_path / "t.ffe").manifest.training["best"]["epoch"] == 1


def test_without_a_better_epoch_nothing_is_written(
    base: Path, pictures: Path, tmp_path: Path, validation: Callable[..., None]
) -> None:
    validation(0.5, 0.6)
    with pytest.raises(KeyboardInterrupt):
        finetune(pictures, tmp_path / "t.ffe", model=base, unfreeze=0, on_epoch=InterruptIn(1, 1))
    assert not (tmp_path / "t.ffe").exists()


def test_scratch_keeps_it_too_and_leaves_with_130(
    pictures: Path, tmp_path: Path, validation: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    validation(0.5, 0.4)
    taken = Trainer._learn

    def learn(self: Trainer, model: Any, source: Any, stage: int, epoch: int) -> tuple[float, float]:
        if epoch == 2:
            raise KeyboardInterrupt
        return taken(self, model, source, stage, epoch)

    monkeypatch.setattr(Trainer, "_learn", learn)
    result = run("scratch", pictures, "-o", tmp_path / "s.ffe", "--size", 48, "--plain", "--epochs", 7)
    assert result.exit_code == 130
    assert "\nThe command was interrupted after epoch 1 of 7, so the training ended there, " in result.stdout
    warned = "warning: interrupted; the best weights so far are tested and written, and Ctrl-C once more ends at once"
    assert warned in result.stderr.splitlines()
    assert result.stderr.splitlines()[-1] == f"ffe: interrupted; the best weights until then are in '{tmp_path / 's.ffe'}'"
    assert run("verify", tmp_path / "s.ffe").exit_code == 0


def test_a_second_interruption_ends_at_once(
    pictures: Path, tmp_path: Path, validation: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    validation(0.5, 0.4)

    def again(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ffe.finetuning.finish.probabilities_of", again)
    with pytest.raises(KeyboardInterrupt):
        scratch(pictures, tmp_path / "s.ffe", size=48, plain=True, on_epoch=InterruptIn(1, 1))
    assert not (tmp_path / "s.ffe").exists()
