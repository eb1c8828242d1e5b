"""How much disk a feature file takes, and taking hold of it before a byte is written."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ffe.errors import DiskFullError
from ffe.ir import IrModel
from ffe.keys import canonical_json
from ffe.machine import bytes_text, free_disk, taken_disk
from ffe.store import layout

_FIXED = 64 << 10  # superblock, names, attributes, and what HDF5 takes in advance
_ROW = 256  # numbers of a row, and what HDF5 keeps about each of its texts
_CHUNK = 1 << 10
_KEEP_SIZE = 1  # of fallocate(2): take the blocks, leave the length as it is
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM}


def file_bytes(rows: int, dims: int, itemsize: int, *, text: int, other: int = 0) -> int:
    """Return the bytes that a feature file takes, or a little more.

    Args:
        rows, dims, itemsize: of its features; dims is 0 where they lie in other files.
        text: bytes of all its paths, groups and messages, each as long as the longest.
        other: bytes of the int8 model.
    """
    step = layout.chunk_rows(max(rows, 1), max(dims, 1), itemsize)
    chunks = -(-rows // step)
    return _FIXED + chunks * (step * dims * itemsize + _CHUNK) + rows * _ROW + text + other


def text_bytes(rows: Sequence[layout.Row], skipped: Sequence[layout.Skipped]) -> int:
    """Return the bytes of all texts of a table, digests and splits left out."""
    columns = [[row.path for row in rows], [row.group for row in rows]]
    columns += [[item.path for item in skipped], [item.reason for item in skipped], [item.message for item in skipped]]
    return sum(column_bytes(column) for column in columns) + _ROW * len(skipped)


def column_bytes(texts: Sequence[str]) -> int:
    """Return the bytes of a column of texts, each stored as long as the longest."""
    return len(texts) * max((len(text.encode("utf-8", "replace")) for text in texts), default=0)


def model_bytes(model: IrModel | None) -> int:
    """Return the bytes that an int8 model takes in a feature file."""
    return 0 if model is None else len(model.xml) + model.weights.nbytes + len(canonical_json(model.record)) + _FIXED


def reserve(path: Path, size: int) -> None:
    """Take hold of so much disk for a file that is being written; its length stays as it is.

    HDF5 does not survive a disk that fills up while it closes a file: the
    process dies. So the disk must be full before, or not at all. Where the file
    system cannot reserve, the free space is looked at.

    Raises:
        OSError: ENOSPC, there is not so much; EFBIG, this file system has no such large files.
    """
    with path.open("rb+") as file:
        code = _fallocate(file.fileno(), size)
    if code in _UNSUPPORTED:
        code = errno.ENOSPC if free_disk(path.parent) < size - taken_disk(path) else 0
    if code:
        raise OSError(code, os.strerror(code), str(path))


def _fallocate(descriptor: int, size: int) -> int:
    """Return 0, or an error number; the function of the standard library would change the length."""
    if not sys.platform.startswith("linux"):
        return errno.EOPNOTSUPP
    try:
        fallocate = ctypes.CDLL(None, use_errno=True).fallocate64
    except (OSError, AttributeError):
        return errno.EOPNOTSUPP
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while fallocate(descriptor, _KEEP_SIZE, 0, size) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            return code
    return 0


@contextlib.contextmanager
def saying_what_is_missing(output: Path, needed: Callable[[], int]) -> Iterator[None]:
    """Turn the error of a full disk into a sentence that says how much is missing.

    Args:
        output: the feature file.
        needed: gives the bytes that are still to be written; called once the disk is full.

    Raises:
        DiskFullError: the disk of the output is full, or the user's share of it.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        missing = needed() - free_disk(Path(os.path.realpath(output)).parent)
        problem = f"about {bytes_text(missing)} are missing" if missing > 0 else "your quota, or its number of files, is used up"
        raise DiskFullError(
            f"The disk of '{output}' is full: {problem}; "
            "make room and run the same command again, it goes on with all that was computed."
        ) from error
