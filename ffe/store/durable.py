"""Waiting until what was written is on the disk, and survives a power cut."""

from __future__ import annotations

import os
from pathlib import Path


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
