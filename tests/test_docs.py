"""What README.md and docs/ tell people to type works, and prints what they show."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ffe.backbones.catalog import CATALOG
from ffe.cli import COMMANDS, cli, options
from ffe.images.drawings import draw, draw_folder
from tests.pages import PAGES, README, ROOT, blocks, missing

TEXT = {page: page.read_text("utf-8") for page in PAGES}
GUIDES = "\n".join(text for page, text in TEXT.items() if page.parent.name != "reference")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user would have it: photos, more_photos, new.jpg, and weights of MobileNet (random ones)."""
    from ffe.backbones.keras_build import build
    from ffe.backbones.resolve import make_spec

    folder = tmp_path_factory.mktemp("user")
    draw_folder(folder / "photos", 12)
    shutil.copytree(ROOT / "data" / "pictures", folder / "more_photos")
    draw("dog", 99).save(folder / "new.jpg")
    (folder / "new_photos").mkdir()
    for number in range(100, 104):
        draw("cat" if number % 2 else "dog", number).save(folder / "new_photos" / f"{number}.jpg")
    draw("cat", 99).save(folder / "photos" / "cat" / "anna.jpg")
    (folder / "weights").mkdir()
    spec, weights = make_spec("mobilenet", 224, "random")
    model = build(spec, weights)  # not Keras's own random ones: their features fade away, and int8 would be refused
    model.save_weights(folder / "weights" / CATALOG["mobilenet"].weights_file)
    return folder


@pytest.mark.usefixtures("quick_measures", "quick_searches")
def test_every_command_runs_and_prints_what_is_shown_and_so_does_python(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(photos / "weights"))
    monkeypatch.setitem(options._UNITS, "s", 0.2)  # searches by time may be shorter here
    done: set[str] = set()
    for page in PAGES:
        for block in blocks(page, "console", "python"):
            if block.language == "python":
                exec(compile(block.text, str(page), "exec"), {})
                continue
            lines = block.text.splitlines()
            # a line that stands on several pages is run again only for what it prints
            printed = "".join(run(line) for line in lines if block.shown or line not in done)
            done.update(lines)
            assert missing(block.shown, printed) == [], f"{page}\n{printed}"


def run(line: str) -> str:
    """Run one line of a page, whose last part is a command of ffe; return all that it prints."""
    *before, command = line.split(" | ")
    given = subprocess.run(" | ".join(before), shell=True, check=True, capture_output=True).stdout if before else None
    program, *arguments = shlex.split(command)
    assert program == "ffe"
    result = CliRunner().invoke(cli, arguments, input=given)
    assert result.exit_code == 0, f"{line}\n{result.output}"
    assert result.stdout.strip(), line
    return result.output


def test_what_is_shown_is_compared() -> None:
    printed = "x.h5: 24 rows, in 1 min 5 s\nsvm: chosen of 3 trials\n  C=1 gamma=2\nTest on 6 images: 0.9; so few\n"
    shown = ["x.h5: 1,200 rows, in 11 s", "forest: chosen of 63 trials", "trees=100", "Test on 229 images: 1.0000"]
    assert missing(shown, printed) == []
    assert missing(["…: 1 rows"], printed) == []
    assert missing(["x.h5: 24 lines"], printed) == ["x.h5: 24 lines"]
    assert missing(["Test on 6 images", "x.h5: 24 rows"], printed) == ["x.h5: 24 rows"]


def test_readme_is_short_and_its_first_two_shell_blocks_are_all_a_newcomer_needs() -> None:
    assert len(TEXT[README].split()) <= 900
    first, second = (block.text for block in blocks(README, "sh"))
    assert "pip install" in first
    assert first.rstrip().endswith("ffe demo")  # tests/cli/test_cli_demo.py runs it
    assert [line.split()[0] for line in second.splitlines()] == ["pip", "python"]


def test_numbers_and_commands_that_pages_name() -> None:
    assert f"lists {len(CATALOG)} with" in GUIDES
    for command in COMMANDS:
        assert f"ffe {command}" in GUIDES, command


def test_figures_of_the_readme_are_results() -> None:
    rows = [line for line in TEXT[README].splitlines() if line.startswith("| ")][1:]
    figures = {figure for row in rows for figure in re.findall(r"\d+[.]\d+x?|\d+x|\d+ (?=test photos)", row)}
    assert len(figures) >= 8
    assert {figure for figure in figures if figure.strip() not in TEXT[ROOT / "docs" / "results.md"]} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", re.sub(r"^```.*?^```$", "", TEXT[page], flags=re.MULTILINE | re.DOTALL))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="no MkDocs Material on this machine; pip install -e '.[docs]'")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True))
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) == len(PAGES)  # the page of what is not found stands for README.md
    for page in pages:
        tags = re.findall(r"<(?:link|script|img|iframe|source)\b[^>]*>", page.read_text("utf-8"))
        assert [
            tag for tag in tags if re.search(r"(?:src|href)=[\"']?(?:https?:)?//", tag) and 'rel="canonical"' not in tag
        ] == []
        assert "mermaid" not in page.read_text("utf-8")  # its script would be fetched


@pytest.mark.parametrize("script", ["data/draw.py", "docs/images/draw.py"])
def test_scripts_that_draw_find_what_they_import(script: str) -> None:
    assert runpy.run_path(str(ROOT / script), run_name="imported")


def test_data_folder_holds_what_its_script_draws() -> None:
    files = sorted((ROOT / "data" / "pictures").glob("*/*.png"))
    assert len(files) == 24
    for file in files:
        kind, number = file.stem.split("_")
        drawn = np.asarray(draw(kind, int(number)), np.int16)  # type: ignore[arg-type]
        with Image.open(file) as stored:
            difference = np.abs(np.asarray(stored.convert("RGB"), np.int16) - drawn)
        assert difference.mean() < 1, file  # another Pillow may round its resize differently
