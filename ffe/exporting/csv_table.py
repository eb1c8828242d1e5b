"""CSV: a line for each row, a column for each feature; what is said of the features goes into a JSON file beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import BinaryIO

from ffe.base.text import FORMULA_SIGNS, no_formula
from ffe.exporting.feature_table import FeatureTable, TableFormat

_DIGITS = {"float16": 5, "float32": 9}  # that give the same number again


def write(table: FeatureTable, file: BinaryIO) -> None:
    """Write UTF-8, each feature with as many digits as give the same number again; no text begins as a formula does."""
    dims = table.shape[1]
    text = io.TextIOWrapper(file, "utf-8", newline="")
    text.write(f"{_line((*table.texts, *table.numbers))},{','.join(f'feature_{i}' for i in range(dims))}\n")
    pattern = ",".join([f"%.{_DIGITS[table.dtype.name]}g"] * dims)  # four times as fast as a writer of single fields
    (paths, *others), numbers = table.texts.values(), table.numbers.values()
    for rows in table.slices():
        for row, features in zip(range(rows.start, rows.stop), table.features(rows), strict=True):
            path = f"./{paths[row]}" if paths[row].startswith(FORMULA_SIGNS) else paths[row]
            names = _line((path, *(no_formula(column[row]) for column in others), *(column[row] for column in numbers)))
            text.write(f"{names},{pattern % tuple(features.tolist())}\n")
    text.flush()
    text.detach()


def _line(fields: Iterable[object]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(fields)
    return line.getvalue()[:-1]


CSV = TableFormat("csv", ".csv", write, sidecar=True)
