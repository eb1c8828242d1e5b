"""Parquet tables of images: their bytes in one column, labels in another, as Hugging Face lays data sets out."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ffe.base.file_stat import Stamp
from ffe.base.text import composed, counted, few, quoted
from ffe.base.urls import is_url
from ffe.errors import DecodeError, SourceError, missing
from ffe.images.archive import Archive, Member, reading
from ffe.images.archive_file import ArchivePlace, archive_version, open_archive
from ffe.images.decode import too_many_bytes
from ffe.images.records import SPLIT_NAMES, Finding

_IMAGES = ("image", "img")
_GROUP_BYTES = 2 << 30  # of the images of a row group
_KEPT_BYTES = 256 << 20
_BATCH = 1 << 16

_Group = tuple[str, Stamp, int]  # file, version, number
_groups: OrderedDict[_Group, Any] = OrderedDict()  # the last ones that were read
_lock = threading.Lock()


@dataclass(frozen=True)
class ParquetMember(Member):
    """The picture in a row of a row group."""

    column: str
    group: int
    row: int  # in the group

    def content(self, max_bytes: int) -> bytes:
        """Take it out of its row group, of which the last few are kept."""
        value = _images_of((self.archive, self.version, self.group), self.column)[self.row]
        if value.is_valid and hasattr(value, "keys"):
            value = value["bytes"]
        if not value.is_valid:
            raise DecodeError("missing", "its row holds no picture")
        buffer = value.as_buffer()
        if buffer.size > max_bytes:
            raise DecodeError("too-large", too_many_bytes(max_bytes))
        return bytes(buffer)

    def reading_order(self) -> tuple[str, int]:
        """Return where its group lies: groups are read as a whole."""
        return self.archive, self.group


def _images_of(key: _Group, column: str) -> Any:
    """Return the images of a row group, a pyarrow array."""
    import pyarrow
    from pyarrow import parquet

    path, version, number = key
    with _lock:
        if key in _groups:
            _groups.move_to_end(key)
            return _groups[key]
        try:
            with parquet.ParquetFile(open_archive(path, version) if is_url(path) else path) as file:
                group = file.metadata.row_group(number)
                parts = map(group.column, range(group.num_columns))
                if sum(p.total_uncompressed_size for p in parts if p.path_in_schema.split(".")[0] == column) > _GROUP_BYTES:
                    raise DecodeError("too-large", f"its row group has more than {_GROUP_BYTES >> 30} GiB; write smaller ones")
                images = file.read_row_group(number, [column]).column(0)
        except (pyarrow.ArrowException, OSError) as error:
            raise DecodeError("broken", "its row group is damaged") from error
        _groups[key] = images
        while len(_groups) > 1 and sum(kept.nbytes for kept in _groups.values()) > _KEPT_BYTES:
            _groups.popitem(last=False)
        return images


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
    found = Archive(path)
    if not found.settled:
        with _lock:
            for key in [key for key in _groups if key[0] == str(path)]:
                del _groups[key]
    with open_parquet(path) as file, _sound(path):
        schema, features = file.schema_arrow, _features(file.schema_arrow)
        image = _image_column(path, schema, features)
        label = _label_column(schema, features)
        names = features.get(label, {}).get("names") if label else None
        columns = [name for name in (label or "", "split", "group") if name in schema.names]
        found.labels = {} if label else None
        width, row, bad = len(str(max(0, file.metadata.num_rows - 1))), 0, list[str]()
        for group in range(file.metadata.num_row_groups):
            held = file.metadata.row_group(group).num_rows
            values = zip(*_values(file, group, columns), strict=True) if columns else iter([()] * held)
            for number, cells in enumerate(values):
                name = f"{row:0{width}}"
                row += 1
                found.members[name] = ParquetMember(*found.place_of(name, 0), image, group, number)
                of_row = dict(zip(columns, cells, strict=True))
                try:
                    _take(found, name, of_row.get(label or ""), of_row.get("split"), of_row.get("group"), names)
                except ValueError as error:
                    bad += [str(error)] if str(error) not in bad else []
        found.findings += [Finding("refused", f"'{path}' has {what}.") for what in bad]
    return found


def _values(file: Any, group: int, columns: list[str]) -> list[list[Any]]:
    table = file.read_row_group(group, columns)
    return [table.column(name).to_pylist() for name in columns]


def _take(found: Archive, name: str, label: Any, split: Any, group: Any, names: list[str] | None) -> None:
    """Note what a row says of its image; a ValueError says what is wrong with it."""
    if found.labels is not None:
        found.labels[name] = _named(label, names)
    if split not in (None, ""):
        if str(split).lower() not in SPLIT_NAMES:
            raise ValueError(f"the split '{split}'; use train, valid or test, or leave it empty")
        found.splits[name] = SPLIT_NAMES[str(split).lower()]
    if group not in (None, ""):
        found.groups[name] = composed(str(group))


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


def listed_rows(path: ArchivePlace) -> Iterator[list[str]] | None:
    """Yield the rows of a table that lists images, as texts, the names of its columns first; None = it lists none."""
    file = open_parquet(path)
    if "path" not in file.schema_arrow.names or "features" in file.schema_arrow.names:
        file.close()
        return None
    return _rows(path, file)


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
