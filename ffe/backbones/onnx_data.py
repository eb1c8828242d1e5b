"""Where an ONNX file says that its weights lie outside of it; the file is walked through, and nothing of it is run.

https://onnx.ai/onnx/repo-docs/ExternalData.html, and https://protobuf.dev/programming-guides/encoding/ for the bytes.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from ffe.base.text import few, quoted
from ffe.errors import BackboneError

# the fields of each message that lead to tensors, by number; https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_INSIDE = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_DEPTH = 100  # of messages in messages, as protobuf itself allows


def external_files(path: Path) -> list[Path]:
    """Return the files beside an ONNX file that hold weights of it, in order of their names.

    Raises:
        BackboneError: the file is no ONNX, or names a file that is not there, or that lies outside of its folder.
        OSError: the file cannot be read.
    """
    folder = path.parent.resolve()
    with path.open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                names = sorted(set(_locations(data, 0, len(data), "model")))
            outside = [name for name in names if not (path.parent / name).resolve().is_relative_to(folder)]
        except (ValueError, IndexError, RuntimeError) as error:  # empty, ends in the middle, names what no file can be
            raise BackboneError(f"'{path}' is damaged or no ONNX file; export it again.") from error
    for name in outside:
        if Path(os.path.normpath(folder / name)).is_relative_to(folder):  # a link, as in the cache of Hugging Face
            raise BackboneError(
                f"'{path}' wants weights from '{name}', a link to another folder; copy the files into one folder."
            )
        raise BackboneError(f"'{path}' wants weights from '{name}', outside of its folder; export it with weights beside it.")
    if gone := [name for name in names if not (path.parent / name).is_file()]:
        raise BackboneError(
            f"'{path}' keeps weights in {few(quoted(gone))}, which {'is' if len(gone) == 1 else 'are'} not beside it; "
            "put all files of the export into one folder."
        )
    return [path.parent / name for name in names]


def _locations(data: mmap.mmap, start: int, end: int, message: str, depth: int = 0) -> Iterator[str]:
    """Yield the ``location`` of every tensor below a message that has one."""
    if depth > _DEPTH:
        raise ValueError("messages too deep")
    entry: dict[int, bytes] = {}
    for number, first, last in _fields(data, start, end):
        if message == "entry":
            entry[number] = data[first:last]
        elif (inner := _INSIDE[message].get(number)) is not None:
            yield from _locations(data, first, last, inner, depth + 1)
    if entry.get(_KEY) == b"location":
        yield entry.get(_VALUE, b"").decode()


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (number, start, end) of the fields of a message that hold bytes."""
    while at < end:
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind == _BYTES:
            length, at = _varint(data, at)
            if at + length > end:
                raise ValueError("a field ends after its message")
            yield tag >> 3, at, at + length
            at += length
        elif kind in {_EIGHT_BYTES, _FOUR_BYTES}:
            at += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of kind {kind}")
    if at != end:
        raise ValueError("a field ends after its message")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """Return a number of variable length, and where what follows it begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number without end")
