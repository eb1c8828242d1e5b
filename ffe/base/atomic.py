"""Files that are replaced whole or not at all, and what survives a power cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
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


@contextlib.contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Lend a temporary name beside a file; what is written there takes the file's place (that of a link's target) at the end."""
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        put_in_place(temporary, path, durable=durable)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def put_in_place(made: Path, path: Path, *, durable: bool = True) -> None:
    """Rename a finished file over another one, no link, whose mode, and owner where that is allowed, it keeps."""
    if durable:
        with made.open("rb+") as file:
            sync(file.fileno())
    with contextlib.suppress(OSError):  # there is none, or the disk knows no such modes
        old = os.stat(path)
        if hasattr(os, "chown"):
            with contextlib.suppress(OSError):  # another user's file
                os.chown(made, old.st_uid, old.st_gid)
        os.chmod(made, stat.S_IMODE(old.st_mode) & 0o777)
    os.replace(made, path)
    if durable:
        sync_folder(path.parent)


def copy_file(source: Path, place: Path) -> None:
    """Copy a file: the place has all of it, or nothing."""
    with atomic_write(place) as temporary:
        shutil.copyfile(source, temporary)
