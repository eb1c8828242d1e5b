"""``ffe compare``: what it prints, and how it leaves."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ffe.cli import cli
from ffe.cli.compare import ROADS_HELP
from ffe.cli.progress import TrialNotes
from ffe.comparing.roads import ROADS
from ffe.tuning.search import SearchProgress
from ffe.tuning.trial import Trial

pytestmark = pytest.mark.usefixtures("quick_measures", "quick_searches")

FAKE = ("--backbone", "fake", "--trials", 1, "--epochs", 1, "--views", 1)


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, ["compare", *map(str, arguments)])


@pytest.fixture(scope="module")
def printed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, dict[str, Any], Path]:
    """The table of two roads and one that cannot be gone; and the same again as JSON."""
    folder = tmp_path_factory.mktemp("cli")
    arguments = (pictures, "-o", folder / "o", "--roads", "views,frozen,finetuning", *FAKE)
    table = run(*arguments, "--report", folder / "page.html")
    again = run(*arguments, "--json")
    assert again.exit_code == 0, again.output
    return table, json.loads(again.stdout), folder


@pytest.mark.parametrize(("done", "said"), [(1, "1 trial, highest validation "), (2, "2 trials, highest validation ")])
def test_one_trial_is_no_trials(
    done: int, said: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ffe")
    trials = [Trial("svm", {}, 0.9, 0.01, 0.5, 2048)] * done
    TrialNotes()(SearchProgress(trials, trials[-1:], done, done, 1.0, None))
    assert capsys.readouterr().err == f"{said}accuracy 0.9000 (svm)\n"


def test_table(printed: tuple[Result, dict[str, Any], Path]) -> None:
    table, record, folder = printed
    assert table.exit_code == 0, table.output
    lines = table.stdout.splitlines()
    assert lines[0].split("  ")[0] == "road"
    rows = {line.split()[0]: line for line in lines[2:4]}
    assert set(rows) == {"frozen", "views"}
    assert [name for name, line in rows.items() if line.split()[1] == "*"] == [record["best"]]
    costs = [line for line in lines if line.split()[:1] in (["frozen"], ["views"]) and line.endswith("KiB")]
    assert [line.count(" trials") for line in costs] == [1, 1]
    assert max(len(line) for line in lines if "  " in line) <= 100
    assert "finetuning: The backbone of '" in table.stdout
    assert "has no layers; choose another model." in table.stdout
    rows_of = record["rows"]
    assert f"All learn from the same {rows_of['train']} images, choose by {rows_of['valid']}, and are" in table.stdout
    assert f"{record['best']} and {record['second']}: " in table.stdout
    titles = ["test images", "both right", f"only {record['best']}", f"only {record['second']}", "both wrong"]
    assert lines[-5].split("  ") == titles
    assert [line.split()[0] for line in lines[-3:]] == ["all", "cat", "dog"]
    assert "road 1 of 3: frozen (frozen features, search over heads)\n" in table.stderr
    assert f"the page is in '{folder / 'page.html'}'" in table.stderr
    assert (folder / "page.html").is_file()


def test_json(printed: tuple[Result, dict[str, Any], Path]) -> None:
    _, record, folder = printed
    assert [road["name"] for road in record["roads"]] == ["frozen", "views", "finetuning"]
    assert [bool(road["reason"]) for road in record["roads"]] == [False, False, True]
    best = next(road for road in record["roads"] if road["name"] == record["best"])
    assert sum(map(sum, best["evaluation"]["confusion"])) == record["rows"]["test"]
    assert best["size"] == (folder / "o" / f"{best['name']}.ffe").stat().st_size
    assert record["folder"] == str(folder / "o")
    assert all(road["reused"] for road in record["roads"][:2])


def test_no_road_has_a_result(pictures: Path, tmp_path: Path) -> None:
    result = run(pictures, "-o", tmp_path / "o", "--roads", "head-only", *FAKE)
    assert result.exit_code == 3
    assert result.stdout.startswith("head-only: The backbone of '")
    assert "No road has a result." in result.stdout


def test_an_interruption_prints_what_is_done(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ffe.commands.compare_runner.scratch", stop)
    result = run(pictures, "-o", tmp_path / "o", "--roads", "frozen,scratch", *FAKE)
    assert result.exit_code == 130
    assert "scratch: interrupted\n" in result.stdout
    assert "Only frozen has a result." in result.stdout
    assert result.stderr.endswith("ffe: interrupted; what was computed is kept for the same command\n")
    first = run(pictures, "-o", tmp_path / "o", "--roads", "scratch", *FAKE)
    assert first.exit_code == 130
    assert first.stderr.endswith("ffe: interrupted; run the same command again to go on\n")
    assert first.stdout == ""


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--roads", "frozen,svm"), 3, f"ffe: There is no road 'svm'; choose among {', '.join(ROADS)}."),
        (("--seconds", "0"), 3, "ffe: a budget of 0 seconds cannot be kept; give one above 0 with --budget."),
        (("--seconds", "-3"), 3, "ffe: a budget of -3 seconds cannot be kept; give one above 0 with --budget."),
        (("--trials", "0"), 2, "0 is not in the range x>=1."),
    ],
)
def test_bad_options(pictures: Path, tmp_path: Path, options: tuple[str, ...], code: int, message: str) -> None:
    result = run(pictures, "-o", tmp_path / "o", *options)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "o").exists()


def test_help_names_every_road() -> None:
    assert [line.split()[0] for line in ROADS_HELP.splitlines()[2:] if line] == list(ROADS)
