"""A CSV file that lists images -> its rows, each with its line; and what is wrong with it, all of it."""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

from ffe.base.columns import Texts
from ffe.base.digests import DigestIndex, key_of
from ffe.base.file_access import unopened
from ffe.base.text import composed, counted, few
from ffe.base.urls import Place, is_url, local_file, url_below, url_parent
from ffe.errors import SourceError
from ffe.images.column_names import column_findings
from ffe.images.file_names import on_disk
from ffe.images.records import SPLIT_NAMES, Finding, LabelledPath, LabelledPaths
from ffe.images.url_source import ImageObject, read_text_at
from ffe.redaction import redacted

COLUMNS = ("path", "label", "split", "group")
_DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_MOST_BYTES = 1 << 30
_MARK_BYTES = 4  # of the longest
_ANY_HOST = "https://host/"
_FEW = 5
_SHOWN_BYTES = 80

# the longer first: the mark of UTF-16 is the start of that of UTF-32
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class SignedUrls(dict[str, str]):
    """Signed URLs of images, by their names in a list of ffe's own that has these alone: it is read with them while this is held.

    ``files`` are the images, ``path`` is where the list lies.
    """

    def __init__(self, path: Path, files: Iterable[object]) -> None:
        images = (file for file in files if isinstance(file, ImageObject) and file.path is None)
        super().__init__({image.name: image.url for image in images if image.url != image.name})
        _signed[os.path.abspath(path)] = self


_signed = WeakValueDictionary[str, SignedUrls]()


