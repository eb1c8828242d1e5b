"""What the README tells people to type works, as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from ffe.backbones.catalog import CATALOG
from ffe.cli import COMMANDS, cli, options
from ffe.images.drawings import draw, draw_folder

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user would have it: photos, more_photos, new.jpg, and weights of MobileNet (random ones)."""
    from ffe.backbones.keras_build import build
    from ffe.backbones.resolve import make_spec

    folder = tmp_path_factory.mktemp("user")
    draw_folder(folder / "photos", 12)
    shutil.copytree(ROOT / "data" / "pictures", folder / "more_photos")
    draw("cat", 99).save(folder / "new.jpg")
    (folder / "weights").mkdir()
    spec, weights = make_spec("mobilenet", 224, "random")
    model = build(spec, weights)  # not Keras's own random ones: their features fade away, and int8 would be refused
    model.save_weights(folder / "weights" / CATALOG["mobilenet"].weights_file)
    return folder


@pytest.mark.usefixtures("quick_measures")
def test_every_command_of_the_readme_runs_and_so_does_its_python(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(photos / "weights"))
    monkeypatch.setitem(options._UNITS, "s", 0.2)  # searches by time may be shorter here
    lines = [line for block in blocks("console") for line in block.splitlines()]
    assert len(lines) >= 5
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "ffe"
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, f"{line}\n{result.output}"
        assert result.stdout.strip(), line
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})


def test_first_two_shell_blocks_are_all_a_newcomer_needs() -> None:
    first, second = blocks("sh")[:2]
    assert "pip install" in first
    assert first.rstrip().endswith("ffe demo")  # tests/cli/test_cli_demo.py runs it
    assert [line.split()[0] for line in second.splitlines()] == ["pip", "python"]


def test_numbers_and_commands_that_the_readme_names() -> None:
    assert f"lists {len(CATALOG)} with" in README
    for command in COMMANDS:
        assert f"ffe {command}" in README or f"`{command}`" in README, command


def test_data_folder_holds_what_its_script_draws() -> None:
    import numpy as np
    from PIL import Image

    files = sorted((ROOT / "data" / "pictures").glob("*/*.png"))
    assert len(files) == 24
    for file in files:
        kind, number = file.stem.split("_")
        drawn = np.asarray(draw(kind, int(number)), np.int16)  # type: ignore[arg-type]
        with Image.open(file) as stored:
            difference = np.abs(np.asarray(stored.convert("RGB"), np.int16) - drawn)
        assert difference.mean() < 1, file  # another Pillow may round its resize differently


def test_readme_has_its_figures() -> None:
    assert "FIGURES" not in README
