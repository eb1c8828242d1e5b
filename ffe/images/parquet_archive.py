"""Parquet tables of images: their bytes in one column, labels in another, as Hugging Face lays data sets out."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import threading
from array import array
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

from ffe.base.columns import Made, Repeated
from ffe.base.file_stat import Stamp
from ffe.base.text import composed, counted, few, quoted
from ffe.base.urls import is_url
from ffe.errors import DecodeError, SourceError, missing
from ffe.images.archive import Archive, Member, MemberTable, reading
from ffe.images.archive_file import ArchivePlace, archive_version, open_archive
from ffe.images.column_names import column_findings
from ffe.images.decode import too_many_bytes
from ffe.images.records import SPLIT_NAMES, Finding, Split

_IMAGES = ("image", "img")
_PIECE_BYTES = 32 << 20  # of the images of a row group that are read at once, as far as their mean size tells
_KEPT_BYTES = 256 << 20
_BUFFER_BYTES = 1 << 20  # of the file
_MOST_GROUPS = 64
_BATCH = 1 << 13

_Key = tuple[str, Stamp, int]  # file, version, number of a row group
_groups: OrderedDict[_Key, _Group] = OrderedDict()  # the last ones that were read
_lock = threading.Lock()


@dataclass(frozen=True)
class ParquetMember(Member):
    """The picture in a row of a row group."""

    group: int
    row: int  # in the group
    column: str

    def content(self, max_bytes: int) -> bytes:
        """Take it out of its row group, of which the last pieces are kept."""
        value = _image((self.archive, self.version, self.group), self.column, self.row)
        if value.is_valid and hasattr(value, "keys"):
            value = value["bytes"]
        if not value.is_valid:
            raise DecodeError("missing", "its row holds no picture")
        buffer = value.as_buffer()
        if buffer.size > max_bytes:
            raise DecodeError("too-large", too_many_bytes(max_bytes))
        return bytes(buffer)

    def reading_order(self) -> tuple[str, int]:
        """Return where it lies: a group is read from its beginning on."""
        return self.archive, (self.group << 32) + self.row


class _Group:
    """The images of a row group, of which the next piece is read when one of its rows is asked for; the last ones are kept."""

    def __init__(self, key: _Key, column: str) -> None:
        from pyarrow import parquet

        path, version, number = key
        self.pieces: deque[tuple[int, Any]] = deque()  # (first row, pyarrow array)
        self._read = 0  # rows
        place = open_archive(path, version) if is_url(path) else path
        # what is its default would read the whole group ahead
        self._file = parquet.ParquetFile(place, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        group = self._file.metadata.row_group(number)
        parts = map(group.column, range(group.num_columns))
        size = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] == column)
        self._rows, rows = group.num_rows, max(1, group.num_rows * _PIECE_BYTES // max(1, size))
        self._batches = self._file.iter_batches(rows, row_groups=[number], columns=[column])

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return sum(images.nbytes for _, images in self.pieces)

    def passed(self, row: int) -> bool:
        """Return whether a row was read, and is kept no more."""
        return row < (self.pieces[0][0] if self.pieces else self._read)

    def image(self, row: int) -> Any:
        """Return an image that was not passed, as a pyarrow scalar."""
        while self._read <= row:
            images = next(self._batches).column(0)
            self.pieces.append((self._read, images))
            self._read += len(images)
            if self._read >= self._rows:
                self._file.close()
                self._file, self._batches = None, iter(())  # they hold their buffers
            _forget_oldest()
        first, images = next(piece for piece in reversed(self.pieces) if piece[0] <= row)
        return images[row - first]


def _forget_oldest() -> None:
    """Keep no more than ``_KEPT_BYTES``, but for the piece that was read last."""
    while sum(group.nbytes for group in _groups.values()) > _KEPT_BYTES:
        oldest = next(group for group in _groups.values() if group.pieces)
        if len(oldest.pieces) == 1 and oldest is next(reversed(_groups.values())):
            return
        oldest.pieces.popleft()


def _image(key: _Key, column: str, row: int) -> Any:
    """Return the image in a row of a row group, a pyarrow scalar."""
    import pyarrow

    with _lock:
        try:
            if (group := _groups.pop(key, None)) is None or group.passed(row):
                group = _Group(key, column)
            _groups[key] = group
            while len(_groups) > _MOST_GROUPS:
                _groups.popitem(last=False)
            return group.image(row)
        except (pyarrow.ArrowException, OSError, StopIteration) as error:
            _groups.pop(key, None)
            raise DecodeError("broken", "its row group is damaged") from error


def open_parquet(path: ArchivePlace) -> Any:
    """Open a table, ``pyarrow.parquet.ParquetFile``; a SourceError says why it cannot be."""
    if importlib.util.find_spec("pyarrow") is None:
        raise SourceError(missing("A Parquet file", "pyarrow"))
    from pyarrow import parquet

    with _sound(path):
        return parquet.ParquetFile(open_archive(path, archive_version(path)) if isinstance(path, str) else path)


@contextlib.contextmanager
def _sound(path: ArchivePlace) -> Iterator[None]:
    """Say of a table that it is damaged, where it is."""
    import pyarrow

    with reading(path):
        try:
            yield
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # pyarrow has others, without a number
                raise
            raise SourceError(f"'{path}' is no Parquet file, or is damaged or cut off; fetch it again.") from error


def read_parquet(path: ArchivePlace) -> Archive:
    """List the rows of a table of images: ``data.parquet#17``; a SourceError says why it cannot be."""
    table = _RowTable()
    found = Archive(path, table)
    if not found.settled:
        with _lock:
            for key in [key for key in _groups if key[0] == str(path)]:
                del _groups[key]
    with open_parquet(path) as file, _sound(path):
        schema, features = file.schema_arrow, _features(file.schema_arrow)
        image = _image_column(path, schema, features)
        label = _label_column(schema, features)
        names = features.get(label, {}).get("names") if label else None
        table.set(image, [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)])
        found.labels, splits, groups = (Repeated() if label else None), Repeated[Split](), Repeated[str]()
        said: list[tuple[str | None, Any, Callable[[Any], Any]]] = [
            (label, found.labels, lambda value: _named(value, names)),
            ("split", splits, _split),
            ("group", groups, lambda value: "" if value is None else composed(str(value))),
        ]
        said = [one for one in said if one[0] in schema.names]
        bad = list[str]()
        for batch in file.iter_batches(_BATCH, columns=list(dict.fromkeys(name for name, _, _ in said))) if said else ():
            for name, kept, meant in said:
                for value in batch.column(name).to_pylist():
                    try:
                        kept.append(meant(value))
                    except ValueError as error:
                        kept.append("")
                        bad += [str(error)] if str(error) not in bad else []
        found.splits, found.groups = (splits if any(splits.values) else None), (groups if any(groups.values) else None)
        found.findings += [Finding("refused", f"'{path}' has {what}.") for what in bad]
        found.findings += column_findings(path, schema.names, labelled=label is not None)
    return found


