"""Under which name ffe is installed: on the package index, "ffe" is somebody else's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ffe.errors import missing

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TEXTS = [
    ROOT / "README.md",
    ROOT / "pyproject.toml",
    *sorted((ROOT / "ffe").rglob("*.py")),
    *sorted((ROOT / "notebooks").glob("*")),
]

FOREIGN = re.compile(r"ffe\[[a-z]+[],]|pip3? install [^`\n]*?(?<![-./\w])ffe(?![-./\w])")


def test_no_message_and_no_page_installs_the_package_of_somebody_else() -> None:
    assert [str(path) for path in TEXTS if path.is_file() and FOREIGN.search(path.read_text("utf-8"))] == []


@pytest.mark.parametrize("text", ['pip install "ffe[zstd]"', "pip install ffe", "pip install -U 'ffe'", "the extra ffe[zstd]."])
def test_the_test_sees_what_it_forbids(text: str) -> None:
    assert FOREIGN.search(text)


def test_the_extras_are_those_of_this_package() -> None:
    assert PROJECT["name"] == "fast-feature-extraction"
    assert PROJECT["scripts"] == {"ffe": "ffe.cli:main"}
    named = {each.partition("[")[0] for group in PROJECT["optional-dependencies"].values() for each in group if "[" in each}
    assert PROJECT["name"] in named
    assert "ffe" not in named


@pytest.mark.parametrize(
    ("packages", "instead", "sentence"),
    [
        (("a",), "", "X needs the package a, which is not installed; install it with 'pip install a'."),
        (("a",), "do b", "X needs the package a, which is not installed; install it with 'pip install a', or do b."),
        (("a", "b"), "", "X needs the packages a and b, which are not installed; install them with 'pip install a b'."),
    ],
)
def test_what_is_missing_names_itself_and_the_command_that_brings_it(
    packages: tuple[str, ...], instead: str, sentence: str
) -> None:
    assert missing("X", *packages, instead=instead) == sentence
