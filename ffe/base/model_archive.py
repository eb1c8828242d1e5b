"""The zip of a model file, looked at from outside: a few known names, each once, stored plainly, and nothing else."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path

from ffe.errors import BundleError

MANIFEST = "manifest.json"
BACKBONE = "backbone.keras"
IR_GRAPH = "backbone.xml"
IR_WEIGHTS = "backbone.bin"
HEAD = "head.npz"
HEAD_KERAS = "head.keras"
GOLDEN = "golden.npz"
SPLITS = "splits.json"
CARD = "README.md"
MOST_BACKBONES = 8  # in one file

Identity = tuple[int, int, int, int]

_END, _END_64, _LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_END_BYTES, _LOCATOR_BYTES, _END_64_BYTES = 22, 20, 56
_MOST_COMMENT_BYTES = 1 << 16
_MOST_DIRECTORY_BYTES = 1 << 16  # Python reads all of it before it can be asked anything
_ENCRYPTED = 0x1


def member_of(name: str, number: int) -> str:
    """Return the name of a member of a model's backbone, 0 for the first: ``backbone.xml``, ``backbone2.xml``, ..."""
    stem, _, suffix = name.partition(".")
    return name if number == 0 else f"{stem}{number + 1}.{suffix}"


def identity(path: Path) -> Identity:
    """Return what changes when a file is replaced or written to."""
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def open_archive(path: Path, needed: Collection[str], allowed: Collection[str] | None) -> zipfile.ZipFile:
    """Open a model file that has the members ``needed``, and beside them none but ``allowed`` (None = any).

    A BundleError says that it is another zip; OSError, ValueError and BadZipFile, that it is none, or damaged.
    """
    if _directory_bytes(path) > _MOST_DIRECTORY_BYTES:
        raise BundleError("it is not one of ffe's")
    archive = zipfile.ZipFile(path)
    try:
        members = archive.infolist()
        names = {member.filename for member in members}
        if not {*needed} <= names <= {*needed, *(names if allowed is None else allowed)} or len(names) != len(members):
            raise BundleError("it is not one of ffe's")
        for member in members:
            # what is stored plainly cannot be larger than the file
            plain = member.compress_type == zipfile.ZIP_STORED and member.file_size == member.compress_size
            if not plain or member.flag_bits & _ENCRYPTED or member.filename != member.orig_filename:
                raise BundleError(f"its member '{member.filename}' is not stored as ffe stores it")
            if stat.S_IFMT(member.external_attr >> 16) not in {0, stat.S_IFREG}:
                raise BundleError(f"its member '{member.filename}' is no plain file")
    except BaseException:
        archive.close()
        raise
    return archive


def _directory_bytes(path: Path) -> int:
    """Return how long a zip says that its directory is; a ValueError says that it has none."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END_BYTES - _MOST_COMMENT_BYTES - _LOCATOR_BYTES - _END_64_BYTES))
        tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise ValueError("it has no directory")
    (plain,) = struct.unpack_from("<I", tail, at + 12)
    start = at - _LOCATOR_BYTES - _END_64_BYTES
    if tail[at - _LOCATOR_BYTES : at].startswith(_LOCATOR_64) and tail[max(0, start) :].startswith(_END_64):
        (large,) = struct.unpack_from("<Q", tail, start + 40)
        return int(max(plain, large))
    return int(plain)
