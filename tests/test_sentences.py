"""Sentences with counts are right for 0, 1 and 2, because one helper makes all of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffe.base.text import counted
from ffe.cli.show import estimate_text, rows_text
from ffe.extraction.estimate import Estimate
from ffe.wording.results import kept_text, stage_text

PACKAGE = Path(__file__).resolve().parent.parent / "ffe"
NOUNS = (
    *("photo", "image", "picture", "row", "class", "file", "group", "trial", "epoch", "view", "fold", "feature", "pair", "tile"),
    *("mistake", "name", "label", "line", "path", "fit", "folder", "road", "layer", "head", "machine", "core", "thread", "batch"),
    *("model", "part", "copy", "member", "round", "seed", "value", "column", "change", "step", "warning", "problem", "entry"),
)
PLURALS = {noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith(("s", "ch")) else "s") for noun in NOUNS}
# a number, a word or two at the most, and a noun of several
IN_PYTHON = re.compile(rf"^ (?:(?!of )[a-z-]+ ){{0,2}}?({'|'.join(sorted(PLURALS))})\b")
IN_TEMPLATE = re.compile(rf"\{{\{{([^{{}}\"]*)\}}\}} (?:[a-z-]+ ){{0,2}}?({'|'.join(sorted(PLURALS))})\b")
NOT_A_COUNT = re.compile(
    r"\b(counted|percent|share_text|rate|path|kind|name|few|THIN|text|what|[A-Z_]+_VARIABLE|has|how)\b|'s' if|== 1"
)

# more than one, always: what the sentence belongs to is not said of one
SEVERAL = {
    "count",  # "All 12 trials": one has a sentence of its own
    "mistakes.count",  # likewise
    "max(2, train)",
    "wanted",  # text, such as -3
    "folds",  # at least 2
    "2 * _COUNT",  # of the demo
    "len(by_size)",  # classes of a table that is cut
    "len(rows)",  # classes of a matrix that is cut
    "total",  # "3/40 images decoded", on a line that is replaced
    "progress.total",
    "step.total",
    "math.prod(shape)",  # a header that is damaged
    "EXACT_ROWS",  # of a support vector machine
}


SHORT = "photo|image|row|file|group|view|layer|trial"
WRONG = re.compile(rf"\b1 (?:[a-z-]+ )?(?:{SHORT})s\b|\b[02] (?:{SHORT})\b")


def test_counted_is_right_for_0_1_and_2() -> None:
    assert [counted(n, "photo") for n in (0, 1, 2, 1234)] == ["0 photos", "1 photo", "2 photos", "1,234 photos"]
    assert [counted(n, "copy", "copies") for n in range(3)] == ["0 copies", "1 copy", "2 copies"]
    assert [counted(n, "photo was", "photos were") for n in range(3)] == ["0 photos were", "1 photo was", "2 photos were"]


@pytest.mark.parametrize("n", range(3))
def test_sentences_are_right(n: int) -> None:
    estimate = Estimate(Path("f.h5"), n, n, n, n, n, n, n, None, None, 0, 0, None, n)
    stage = {"layers": n, "cut": "", "first": "a"}
    said = [
        *estimate_text(estimate),
        rows_text(n, n, None),
        kept_text({"stage": 1, "epoch": 1}, n),
        kept_text({}, n, unchanged=True),
        stage_text(stage, "b"),
    ]
    assert [sentence for sentence in said if WRONG.search(sentence)] == []


def found_in(file: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every sentence that puts a noun of several behind a number of its own."""
    text = file.read_text("utf-8")
    if file.suffix != ".py":
        for number, line in enumerate(text.splitlines(), 1):
            for found in IN_TEMPLATE.finditer(line):
                if found[1].strip() not in SEVERAL and "counted" not in found[1]:
                    yield number, found[0]
        return
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, after in zip(node.values, node.values[1:], strict=False):
            if not (isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)):
                continue
            counts = ast.unparse(value.value)
            if IN_PYTHON.match(str(after.value)) and counts not in SEVERAL and not NOT_A_COUNT.search(counts):
                yield value.lineno, f"{{{counts}}}{after.value}"


FILES = sorted(file for pattern in ("*.py", "*.html") for file in PACKAGE.rglob(pattern))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_counts_are_made_by_the_one_helper(file: Path) -> None:
    assert [f"{line}: {text}" for line, text in found_in(file)] == []
