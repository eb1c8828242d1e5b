"""How much disk a feature file takes, and what is said where there is not so much."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path

from ffe.base.digests import canonical_json
from ffe.base.openvino_ir import IrModel
from ffe.base.system import DISK_IS_FULL, free_disk
from ffe.base.text import bytes_text
from ffe.errors import DiskFullError, StoreError, unwritten
from ffe.store import schema

_FIXED = 64 << 10  # superblock, names, attributes, and what HDF5 takes in advance
_ROW = 256  # numbers of a row, and what HDF5 keeps about each of its texts
_CHUNK = 1 << 10


def file_bytes(rows: int, dims: int, itemsize: int, *, text: int, other: int = 0) -> int:
    """Return the bytes that a feature file takes, or a little more; ``dims`` is 0 where the features lie in other files."""
    step = schema.chunk_rows(max(rows, 1), max(dims, 1), itemsize)
    return _FIXED + -(-rows // step) * (step * dims * itemsize + _CHUNK) + rows * _ROW + text + other


def text_bytes(rows: Sequence[schema.Row], skipped: Sequence[schema.Skipped]) -> int:
    """Return the bytes of all texts of a table, digests and splits left out."""
    columns = [map(attrgetter(name), rows) for name in ("path", "group")]
    columns += [map(attrgetter(name), skipped) for name in ("path", "reason", "message")]
    return sum(map(column_bytes, columns)) + _ROW * len(skipped)


def column_bytes(texts: Iterable[str]) -> int:
    """Return the bytes of a column of texts, each stored as long as the longest."""
    count = longest = 0
    for text in texts:
        count, longest = count + 1, max(longest, len(text.encode("utf-8", "replace")))
    return count * longest


def model_bytes(model: IrModel | None) -> int:
    """Return the bytes that an int8 model takes in a feature file."""
    return 0 if model is None else len(model.xml) + model.weights.nbytes + len(canonical_json(model.record)) + _FIXED


@contextlib.contextmanager
def explain_full_disk(output: Path, needed: Callable[[], int]) -> Iterator[None]:
    """Turn the error of a full disk into a DiskFullError that says how much is missing of the bytes ``needed`` still."""
    try:
        yield
    except OSError as error:
        ours = not isinstance(error.filename, str) or os.path.realpath(error.filename).startswith(os.path.realpath(output))
        if error.errno in {errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM} and ours:
            text = unwritten(output, error, "feature file")
            raise StoreError(f"{text} What was computed is kept: the same command goes on with it.") from error
        if error.errno not in DISK_IS_FULL:
            raise
        missing = needed() - free_disk(Path(os.path.realpath(output)).parent)
        problem = f"about {bytes_text(missing)} are missing" if missing > 0 else "your quota, or its number of files, is used up"
        raise DiskFullError(
            f"The disk of '{output}' is full: {problem}; "
            "make room and run the same command again, it goes on with what was saved."
        ) from error
