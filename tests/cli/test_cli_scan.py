"""``ffe scan``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from ffe.cli import cli
from ffe.cli.scan import bar_text


@pytest.fixture
def source(pictures: Path, tmp_path: Path) -> Path:
    """Eight cats, one of them twice; four dogs; one file that is no picture."""
    folder = tmp_path / "photos"
    for kind, count in (("cat", 8), ("dog", 4)):
        (folder / kind).mkdir(parents=True)
        for file in sorted((pictures / kind).iterdir())[:count]:
            shutil.copy(file, folder / kind)
    shutil.copy(folder / "cat" / "cat_000.png", folder / "cat" / "again.png")
    (folder / "dog" / "bad.jpg").write_bytes(b"no picture")
    return folder


def test_text(source: Path) -> None:
    result = CliRunner().invoke(cli, ["scan", str(source), "--backbone", "mobilenet"])
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("photos     13 of 14 files (class folders), ")
    for line in (
        "formats    PNG 13",
        "width      48 to 48, median 48",
        "for        mobilenet at 224x224",
        "class  photos  unreadable",
        f"cat         9           0  {'█' * 30}",
        f"dog         4           1  {'█' * 13}▍",
        "dog/bad.jpg   not-an-image  it is no JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, JPEG 2000 or PNM picture",
        "the same file  cat/again.png, cat/cat_000.png",
        "warning  1 file cannot be read (1 not-an-image: 'dog/bad.jpg'), and extraction will skip it; mend or",
    ):
        assert line in lines, line
    assert max(map(len, lines)) <= 100


def test_json_is_one_object_and_all_of_stdout(source: Path) -> None:
    result = CliRunner().invoke(cli, ["scan", str(source), "--size", "64x96", "--json"])
    value = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert (value["photos"], value["size"], value["backbone"]) == (13, [64, 96], "efficientnetlite0")
    assert [c["photos"] for c in value["classes"]] == [9, 4]


def test_report_is_written_and_named_on_stderr(source: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["scan", str(source), "--report", str(tmp_path / "scan.html"), "--json"])
    assert json.loads(result.stdout)["files"] == 14
    assert result.stderr == f"the page is in '{tmp_path / 'scan.html'}'\n"
    text = (tmp_path / "scan.html").read_text("utf-8")
    assert "The photos of photos" in text
    assert text.count("data:image/jpeg") == 14  # eight cats, four dogs, and the copies, one of which is a sample as well


def test_strict_leaves_with_1_where_files_cannot_be_read(source: Path) -> None:
    assert CliRunner().invoke(cli, ["scan", str(source), "--strict"]).exit_code == 1
    (source / "dog" / "bad.jpg").unlink()
    result = CliRunner().invoke(cli, ["scan", str(source), "--strict"])
    assert result.exit_code == 0
    assert "unreadable" not in result.stdout


def test_refusals_are_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["scan", str(tmp_path / "none")])
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"ffe: There is no file or folder '{tmp_path / 'none'}'; check the path.\n"


def test_long_lists_are_cut_and_it_is_said(pictures: Path, tmp_path: Path) -> None:
    for i in range(45):
        (tmp_path / f"class {i:02}").mkdir()
        shutil.copy(pictures / "cat" / f"cat_{i % 20:03}.png", tmp_path / f"class {i:02}")
        if i < 25:
            (tmp_path / f"class {i:02}" / "bad.jpg").write_bytes(b"no picture")
    text = CliRunner().invoke(cli, ["scan", str(tmp_path)]).stdout
    assert "the 20 largest and the 20 smallest of 45 classes; --json lists all" in text
    assert "and 5 more; --json lists all" in text
    assert text.count("not-an-image  ") == 20


def test_sound_photos(pictures: Path) -> None:
    result = CliRunner().invoke(cli, ["scan", str(pictures), "--backbone", "fake"])
    assert result.stdout.endswith("\n\nNothing stands in the way of training on these photos.\n")


@pytest.mark.parametrize(("share", "text"), [(0.0, ""), (1.0, "██"), (0.5, "█"), (0.0625, "▏"), (0.99, "██")])
def test_bars(share: float, text: str) -> None:
    assert bar_text(share, 2) == text


def test_bars_where_there_are_no_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    assert bar_text(0.5, 4) == "##"


def test_progress_of_a_slow_scan(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from ffe.cli import progress as shown

    monkeypatch.setattr(shown, "PLAIN_SECONDS", 0.0)
    with shown.Display() as display:
        display.count("files", 3, 10)
    assert capsys.readouterr().err == "3/10 files\n"


def test_all_faults_of_a_list_are_shown_at_once(pictures: Path, tmp_path: Path) -> None:
    names = [f"{kind}/{kind}_{i:03}.png" for kind in ("cat", "dog") for i in range(3)]
    path = tmp_path / "list.csv"
    lines = [*(f"{pictures / name},{name[:3]}" for name in names), f"{pictures / names[0]},dog", "gone.png,cat", "a,b.png,cat"]
    path.write_text("\n".join(["path,label", *lines]))
    result = CliRunner().invoke(cli, ["scan", str(path), "--json"])
    assert (result.exit_code, result.stderr) == (0, "")
    value = json.loads(result.stdout)
    assert value["photos"] == 6
    assert [(finding["level"], finding["lines"]) for finding in value["findings"]] == [("refused", [8]), ("refused", [10])]
    assert [(file["path"], file["line"]) for file in value["skipped"]] == [("gone.png", 9)]
    assert [advice["text"] for advice in value["advice"]][:2] == [finding["text"] for finding in value["findings"]]
    text = " ".join(CliRunner().invoke(cli, ["scan", str(path)]).stdout.split())
    assert "gone.png missing no such file (line 9)" in text
    assert f"refused Line 8 of '{path}' gives '{pictures / names[0]}' the label 'dog', and line 2 the label 'cat'" in text
    assert CliRunner().invoke(cli, ["scan", str(path), "--strict"]).exit_code == 1
    refused = CliRunner().invoke(cli, ["extract", str(path), "-o", str(tmp_path / "f.h5"), "--backbone", "fake"])
    assert (refused.exit_code, refused.stderr.splitlines()[-1][:14]) == (3, "ffe: Line 8 of")
