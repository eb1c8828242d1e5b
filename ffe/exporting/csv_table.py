"""CSV: a line for each row, a column for each feature; what is said of the features goes into a JSON file beside it."""

from __future__ import annotations

import csv
import io
from typing import BinaryIO

from ffe.base.text import FORMULA_SIGNS, no_formula
from ffe.exporting.feature_table import FeatureTable, TableFormat


def write(table: FeatureTable, file: BinaryIO) -> None:
    """Write UTF-8, each feature with as many digits as give the same number again; no text begins as a formula does."""
    text = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*table.texts, *table.numbers, *(f"feature_{i}" for i in range(table.shape[1]))))
    (paths, *others), numbers = table.texts.values(), table.numbers.values()
    for rows in table.slices():
        for row, features in zip(range(rows.start, rows.stop), table.features(rows), strict=True):
            path = f"./{paths[row]}" if paths[row].startswith(FORMULA_SIGNS) else paths[row]
            names = (no_formula(column[row]) for column in others)
            writer.writerow((path, *names, *(column[row] for column in numbers), *features.astype(str)))
    text.flush()
    text.detach()


CSV = TableFormat("csv", ".csv", write, sidecar=True)
