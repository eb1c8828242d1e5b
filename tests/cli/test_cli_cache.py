"""``ffe cache``: what is shown, what is removed, and what is left alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ffe.cli import cli
from ffe.cli.cache import _KINDS
from ffe.commands.cache import KINDS
from ffe.store.journal_folder import lock_output, release_output
from ffe.tuning.problem import Outcome
from ffe.tuning.trial_store import TrialStore

DIGEST = "0123456789abcdef" * 2
FILES = {
    "models": f"cache/models/{DIGEST}-int8.zip",
    "compiled": "cache/numba/heads_1/k.nbi",
    "runs": f"cache/runs/{DIGEST}-1.json",
    "facts": f"cache/facts/{DIGEST}.json",
    "engines": f"cache/engines/{DIGEST}-2.json",
    "digests": f"cache/digests/{DIGEST}.json",
    "trials": f"work/m.ffe.search/{DIGEST}.npz",
    "activations": f"work/m.ffe.cache/conv-{DIGEST[:12]}.h5",
    "weights": "keras/models/vgg19.h5",
}
FOREIGN = (
    "cache/notes.txt",
    "cache/models/mine.txt",
    "work/m.ffe",
    "work/f.h5",
    "work/my.cache/thesis.txt",
    "work/m.ffe.cache/mine.txt",
    "cache/models/mine.zip",
    "cache/runs/best.json",
    f"cache/runs/mine/{DIGEST}.json",
    "cache/digests/mine.json.tmp-1",
    "work/activations/mine.h5",
    f"work/activations/day-{DIGEST[:12]}.h5",
    f"work/exp.cache/sub/conv-{DIGEST[:12]}.h5",
    "work/activations/mine.h5.partial/lock",
    f"work/activations/day-{DIGEST[:12]}.h5.partial/notes.txt",
    "work/my.search/mine.npz",
    "work/my.search/mine.tmp",
    f"work/my.search/{DIGEST}.npz",
)


@pytest.fixture
def place(tmp_path: Path, fake_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number, name in enumerate((*FILES.values(), *FOREIGN)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * (100 + number))
    shutil.copy(fake_store, tmp_path / FILES["activations"])
    shutil.copy(fake_store, tmp_path / "work/exp.cache/sub" / Path(FILES["activations"]).name)
    shutil.copy(fake_store, tmp_path / "work/activations/mine.h5")
    TrialStore(tmp_path / "work/m.ffe.search", "rows").keep({}, Outcome((np.zeros(2),), 0.0, 1, {}, {}))
    (made,) = (path for path in (tmp_path / "work/m.ffe.search").iterdir() if path != tmp_path / FILES["trials"])
    made.replace(tmp_path / FILES["trials"])
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["cache", *arguments])


def left(place: Path) -> set[str]:
    return {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}


def test_the_kinds_of_the_command_are_those_of_the_library() -> None:
    assert _KINDS == KINDS


def test_everything_is_shown_with_its_size_and_its_place(place: Path) -> None:
    kept = json.loads(run("--json").stdout)["kept"]
    assert {row["kind"]: (row["files"], row["bytes"]) for row in kept} == {
        kind: (1, (place / file).stat().st_size) for kind, file in FILES.items()
    }
    assert {
        row["kind"]: (place / "work" / row["where"]) / Path(FILES[row["kind"]]).name for row in kept if row["kind"] != "compiled"
    } == {kind: place / file for kind, file in FILES.items() if kind != "compiled"}
    printed = run().stdout
    for words in ("converted and quantised backbones", "100 B", "weights that Keras downloaded", "108 B"):
        assert words in " ".join(printed.split())
    assert left(place) == {*FILES.values(), *FOREIGN}


def test_all_is_removed_but_weights_and_what_is_not_ours(place: Path) -> None:
    result = run("--clear")
    assert result.exit_code == 0
    assert result.stdout.startswith("Removed:\n")
    assert left(place) == {FILES["weights"], *FOREIGN}
    assert not (place / "work/m.ffe.search").exists()
    assert run("--clear").stdout == "There was nothing to remove.\n"


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_is_removed_alone(place: Path, kind: str) -> None:
    cleared = json.loads(run("--clear", kind, "--json").stdout)["cleared"]
    assert [(row["kind"], row["files"]) for row in cleared] == [(kind, 1)]
    assert left(place) == {*FILES.values(), *FOREIGN} - {FILES[kind]}


def test_what_lies_beside_outputs_elsewhere_is_found_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert {row["kind"] for row in json.loads(run("--json").stdout)["kept"]} == {*FILES} - {"trials", "activations"}
    assert {row["kind"] for row in json.loads(run("work", "--json").stdout)["kept"]} == set(FILES)


def test_an_unfinished_run_counts_and_goes_unless_it_runs(place: Path) -> None:
    name = f"conv-{DIGEST[12:24]}.h5"
    partial = place / f"work/m.ffe.cache/{name}.partial"
    partial.mkdir()
    (partial / "draft").write_bytes(b"12345")
    lock = lock_output(partial, partial.with_suffix(""))
    result = run("--clear", "activations")
    assert result.exit_code == 3
    assert f"Another process is writing 'm.ffe.cache/{name}'; wait until it is done" in result.stderr
    assert (partial / "draft").exists()
    release_output(lock)
    assert run("--clear", "activations").exit_code == 0
    assert not partial.exists()


def test_where_nothing_was_ever_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    assert {row["files"] for row in json.loads(run("--json").stdout)["kept"]} == {0}
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.chdir(tmp_path)
    result = run("--json")
    assert result.exit_code == 0
    assert {row["kind"] for row in json.loads(result.stdout)["kept"]} == {
        "models",
        "compiled",
        "runs",
        "facts",
        "engines",
        "digests",
        "weights",
    }


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 3, "ffe: There is no folder 'nowhere'; name folders that outputs of ffe are in."),
        (["--clear", "weights"], 2, "'weights' is not one of 'all', 'models', 'compiled', 'runs', 'facts', 'engines'"),
    ],
)
def test_what_cannot_be_is_said(place: Path, arguments: list[str], code: int, said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert said in " ".join(result.stderr.split())
    assert left(place) == {*FILES.values(), *FOREIGN}
