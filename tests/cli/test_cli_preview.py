"""``ffe preview``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from ffe.cli import cli
from ffe.errors import SpecError
from ffe.images.augment import Change
from ffe.images.augment_text import parse_augment


def test_text_is_one_line(pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "grid.png"
    one = ["preview", str(pictures / "cat" / "cat_000.png"), "--augment", "flip,rotate=15", "-o", str(output)]
    result = CliRunner().invoke(cli, one)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{output}: 'cat_000.png' and 19 views\n", "")
    with Image.open(output) as sheet:
        assert sheet.width > 5 * 176
    result = CliRunner().invoke(cli, ["preview", str(pictures), "--augment", "flip", "--views", "1", "-o", str(output)])
    assert result.stdout == f"{output}: 2 pictures and 1 view of each\n"


def test_json_names_every_view(pictures: Path, tmp_path: Path) -> None:
    arguments = ["--augment", "vflip,seed=3", "--size", "32x48", "--views", "4", "--image", "2", "--json"]
    result = CliRunner().invoke(cli, ["preview", str(pictures), "-o", str(tmp_path / "g.jpg"), *arguments])
    assert result.exit_code == 0
    value = json.loads(result.stdout)
    (row,) = value.pop("rows")
    assert value == {"output": str(tmp_path / "g.jpg"), "augment": "vflip,seed=3", "size": [32, 48]}
    assert (row["path"], row["label"], len(row["views"])) == ("cat/cat_001.png", "cat", 4)
    assert set(row["views"]) == {"unchanged", "upside down"}  # the words of the picture


def test_refusals_are_one_sentence(pictures: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["preview", str(pictures), "--augment", "rotat", "-o", str(tmp_path / "g.png")])
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("ffe: There is no change 'rotat' for --augment; known are flip, vflip,")
    assert result.stderr.count("\n") == 1
    assert CliRunner().invoke(cli, ["preview", str(pictures), "-o", "g.png"]).exit_code == 2


def test_views_are_limited_as_the_help_says(pictures: Path, tmp_path: Path) -> None:
    from ffe.commands.preview import MOST_VIEWS

    assert f"[1<=x<={MOST_VIEWS}]" in " ".join(CliRunner().invoke(cli, ["preview", "--help"]).stdout.split())
    options = ["--augment", "flip", "-o", str(tmp_path / "g.png"), "--views", str(MOST_VIEWS + 1)]
    result = CliRunner().invoke(cli, ["preview", str(pictures), *options])
    assert result.exit_code == 2
    assert f"{MOST_VIEWS + 1} is not in the range 1<=x<={MOST_VIEWS}." in result.stderr


def test_help_names_every_limit() -> None:
    text = CliRunner().invoke(cli, ["preview", "--help"]).stdout
    for name, limit in (("zoom", 10), ("rotate", 180), ("shear", 60)):
        (line,) = (line for line in text.splitlines() if line.strip().startswith(f"{name}["))
        assert re.search(rf" {limit}(;|$)", line)
        parse_augment(f"{name}={limit}-{limit}" if name == "zoom" else f"{name}={limit}")
        with pytest.raises(SpecError):
            parse_augment(f"{name}={limit + 1}-{limit + 1}" if name == "zoom" else f"{name}={limit + 1}")


def test_help_says_what_a_zoom_is_called_on_the_sheet() -> None:
    assert Change(zoom=0.5).words == ("zoom ×2.00",)
    assert "half of the sides is what a preview calls zoom ×2.00" in CliRunner().invoke(cli, ["preview", "--help"]).stdout


def test_help_names_every_change_with_its_default() -> None:
    from ffe.images.augment_text import DEFAULTS, augment_text, parse_augment

    text = CliRunner().invoke(cli, ["preview", "--help"]).stdout
    for name, value in DEFAULTS.items():
        shown = augment_text(parse_augment(name)).removeprefix(name)
        assert (name in text) if value is True else (f"{name}[{shown}]" in text), name
