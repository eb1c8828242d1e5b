"""Waiting until what was written is on the disk, and survives a power cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

_COPIED_AT_ONCE = 16 << 20


def sync(descriptor: int) -> None:
    """Wait until a file's content is on the disk."""
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk (where the system can)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def put_in_place(made: Path, path: Path) -> None:
    """Rename a finished file over another one, whose mode, and owner where that is allowed, it keeps.

    Args:
        made: the finished file, in the same folder.
        path: where it goes; a link that it is would be lost, so give what it points at.
    """
    with contextlib.suppress(OSError):  # there is none, or the disk knows no such modes
        old = os.stat(path)
        if hasattr(os, "chown"):
            with contextlib.suppress(OSError):  # another user's file
                os.chown(made, old.st_uid, old.st_gid)
        os.chmod(made, stat.S_IMODE(old.st_mode) & 0o777)
    os.replace(made, path)


def copy_file(source: Path, place: Path) -> None:
    """Copy a file: the place has all of it, or nothing."""
    temporary = place.with_name(f"{place.name}.tmp-{os.getpid()}")
    try:
        with source.open("rb") as whole, temporary.open("wb") as file:
            shutil.copyfileobj(whole, file, _COPIED_AT_ONCE)
            file.flush()
            sync(file.fileno())
        put_in_place(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)
