"""``ffe demo``, on a machine without a network, a home or weights of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from ffe.backbones.catalog import DEFAULT
from ffe.bundle.io import Bundle
from ffe.cli import cli
from tests.pages import README, blocks, missing

NEXT = [
    "ffe extract photos -o features.h5",
    "ffe tune features.h5 -o model.ffe --report report.html",
    "ffe predict model.ffe new.jpg",
]


def test_demo_goes_through_the_whole_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["demo"])
    assert result.exit_code == 0, result.stderr
    text = result.stdout
    shown = next(blocks(README, "sh")).shown
    assert shown
    assert missing(shown, text) == []
    assert "Drew 80 pictures of cats and dogs into 'ffe-demo/pictures'." in text
    assert "$ ffe extract ffe-demo/pictures -o ffe-demo/features.h5\n" in text
    assert "random" not in text + result.stderr
    assert "ffe-demo/features.h5: 80 rows, 0 skipped" in text
    assert ": chosen of " in text
    assert re.search(r"\nTest on \d+ images not seen before: accuracy ", text)
    assert "\nffe-demo/new.png: " in text
    end = text[text.index("It shows a dog.") :]
    assert "Drawn pictures are easy to tell apart, so these scores say nothing about photos." in end
    assert f"The report is a page for your browser: {tmp_path / 'ffe-demo' / 'report.html'}\n" in end
    assert [line.strip() for line in end.splitlines() if line.startswith("  ")] == NEXT
    assert "in 'ffe-demo'; delete that folder when you have seen it." in end
    assert "'ffe cache' shows and clears it." in end
    assert (tmp_path / "ffe-demo" / "report.html").is_file()
    bundle = Bundle(tmp_path / "ffe-demo" / "model.ffe")
    assert bundle.has_backbone
    assert bundle.manifest.spec.backbone.name == DEFAULT
    assert bundle.manifest.spec.backbone.weights == "file"
    assert bundle.manifest.evaluation["test"]["accuracy"] > 0.85
    assert {trial["head"] for trial in bundle.manifest.leaderboard} == {"logistic", "dense"}
    assert [file.name for file in tmp_path.iterdir()] == ["ffe-demo"]


def test_demo_does_not_write_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = CliRunner().invoke(cli, ["demo", "-o", str(tmp_path / "file")])
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"ffe: The output '{tmp_path / 'file'}' is a file; name a folder with --output.\n"
    assert (tmp_path / "file").read_text() == "mine"


def test_demo_leaves_a_folder_of_others_alone(tmp_path: Path) -> None:
    (tmp_path / "features.h5").write_text("mine")
    result = CliRunner().invoke(cli, ["demo", "-o", str(tmp_path)])
    assert result.exit_code == 3
    assert "has files that are not the demo's; name a new folder with --output." in result.stderr
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("features.h5", "mine")]
