"""Names of files and classes may hold anything; what is printed is one line for each, and moves no terminal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ffe.cli import cli

ODD = "two\nlines \x1b[2J.png"
SHOWN = "two\\nlines \\x1b[2J.png"


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture
def odd(pictures: Path, tmp_path: Path) -> Path:
    """A folder with a cat, a file that is no picture, and a name of bytes that are no UTF-8."""
    folder = tmp_path / "odd"
    folder.mkdir()
    shutil.copy(pictures / "cat" / "cat_000.png", folder / ODD)
    (folder / f"bad {ODD}").write_text("no picture")
    shutil.copy(pictures / "cat" / "cat_001.png", os.fsencode(folder) + b"/\xff.png")
    return folder


def test_predict_prints_one_line_for_each(fake_bundle: Path, odd: Path) -> None:
    result = run("predict", fake_bundle, odd, "--top", 1)
    assert result.exit_code == 0
    shown, no_text = result.stdout.splitlines()
    assert shown.startswith(f"{odd}/{SHOWN}: ")
    assert no_text.startswith(f"{odd}/\\xff.png: ")
    assert result.stderr.splitlines() == [
        f"{odd}/bad {SHOWN}: cannot be read: it is no JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, JPEG 2000 or PNM picture",
    ]


def test_json_keeps_names_as_they_are(fake_bundle: Path, odd: Path) -> None:
    result = run("predict", fake_bundle, odd, "--json")
    answers = {value["path"]: value["error"] for value in map(json.loads, result.stdout.splitlines())}
    no_text = os.fsdecode(os.fsencode(odd) + b"/\xff.png")
    assert set(answers) == {f"{odd}/{ODD}", f"{odd}/bad {ODD}", no_text}
    assert answers[f"{odd}/{ODD}"] is answers[no_text] is None


def test_a_name_that_is_no_text_is_read_where_it_is_named(fake_bundle: Path, odd: Path) -> None:
    result = run("predict", fake_bundle, os.fsdecode(os.fsencode(odd) + b"/\xff.png"), "--json")
    assert json.loads(result.stdout)["error"] is None


def test_info_shows_skipped_files_in_one_line_each(pictures: Path, odd: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures / "dog", tmp_path / "photos" / "dog")
    shutil.copytree(odd, tmp_path / "photos" / "a\nclass")
    extracted = run("extract", tmp_path / "photos", "-o", tmp_path / "f.h5", "--backbone", "fake")
    assert extracted.exit_code == 0
    lines = run("info", tmp_path / "f.h5").stdout.splitlines()
    assert len([line for line in lines if line.startswith("a\\nclass  ")]) == 1
    assert len([line for line in lines if line.startswith(f"a\\nclass/bad {SHOWN}  not-an-image  it is no ")]) == 1
    assert all(line.isprintable() or "\ufffd" in line for line in lines)


def test_errors_are_one_line(tmp_path: Path) -> None:
    result = run("info", tmp_path / "no\nsuch \x1b[2J.h5")
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1
    assert "no\\nsuch \\x1b[2J.h5'" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="elsewhere names are text in themselves")
def test_an_old_locale_changes_no_name(pictures: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(pictures / "cat", photos / "kät")
    shutil.copytree(pictures / "dog", photos / "dog")
    old = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-m", "ffe", "scan", photos, "--json"], env=old, capture_output=True, check=True)
    assert [shown["name"] for shown in json.loads(done.stdout)["classes"]] == ["dog", "kät"]
    assert b"not valid text" not in done.stderr
