"""A search that is interrupted, at any instant, goes on where it stopped, and comes to the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ffe.bundle.io import Bundle
from ffe.cli import cli
from ffe.commands.tune import tune
from ffe.tuning.search import SearchProgress
from ffe.tuning.tune_result import TuneResult

ROOT = Path(__file__).resolve().parent.parent.parent
OPTIONS: dict[str, Any] = {"heads": ("logistic", "svm"), "trials": 16, "folds": 3, "seed": 5}


def board(result: TuneResult) -> list[dict[str, Any]]:
    """Return the leaderboard without what a clock says."""
    return [without_clock(trial.to_json()) for trial in result.leaderboard]


def without_clock(trial: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in trial.items() if name not in {"fit_seconds", "finished"}}


@pytest.fixture(scope="module")
def undisturbed(fake_store: Path, tmp_path_factory: pytest.TempPathFactory) -> TuneResult:
    return tune(fake_store, tmp_path_factory.mktemp("undisturbed") / "m.ffe", **OPTIONS)


def test_a_finished_search_leaves_nothing_behind(undisturbed: TuneResult) -> None:
    assert undisturbed.known == 0
    assert undisturbed.output is not None
    assert [file.name for file in undisturbed.output.parent.iterdir()] == ["m.ffe"]


class _BrokenError(Exception):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, _BrokenError])
@pytest.mark.parametrize("batches", [1, 3])
def test_an_exception_after_some_batches(
    fake_store: Path, tmp_path: Path, undisturbed: TuneResult, error: type[BaseException], batches: int
) -> None:
    seen: list[SearchProgress] = []

    def stop(progress: SearchProgress) -> None:
        seen.append(progress)
        if len(seen) == batches:
            raise error

    with pytest.raises(error):
        tune(fake_store, tmp_path / "m.ffe", **OPTIONS, on_progress=stop)
    assert [file.name for file in tmp_path.iterdir()] == ["m.ffe.search"]
    result = tune(fake_store, tmp_path / "m.ffe", **OPTIONS)
    assert result.known == seen[-1].done > 0
    assert board(result) == board(undisturbed)
    assert result.evaluation == undisturbed.evaluation
    assert [file.name for file in tmp_path.iterdir()] == ["m.ffe"]
    assert undisturbed.output is not None
    arrays, expected = (Bundle(path).head().arrays() for path in (tmp_path / "m.ffe", undisturbed.output))
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


def stop(progress: SearchProgress) -> None:
    """Stop after the first batch."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "changes", [{"seed": 6}, {"folds": 4}, {"class_weights": "balanced", "test_fraction": 0.4}, {"heads": ("svm", "logistic")}]
)
def test_another_search_takes_nothing_that_does_not_fit(fake_store: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    options = OPTIONS if "heads" in changes else OPTIONS | {"trials": 3}
    with pytest.raises(KeyboardInterrupt):
        tune(fake_store, tmp_path / "m.ffe", **options, on_progress=stop)
    result = tune(fake_store, tmp_path / "m.ffe", **options | changes)
    expected = tune(fake_store, None, **options | changes)
    assert board(result) == board(expected)
    assert (result.known > 0) == ("heads" in changes)  # the order of the heads changes no score
    assert [file.name for file in tmp_path.iterdir()] == ["m.ffe"]


@pytest.mark.parametrize("keep", [0, 1, 200, -1])
def test_a_torn_file_is_computed_again(fake_store: Path, tmp_path: Path, undisturbed: TuneResult, keep: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        tune(fake_store, tmp_path / "m.ffe", **OPTIONS, on_progress=stop)
    files = list((tmp_path / "m.ffe.search").iterdir())
    for file in files:
        file.write_bytes(file.read_bytes()[:keep])
    (files[0].parent / f"{'0' * 32}.7.tmp").write_bytes(b"half")
    result = tune(fake_store, tmp_path / "m.ffe", **OPTIONS)
    assert result.known == 0
    assert board(result) == board(undisturbed)
    assert [file.name for file in tmp_path.iterdir()] == ["m.ffe"]


def test_without_a_model_file_nothing_is_kept(fake_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        tune(fake_store, None, **OPTIONS, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)], ids=lambda how: how.name)
def test_a_process_that_is_stopped_in_the_middle(fake_store: Path, tmp_path: Path, how: signal.Signals) -> None:
    """The same command finds what was finished; Ctrl-C leaves with the code 130 and says so."""
    options = ["--heads", "logistic,forest", "--trials", "1", "--folds", "3", "--json"]
    command = ["tune", str(fake_store), "-o", str(tmp_path / "m.ffe"), *options]
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + _MAIN, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("m.ffe.search/*.npz")):  # the first of the quick trials; trees take a while
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    stdout, stderr = process.communicate(timeout=300)
    assert stdout == ""
    assert not (tmp_path / "m.ffe").exists()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert stderr.splitlines()[-1] == "ffe: interrupted; run the same command again to go on"
    else:
        assert process.returncode == -how
    again = CliRunner().invoke(cli, command)
    assert again.exit_code == 0, again.stderr
    result = json.loads(again.stdout)
    assert result["known"] >= 1
    whole = CliRunner().invoke(cli, ["tune", str(fake_store), "-o", str(tmp_path / "whole.ffe"), *options])
    expected = json.loads(whole.stdout)
    assert [without_clock(trial) for trial in result["leaderboard"]] == [without_clock(t) for t in expected["leaderboard"]]
    assert result["evaluation"] == expected["evaluation"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.ffe", "whole.ffe"]


_MAIN = "import sys; sys.argv[0] = 'ffe'\nfrom ffe.cli import main\nmain()"


def test_what_was_known_is_said(fake_store: Path, tmp_path: Path) -> None:
    done: list[int] = []

    def stop(progress: SearchProgress) -> None:
        done.append(progress.done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(fake_store, tmp_path / "m.ffe", **OPTIONS, on_progress=stop)
    options = ["--heads", "logistic,svm", "--trials", "16", "--folds", "3", "--seed", "5"]
    result = CliRunner().invoke(cli, ["tune", str(fake_store), "-o", str(tmp_path / "m.ffe"), *options])
    assert result.exit_code == 0
    assert f"chosen of 32 trials, {done[0]} of them from the run before" in result.stdout
