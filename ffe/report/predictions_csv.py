"""What a model says of many pictures, as a CSV that spreadsheets open safely."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from ffe.base.output_file import check_output, write_output
from ffe.base.text import FORMULA_SIGNS, no_formula

_HEADER = ("path", "label", "sure")
_MARK = ",".join(_HEADER).encode()  # by which such a file is known, and may be replaced


def check_answers(path: str | os.PathLike[str]) -> Path:
    """Return where answers are to go, before hours of work are spent on them; a ReportError says why they cannot."""
    return check_output(path, "table of answers", "answers.csv", _MARK)


class Answers:
    """Collects answers, and writes them: a line for each picture, UTF-8; bytes of names that are not stay as they are.

    Columns: ``path``, ``label`` (what the model says; empty where the picture cannot be read), ``sure`` (true or false), the
    extra column (``truth`` or ``error``), and ``probability_NAME`` of every class, in [0, 1]. A spreadsheet takes a cell that
    begins with ``=``, ``+``, ``-`` or ``@`` for a formula: such a path gets ``./`` in front, such a label an apostrophe.
    """

    def __init__(self, path: Path, class_names: Sequence[str], extra: str) -> None:
        self._path = path
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow((*_HEADER, extra, *(f"probability_{name}" for name in class_names)))
        self._empty = [""] * len(class_names)

    def add(self, path: str, label: str | None, sure: bool, extra: str | None, probabilities: Sequence[float]) -> None:
        """Take in one answer; probabilities stand in the order of the classes, and are empty where there are none."""
        said = (no_formula(label or ""), "true" if sure else "false", no_formula(extra or ""))
        self._writer.writerow((f"./{path}" if path.startswith(FORMULA_SIGNS) else path, *said, *(probabilities or self._empty)))

    def write(self) -> None:
        """Put the file in its place: all of it, or nothing."""
        write_output(self._path, self._text.getvalue().encode("utf-8", "surrogateescape"), "table of answers")
