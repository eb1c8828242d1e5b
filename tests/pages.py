"""README.md and docs/: their blocks, and whether what a command prints is what they show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
FORGETS = ROOT / "docs" / "privacy.md"  # its commands take rows out of files that the other pages use, so it comes last
PAGES = [README, *sorted({*(ROOT / "docs").rglob("*.md")} - {FORGETS}), FORGETS]

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language and lines, and the lines of the ``text`` block that stands right behind it."""

    language: str
    text: str
    shown: list[str]


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    """Yield the blocks of some languages in their order."""
    text = page.read_text("utf-8")
    found = list(_BLOCK.finditer(text))
    for match, behind in zip(found, [*found, None][1:], strict=True):
        if match[1] in languages:
            follows = behind and behind[1] == "text" and not text[match.end() : behind.start()].strip()
            yield Block(match[1], match[2], behind[2].splitlines() if behind and follows else [])


def missing(shown: list[str], printed: str) -> list[str]:
    """Return the lines of a page that were not printed in this order, whatever their figures.

    Numbers, units, and which head won with which parameters depend on the photos
    and on the machine. A line may be cut off at its end, and ``…`` stands for anything.
    """
    lines = [_shape(line) for line in printed.splitlines()]
    absent = []
    for line in filter(str.strip, shown):
        pattern = re.compile(re.escape(_shape(line)).replace("…", ".*"))
        place = next((i for i, each in enumerate(lines) if pattern.match(each)), None)
        if place is None:
            absent.append(line)
        else:
            lines = lines[place + 1 :]
    return absent


def _shape(line: str) -> str:
    line = re.sub(r"(?:(?<=\s)-)?\d+(?:[.,:]\d+)*", "0", line)
    line = re.sub(r"\b(?:svm|logistic|dense|forest)(?=: chosen of)", "head", line)
    line = re.sub(r"\w+=\S+(?: \w+=\S+)*", "parameters", line)
    line = re.sub(r"0 (?:[KMG]i)?B\b", "0 B", re.sub(r"0 (?:h|min)\b(?: 0 (?:min|s)\b)?", "0 s", line))
    return re.sub(r"█+", "█", " ".join(line.split()))
