"""``ffe bakeoff``: what it prints, and how it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ffe.cli import cli

pytestmark = pytest.mark.usefixtures("quick_searches")

TWO = ("--backbones", "fake,mobilenet_0.25", "--weights", "random", "--trials", 1)


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, ["bakeoff", *map(str, arguments)])


def test_table_json_and_page(pictures: Path, tmp_path: Path) -> None:
    table = run(pictures, "-o", tmp_path / "o", *TWO, "--report", tmp_path / "page.html")
    assert table.exit_code == 0, table.output
    lines = table.stdout.splitlines()
    assert lines[0].split()[0] == "backbone"
    assert {line.split()[0] for line in lines[2:4]} == {"fake", "mobilenet_0.25"}
    assert lines[-1].startswith("Take ")
    assert max(len(line) for line in lines[:4]) <= 100
    assert f"the page is in '{tmp_path / 'page.html'}'" in table.stderr
    again = run(pictures, "-o", tmp_path / "o", *TWO, "--json", "--quiet")
    assert again.exit_code == 0, again.output
    record = json.loads(again.stdout)
    assert [one["name"] for one in record["backbones"]] == ["fake", "mobilenet_0.25"]
    assert record["take"] in lines[-1]
    assert set(record["frontier"]) <= {"fake", "mobilenet_0.25"}
    assert all(one["searched_before"] for one in record["backbones"])
    assert f"its model: {record['folder']}" in table.stderr
    assert (
        again.stderr.replace("warning: THE BACKBONE IS UNTRAINED (--weights random): its features are for tests alone\n", "")
        == ""
    )


def test_one_that_fails_leaves_with_1_and_all_with_3(pictures: Path, tmp_path: Path) -> None:
    some = run(pictures, "-o", tmp_path / "o", "--backbones", "fake,vgg16", "--trials", 1)
    assert some.exit_code == 1, some.output
    assert "vgg16: The ImageNet weights of 'vgg16' are not on this machine" in some.stdout
    assert some.stdout.endswith("\n\nTake fake: no other has a result to compare it with.\n")
    none = run(pictures, "-o", tmp_path / "o", "--backbones", "vgg19,vgg16")
    assert none.exit_code == 3
    assert none.stdout.endswith("No backbone has a result.\n")
    assert [line.partition(":")[0] for line in none.stdout.splitlines()] == ["vgg19", "vgg16", "", "No backbone has a result."]


def test_an_interruption_leaves_with_130(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ffe.commands import bakeoff_runner

    tune, calls = bakeoff_runner.tune, list[object]()

    def stop(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) in {1, 3}:
            raise KeyboardInterrupt
        return tune(*arguments, **options)

    monkeypatch.setattr("ffe.commands.bakeoff_runner.tune", stop)
    first = run(pictures, "-o", tmp_path / "o", *TWO)
    assert first.exit_code == 130
    assert first.stdout == ""
    assert first.stderr.endswith("ffe: interrupted; run the same command again to go on\n")
    second = run(pictures, "-o", tmp_path / "o", *TWO)
    assert second.exit_code == 130
    assert "mobilenet_0.25: interrupted\n" in second.stdout
    assert second.stderr.endswith("ffe: interrupted; what was computed is kept for the same command\n")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--backbones", "fake"), 3, "ffe: A bake-off needs two backbones at least; name them with --backbones A,B"),
        (("--backbones", "fake,fake"), 3, "ffe: The backbone 'fake' is named twice; name each once."),
        (("--backbones", "fake,mobilenett"), 3, "Did you mean 'mobilenet'"),
        (
            ("--backbones", "fake,vgg16", "--seconds", "soon"),
            2,
            "'soon' is no time; write, for example, --seconds 60s, 5m or 1h.",
        ),
        (("--backbones", "fake,vgg16", "--trials", "0"), 2, "0 is not in the range x>=1."),
        ((), 2, "Missing option '--backbones'; write, for example, 'ffe bakeoff "),
        ((), 2, " --backbones efficientnetlite0,mobilenet'."),
    ],
)
def test_bad_options(pictures: Path, tmp_path: Path, options: tuple[str, ...], code: int, message: str) -> None:
    result = run(pictures, "-o", tmp_path / "o", *options)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "o").exists()