def encoding_of(head: bytes) -> str | None:
    """Return which encoding the mark at the start of a text names, or None."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), None)


def read_list(path: Place, url: str = "") -> tuple[LabelledPaths, list[Finding]]:
    """Return the images of a CSV in its order, spelt as the disk spells them, and what is wrong with other lines.

    It is UTF-8, or UTF-16 with its mark. Of an image that is named twice, the first line counts. Its paths may be URLs; those
    of a list that lies at a ``url`` itself are below its folder.
    """
    with _opened(path) if isinstance(path, Path) else io.BytesIO(read_text_at(url, _MOST_BYTES)) as file:
        lines = _lines(path, file)
    first, delimiter, header = _header(path, lines)
    reader = _Reader(path, header, delimiter, url)
    reader.read(lines, first)
    return reader.images, reader.findings() + column_findings(path, header, labelled=True)


def read_rows(path: Path, rows: Iterator[list[str]]) -> tuple[LabelledPaths, list[Finding]]:
    """Return the images of a table whose first row names its columns, as ``read_list`` does; its first image has the number 1."""
    reader = _Reader(path, next(rows), ",", "")
    for number, row in enumerate(rows, 1):
        reader.take(number, row)
    return reader.images, reader.findings()


def _opened(path: Path) -> BinaryIO:
    if not path.is_file():
        raise SourceError(f"'{path}' is a pipe, a device or a socket, not a file; save the list as a CSV file.")
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise SourceError(f"The CSV '{path}' has more than {_MOST_BYTES >> 30} GiB; split it up, or check that it is a CSV.")
        return path.open("rb")
    except OSError as error:
        raise SourceError(unopened(path, error)) from error


def _lines(path: Place, file: BinaryIO) -> Texts:
    try:
        encoding = encoding_of(file.read(_MARK_BYTES)) or "utf-8"
        file.seek(0)
        return Texts(io.TextIOWrapper(file, encoding, newline=""))
    except OSError as error:
        raise SourceError(unopened(Path(str(path)), error)) from error
    except UnicodeDecodeError:
        file.seek(0)
        return Texts(io.StringIO(_text(path, file.read()), newline=""))  # which says where


def _text(path: Place, data: bytes) -> str:
    encoding = encoding_of(data) or "utf-8"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        data = error.object  # without a mark, as ``start`` counts
        begin = data.rfind(b"\n", 0, error.start) + 1
        number, line = data.count(b"\n", 0, begin) + 1, data[begin : begin + _SHOWN_BYTES].partition(b"\n")[0].strip()
        raise SourceError(
            f"Line {number:,} of '{path}' is no {encoding.removesuffix('-sig').upper()} text "
            f"('{line.decode('cp1252', 'replace')}'); save the list as UTF-8 text, which Excel calls 'CSV UTF-8'."
        ) from error


def _header(path: Place, lines: Sequence[str]) -> tuple[int, str, list[str]]:
    """Return how many lines come before the images, what ends a field, and the names of the columns."""
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise SourceError(f"The CSV '{path}' is empty; its first line must name the columns path,label.")
    if lines[first].lower().startswith("sep="):  # Excel's own mark
        first += 1
    line = lines[first] if first < len(lines) else ""
    found = {delimiter: _names(line, delimiter) for delimiter in _DELIMITERS}
    delimiter = max(found, key=lambda d: (sum(column in found[d] for column in COLUMNS[:2]), len(found[d]) > 1))
    header = found[delimiter]
    if missing := [column for column in COLUMNS[:2] if column not in header]:
        shown = ", ".join(header) if any(header) else "nothing"
        raise SourceError(
            f"The CSV '{path}' has no '{missing[0]}' column (found: {shown[:200]}); "
            "its first line must name the columns path,label and, if you like, split and group."
        )
    if twice := [column for column in COLUMNS if header.count(column) > 1]:
        raise SourceError(f"The CSV '{path}' names the column '{twice[0]}' twice in its first line; keep one of them.")
    return first + 1, delimiter, header


def _names(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip().lower() for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


class _Reader:
    """Goes through the lines of a list, and past those that do not fit."""

    def __init__(self, path: Place, header: list[str], delimiter: str, url: str) -> None:
        self.images = LabelledPaths()
        self._path = path
        self._folder = path.parent if isinstance(path, Path) else url_parent(url)
        self._signed: Mapping[str, str] = _signed.get(os.path.abspath(path)) or {}
        self._header = header
        self._delimiter = delimiter
        self._places = DigestIndex()  # where the images lie
        self._found: dict[str, tuple[str, list[int]]] = {}  # by kind: what is wrong with the first line, and the lines

    def findings(self) -> list[Finding]:
        """Return what is wrong, a sentence for each kind, in the order of the lines."""
        found = []
        for text, lines in sorted(self._found.values(), key=lambda found: found[1]):
            others = [f"{line:,}" for line in lines[1:]]
            more = f" So it is with line{'s' if len(others) > 1 else ''} {few(others, _FEW)}." if others else ""
            found.append(Finding("refused", f"Line {lines[0]:,} of '{self._path}' {text}{more}", tuple(lines)))
        return found

    def _note(self, kind: str, number: int, text: str) -> None:
        self._found.setdefault(kind, (text, []))[1].append(number)

    def read(self, lines: Sequence[str], start: int) -> None:
        """Take in all lines from one on; what a quote swallowed that was left open is read anew."""
        while start < len(lines):
            reader = csv.reader((lines[i] for i in range(start, len(lines))), delimiter=self._delimiter, strict=True)
            ended = start
            try:
                for row in reader:
                    if start + reader.line_num - ended > 1 and not self._may_span_lines(row):
                        raise csv.Error
                    self.take(ended + 1, row)
                    ended = start + reader.line_num
                return
            except csv.Error:
                text = (
                    "opens a quote and does not close it where the field ends; "
                    'close it, remove it, or write it twice ("") where it belongs to a name.'
                )
                self._note("quote", ended + 1, text)
                start = ended + 1

    def _may_span_lines(self, row: list[str]) -> bool:
        """Return whether a row of several lines can be meant so: a name may well hold a line break."""
        if len(row) != len(self._header):
            return False
        return all(self._is_there(field) for field in row if "\n" in field and self._delimiter in field)

    def _is_there(self, name: str) -> bool:
        """Return whether a path can be meant so: no file of this machine has another name."""
        return not isinstance(self._folder, Path) or os.path.lexists(self._folder / name)

    def take(self, number: int, row: list[str]) -> None:
        """Take in one row."""
        if not any(field.strip() for field in row):
            return
        columns = len(self._header)
        if len(row) < columns or any(field.strip() for field in row[columns:]):
            text = (
                f"has {counted(len(row), 'field')} where the first line names {counted(columns, 'column')}; "
                f"put quotes around a name that holds {_DELIMITERS[self._delimiter]}, and leave no column out."
            )
            self._note("fields", number, text)
            return
        values = dict(zip(self._header, row, strict=False))
        name, label, split, group = (values.get(column, "").strip() for column in COLUMNS)
        zero = next((column for column in COLUMNS if "\0" in values.get(column, "")), None)
        if zero is not None:
            self._note("zero", number, f"has a {zero} with a zero byte; mend the line.")
        elif not name:
            self._note("no path", number, "has no path; fill it in or remove the line.")
        elif split and split.lower() not in SPLIT_NAMES:
            self._note(f"split {split}", number, f"has the split '{split}'; use train, valid or test, or leave it empty.")
        elif "\\" in name and os.sep != "\\" and not is_url(name) and not self._is_there(name):
            text = f"has the path '{name}', which is no file here: Windows writes backslashes; replace them by /."
            self._note("backslash", number, text)
        else:
            name, url = self._spelt(os.fspath(local_file(name)))
            self._add(LabelledPath(name, composed(label), SPLIT_NAMES.get(split.lower(), ""), composed(group), number, url))

    def _spelt(self, name: str) -> tuple[str, str]:
        """Return a path as it is kept, and the URL that it is read from; empty = it is a file of this machine."""
        if is_url(name):
            return redacted(name), self._signed.get(name, name)
        if not isinstance(self._folder, Path):
            return redacted(f"{_ANY_HOST}{name}").removeprefix(_ANY_HOST), url_below(self._folder, name)
        if not name.isascii() and (there := on_disk(self._folder / name)) != self._folder / name:
            name = str(there) if os.path.isabs(name) else os.path.relpath(there, self._folder)
        return name, ""

    def _add(self, image: LabelledPath) -> None:
        name, label = image.path, image.label
        place = redacted(image.url) or os.path.abspath(os.path.join(self._folder, name))
        if (first := self._places.row(place)) < 0:
            self._places.append(key_of(place))
            self.images.append(image)
            return
        before = self.images[first]
        if label and before.label and label != before.label:
            labels = f"gives '{name}' the label '{label}', and line {before.line:,} the label '{before.label}'"
            self._note("labels", image.line, f"{labels}; keep the right one.")
        else:
            text = f"names '{name}' a second time, after line {before.line:,}; keep one line per image."
            self._note("twice", image.line, text)
