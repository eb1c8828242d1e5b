"""How the code is spread over packages and file names: what a stranger must keep in his head to find a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "ffe"
FILES = sorted(PACKAGE.rglob("*.py"))


def test_no_package_is_above_an_eighth() -> None:
    lines: Counter[str] = Counter()
    for file in FILES:
        lines[file.relative_to(PACKAGE).parts[0]] += file.read_bytes().count(b"\n")
    assert {name: count for name, count in lines.items() if count > lines.total() / 8} == {}


def test_at_most_five_names_stand_twice() -> None:
    """A command has its options in ``cli/X.py`` and its work in ``commands/X.py``: that is one name, the rule of the house."""
    commands = {file.stem for file in FILES if file.parent.name == "commands"}
    mirrored = {file.stem for file in FILES if file.parent.name == "cli"} & commands
    names = Counter(file.stem for file in FILES if not (file.parent.name == "cli" and file.stem in mirrored))
    twice = {name for name, count in names.items() if count > 1} - {"__init__", "base"}
    assert len(twice) <= 5, sorted(twice)


def test_a_command_is_where_its_name_is() -> None:
    """Every command has a file of its name; what ``commands/`` holds beside the commands belongs to one of them."""
    from ffe.cli import COMMANDS

    there = {file.stem for file in FILES if file.parent.name == "cli"}
    assert {name.replace("-", "_") for name in COMMANDS} <= there
    others = {file.stem for file in FILES if file.parent.name == "commands"} - set(COMMANDS) - {"__init__"}
    assert {name for name in others if name.split("_")[0] not in COMMANDS} == set()


def test_no_list_of_names_is_searched_for_one_after_another() -> None:
    """Of thousands of classes that takes the square of their number; a dict has their numbers in one pass."""
    assert [file.name for file in FILES if "names.index(" in file.read_text("utf-8")] == []
