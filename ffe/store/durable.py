"""Waiting until what was written is on the disk, and survives a power cut."""

from __future__ import annotations

import os
import shutil
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


def copy_file(source: Path, place: Path) -> None:
    """Copy a file: the place has all of it, or nothing."""
    temporary = place.with_name(f"{place.name}.tmp-{os.getpid()}")
    try:
        with source.open("rb") as whole, temporary.open("wb") as file:
            shutil.copyfileobj(whole, file, _COPIED_AT_ONCE)
            file.flush()
            sync(file.fileno())
        os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)