class _RowTable(MemberTable):
    """The images of a table: their names are the numbers of the rows."""

    def __init__(self) -> None:
        super().__init__(ParquetMember, "")
        self._ends = array("Q")  # of the row groups

    def set(self, column: str, rows: Sequence[int]) -> None:
        """Take in how many rows the row groups have."""
        self._ends.extend(accumulate(rows))
        count = self._ends[-1] if rows else 0
        width = len(str(max(0, count - 1)))
        self.names, self.make = Made(count, lambda row: f"{row:0{width}}"), partial(ParquetMember, column=column)

    def size(self, row: int) -> int:
        """Return 0: only the column tells."""
        return 0

    def numbers(self, row: int) -> Sequence[int]:
        """Return the row group, and the row in it."""
        group = bisect_right(self._ends, row)
        return group, row - (self._ends[group - 1] if group else 0)

    def row(self, name: str) -> int:
        """Return the row of a number, with or without zeros in front; -1 = there is none."""
        return int(name) if name.isdecimal() and len(name) < 20 and int(name) < len(self) else -1


def _split(value: Any) -> Split:
    if value in (None, ""):
        return ""
    if str(value).lower() not in SPLIT_NAMES:
        raise ValueError(f"the split '{value}'; use train, valid or test, or leave it empty")
    return SPLIT_NAMES[str(value).lower()]


def _named(label: Any, names: list[str] | None) -> str | int:
    if label is None or label == -1:
        return ""
    if isinstance(label, str):
        return composed(label.strip())
    if not isinstance(label, int) or isinstance(label, bool) or label < 0:
        raise ValueError(f"the label {label!r}, which is neither text nor a whole number; mend the column")
    if names is None:
        return label
    if label >= len(names):
        raise ValueError(f"the label {label}, but names {counted(len(names), 'class', 'classes')}; mend the labels, or the names")
    return composed(names[label])


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face's metadata says of columns."""
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: what for name, what in found.items() if isinstance(what, dict)}
    return {}


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _image_column(path: ArchivePlace, schema: Any, features: dict[str, dict[str, Any]]) -> str:
    """Return the column of images: bytes, or a structure that holds them."""
    from pyarrow import types

    able = [
        column.name
        for column in schema
        if _holds_bytes(column.type)
        or (types.is_struct(column.type) and any(part.name == "bytes" and _holds_bytes(part.type) for part in column.type))
    ]
    said = [name for name in able if features.get(name, {}).get("_type") == "Image"]
    chosen = said if len(said) == 1 else [name for name in able if name in _IMAGES] or able
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise SourceError(f"'{path}' has several columns of images ({few(quoted(chosen))}); name the one that counts 'image'.")
    shown = ", ".join(schema.names)[:200] or "nothing"
    raise SourceError(
        f"'{path}' has no column of images (found: {shown}); give one with the bytes of each, named 'image', "
        "or, in a single file on this machine, one named 'path' that says where they lie."
    )


def _label_column(schema: Any, features: dict[str, dict[str, Any]]) -> str | None:
    """Return the column of labels: ``label``, or the only one that Hugging Face calls so; None = there is none."""
    if "label" in schema.names:
        return "label"
    said = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    return said[0] if len(said) == 1 else None


def listed_rows(path: ArchivePlace) -> tuple[Iterator[list[str]], list[Finding]] | None:
    """Return the rows of a table that lists images, as texts, the names of its columns first, and what is odd about these.

    None = it lists none.
    """
    file = open_parquet(path)
    if "path" not in file.schema_arrow.names or "features" in file.schema_arrow.names:
        file.close()
        return None
    names = file.schema_arrow.names
    return _rows(path, file), column_findings(path, names, labelled="label" in names)


def _rows(path: ArchivePlace, file: Any) -> Iterator[list[str]]:
    with file, _sound(path):
        columns = [name for name in ("path", "label", "split", "group") if name in file.schema_arrow.names]
        names = _features(file.schema_arrow).get("label", {}).get("names")
        yield columns
        for batch in file.iter_batches(_BATCH, columns=columns):
            for cells in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
                row = ["" if cell is None else str(cell) for cell in cells]
                if "label" in columns:
                    try:
                        row[columns.index("label")] = str(_named(cells[columns.index("label")], names))
                    except ValueError as error:
                        raise SourceError(f"'{path}' has {error}.") from error
                yield row
