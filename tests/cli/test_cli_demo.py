"""``ffe demo``, on a machine without weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from ffe.bundle.io import Bundle
from ffe.cli import cli


def test_demo_goes_through_the_whole_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["demo"])
    assert result.exit_code == 0, result.stderr
    text = result.stdout
    assert "Drew 80 pictures of cats and dogs into 'ffe-demo/pictures'." in text
    assert "going on with --weights random. Real work needs real weights." in text
    assert "$ ffe extract ffe-demo/pictures -o ffe-demo/features.h5 --backbone mobilenet_0.25 --size 128 --weights random" in text
    assert "ffe-demo/features.h5: 80 rows, 0 skipped" in text
    assert ": the best of " in text
    assert "\nTest on 17 images not seen before: accuracy " in text
    assert "\nffe-demo/new.png: " in text
    assert "THE BACKBONE IS UNTRAINED" in result.stderr
    bundle = Bundle(tmp_path / "ffe-demo" / "model.ffe")
    assert bundle.has_backbone
    assert {trial["head"] for trial in bundle.manifest.leaderboard} == {"logistic", "dense"}
    assert [file.name for file in tmp_path.iterdir()] == ["ffe-demo"]


def test_demo_does_not_write_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = CliRunner().invoke(cli, ["demo", "-o", str(tmp_path / "file")])
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"ffe: '{tmp_path / 'file'}' is a file; name a folder with --output.\n"
    assert (tmp_path / "file").read_text() == "mine"


def test_demo_leaves_a_folder_of_others_alone(tmp_path: Path) -> None:
    (tmp_path / "features.h5").write_text("mine")
    result = CliRunner().invoke(cli, ["demo", "-o", str(tmp_path)])
    assert result.exit_code == 3
    assert "has files that are not the demo's; name a new folder with --output." in result.stderr
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("features.h5", "mine")]
