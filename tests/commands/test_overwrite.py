"""What took long to make is replaced only where that is asked for; one rule for all commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import ffe
from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.errors import BundleError, FfeError, StoreError

COMMANDS: dict[str, tuple[str, ...]] = {
    "tune": ("f.h5", "--heads", "logistic", "--trials", "1"),
    "train": ("f.h5", "--head", "logistic"),
    "finetune": ("pictures", "--from", "m.ffe", "--unfreeze", "0"),
    "scratch": ("pictures",),
}
CALLS: dict[str, Callable[..., object]] = {
    "tune": lambda output, **more: ffe.tune("f.h5", output, heads=["logistic"], trials=1, **more),
    "train": lambda output, **more: ffe.train("f.h5", output, head="logistic", **more),
    "finetune": lambda output, **more: ffe.finetune("pictures", output, model="m.ffe", unfreeze=0, **more),
    "scratch": lambda output, **more: ffe.scratch("pictures", output, **more),
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def here(fake_store: Path, fake_bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: ``f.h5``, ``m.ffe`` and ``pictures``."""
    shutil.copy(fake_store, tmp_path / "f.h5")
    shutil.copy(fake_bundle, tmp_path / "m.ffe")
    (tmp_path / "pictures").symlink_to(pictures)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(command: str, output: str, error: type[FfeError], message: str, *, overwrite: bool = False) -> None:
    """Make sure that a command and its function refuse an output, and leave everything as it is."""
    folder = Path()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for more in ((), ("--json",)):
        result = run(command, *COMMANDS[command], "-o", output, *more, *(["--overwrite"] if overwrite else []))
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr == f"ffe: {message}\n"
    with pytest.raises(error) as raised:
        CALLS[command](output, overwrite=overwrite)
    assert str(raised.value) == message
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_stays(here: Path, command: str) -> None:
    message = (
        "'m.ffe' exists and is a model file; choose another output, or replace it with --overwrite (in Python overwrite=True)."
    )
    refused(command, "m.ffe", BundleError, message)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_not_ours_stays_in_any_case(here: Path, command: str) -> None:
    (here / "notes").write_text("mine")
    refused(command, "notes", BundleError, "'notes' exists and is no model file; choose another output.", overwrite=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_file_is_replaced_where_asked(here: Path, command: str) -> None:
    (here / "e.ffe").touch()
    message = "'e.ffe' exists and is empty; choose another output, or replace it with --overwrite (in Python overwrite=True)."
    refused(command, "e.ffe", BundleError, message)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_report_never_goes_onto_its_model(here: Path, command: str) -> None:
    result = run(command, *COMMANDS[command], "-o", "both", "--report", "both")
    message = "ffe: The report and the model are both to be 'both'; give them different names.\n"
    assert (result.exit_code, result.stderr) == (3, message)
    assert not (here / "both").exists()


@pytest.mark.parametrize("command", ["tune", "train"])
@pytest.mark.parametrize("empty", [False, True])
def test_overwrite_replaces_it(here: Path, command: str, empty: bool) -> None:
    if empty:
        (here / "m.ffe").write_bytes(b"")
    before = (here / "m.ffe").read_bytes()
    result = run(command, *COMMANDS[command], "-o", "m.ffe", "--seed", 1, "--overwrite", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["output"] == "m.ffe"
    assert (here / "m.ffe").read_bytes() != before
    assert Bundle("m.ffe").manifest.search["seed"] == 1


def test_an_input_is_never_replaced(here: Path) -> None:
    """But for the model that fine-tuning goes on from."""
    message = "'w.ffe' is an input of the same command, so it is not replaced; choose another output."
    shutil.copy("m.ffe", "w.ffe")
    for command in ("tune", "train", "finetune"):
        result = run(command, *COMMANDS[command], "-o", "w.ffe", "--weights", "w.ffe", "--overwrite")
        assert (result.exit_code, result.stderr) == (3, f"ffe: {message}\n"), command
    (here / "list.csv").write_text("path,label\n")
    result = run("scratch", "list.csv", "-o", "list.csv", "--overwrite")
    assert (result.exit_code, (here / "list.csv").read_text()) == (3, "path,label\n")


def test_features_by_the_same_rule(here: Path) -> None:
    shutil.copy("f.h5", "g.h5")
    with pytest.raises(StoreError) as raised:
        ffe.pack(["f.h5"], "g.h5")
    assert (
        str(raised.value) == "'g.h5' exists and is a feature file; choose another output, or replace it with --overwrite "
        "(in Python overwrite=True)."
    )
    (here / "notes").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match=r"'notes' exists and is no feature file, so it is not replaced"):
            ffe.pack(["f.h5"], "notes", overwrite=overwrite)


@pytest.mark.parametrize("command", [*COMMANDS, "extract", "pack"])
def test_all_say_the_same_of_it(command: str) -> None:
    said = " ".join(run(command, "--help").stdout.split())
    assert "--overwrite Replace what -o names: a feature file with other features, or a model." in said
