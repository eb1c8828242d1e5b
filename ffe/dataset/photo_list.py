"""A CSV of photos that a person fills in or corrects, and ``ffe extract`` takes back as labels."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ffe.base.output_file import check_output, write_output
from ffe.base.text import FORMULA_SIGNS, counted, overwrite_refusal
from ffe.errors import ReportError, SourceError
from ffe.images.file_names import is_text, printable
from ffe.images.image_handle import ImageFile, ImageHandle

_WHAT = "list of photos"


def check_list(
    output: str | os.PathLike[str], header: Sequence[str], source: Path | str, *, overwrite: bool, to_fill: bool = False
) -> Path:
    """Return where a list with such columns is to go; a ReportError says why it cannot. ``source`` is read meanwhile.

    One ``to_fill`` is never replaced once somebody has written in its column ``label``.
    """
    place = Path(output)
    if place.suffix.lower() != ".csv":
        raise ReportError(f"'ffe extract' takes a list of photos back as a CSV; name the output '{place.with_suffix('.csv')}'.")
    if isinstance(source, Path) and place.exists() and source.exists() and place.samefile(source):
        raise ReportError(f"'{place}' is the list that is read, so it is not replaced; choose another output.")
    check_output(place, _WHAT, "next.csv", ",".join(header).encode())
    if to_fill:
        _check_unfilled(place)
    if (refusal := overwrite_refusal(place, _WHAT, overwrite=overwrite)) is not None:
        raise ReportError(refusal)
    return place


def _check_unfilled(place: Path) -> None:
    """Raise a ReportError if a list is there in whose column ``label`` somebody has written."""
    try:
        with place.open(encoding="utf-8-sig", newline="") as file:
            filled = sum(bool((row.get("label") or "").strip()) for row in csv.DictReader(file))
    except (FileNotFoundError, UnicodeDecodeError, csv.Error):
        return
    if filled:
        raise ReportError(
            f"'{place}' has {counted(filled, 'label')} filled in, so it is not replaced; give it to 'ffe extract' first, "
            "and name another output."
        )


def write_list(place: Path, header: Sequence[str], files: Sequence[ImageFile], rows: Iterable[Sequence[str]]) -> None:
    """Write a list, all of it or nothing: a line for each file, whose path stands before the other values of its row.

    Paths are relative to the folder of the list. One that a spreadsheet would take for a formula gets ``./`` in front.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for name, row in zip(listed_names(files, place.parent), rows, strict=True):
        writer.writerow((f"./{name}" if name.startswith((*FORMULA_SIGNS, " ")) else name, *row))
    write_output(place, file.getvalue().encode(), _WHAT)


def listed_names(files: Sequence[ImageFile], folder: Path) -> list[str]:
    """Return each file's path relative to a folder; the whole path where links give two files the same."""
    root, names, real = os.path.realpath(folder), dict[str, ImageFile](), dict[Path, str]()
    for file in files:
        if isinstance(file, ImageHandle):
            name = file.listed_in(root)
        else:
            if file.parent not in real:
                real[file.parent] = os.path.realpath(file.parent)
            name = os.path.relpath(os.path.join(real[file.parent], file.name), root)
            name = str(file.absolute()) if name in names else name
        if not is_text(name):
            raise SourceError(
                f"The name '{printable(name)}' is not valid text, which a CSV cannot hold; rename the file or folder."
            )
        names[name] = file
    return list(names)
