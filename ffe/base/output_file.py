"""Where an output is to go, and how a page or a picture gets there: whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from ffe.base.atomic import atomic_write
from ffe.base.file_access import takes_files, unopened, unwritable
from ffe.base.text import FILE_ENDINGS, suffix_refusal
from ffe.errors import FfeError, ReportError, unwritten

_EXAMPLES = {"features": "features.h5", "model": "model.ffe"}

PAGE_MARK = b'<meta name="generator" content="ffe">'  # by which a page of ours is known
PICTURE_MARK = b"ffe preview"
_END_BYTES = 65_536  # a mark stands near the beginning, or the end


def check_folder(path: Path, what: str, wrong: type[FfeError]) -> None:
    """Make sure that ``features`` or a ``model`` can be written to a place, whatever is there: its ending and its folder."""
    if (refusal := suffix_refusal(path, what)) is not None:
        raise wrong(refusal)
    folder = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent
    if path.is_dir() or not folder.is_dir():
        problem = "is a folder" if path.is_dir() else f"lies in a folder that does not exist ('{folder}')"
        raise wrong(f"The output '{path}' {problem}; name a file in an existing folder, such as {_EXAMPLES[what]}.")
    if not takes_files(folder):
        raise wrong(unwritable(folder, path.exists()))


def check_output_folder(folder: Path, what: str, wrong: type[FfeError], *, option: str = "-o", holds: str = "") -> None:
    """Make sure that a folder, which sentences call ``what`` (``output``, ``cache``), is no file, nor named like one."""
    if folder.exists() and not folder.is_dir():
        raise wrong(f"The {what} '{folder}' is a file; name a folder{holds} with {option}.")
    if not folder.exists() and folder.suffix.lower() in FILE_ENDINGS:
        place = folder.with_suffix("")
        raise wrong(f"The {what} is written as a folder, not as '{folder.suffix}'; name the {what} '{place}'.")


def check_output(
    path: str | os.PathLike[str], what: str = "report", example: str = "report.html", mark: bytes = PAGE_MARK
) -> Path:
    """Return where a report is to go; a ReportError says why it cannot. ``mark`` is in a file that may be replaced."""
    place = Path(path)
    if (refusal := suffix_refusal(place, what)) is not None:
        raise ReportError(refusal)
    if place.is_dir():
        raise ReportError(f"The {what} '{place}' is a folder; give the name of a file, such as '{place / example}'.")
    if not place.parent.is_dir():
        raise ReportError(
            f"The {what} '{place}' lies in a folder that does not exist ('{place.parent}'); create it, or choose another place."
        )
    if not takes_files(place.parent):
        raise ReportError(unwritable(place.parent, place.exists(), what))
    try:
        replaceable = not place.is_file() or may_be_replaced(place, mark)
    except OSError as error:
        raise ReportError(unopened(place, error)) from error
    if not replaceable:
        raise ReportError(f"'{place}' exists and is no {what} of ffe, so it is not replaced; choose another name for the {what}.")
    return place


def may_be_replaced(place: Path, mark: bytes) -> bool:
    """Return whether a file is empty, or has a mark of ffe near its beginning or end."""
    size = place.stat().st_size
    with place.open("rb") as file:
        start = file.read(_END_BYTES)
        file.seek(max(0, size - _END_BYTES))
        return size == 0 or mark in start or mark in file.read()


def write_output(place: Path, content: bytes, what: str = "report") -> int:
    """Write a file whole, or not at all; return its bytes. A ReportError says why it cannot be written."""
    try:
        with atomic_write(place, durable=False) as temporary:
            return temporary.write_bytes(content)
    except OSError as error:
        raise ReportError(unwritten(place, error, what)) from error
