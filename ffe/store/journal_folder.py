"""The folder of an unfinished run, ``OUTPUT.partial/``: where it is, whose it is, and its end."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import IO

from ffe.errors import StoreError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

DRAFT = "draft"  # the rows, where the finished file will have them
MODEL = "backbone.zip"  # the int8 model that makes them

_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}  # by another process


def folder_of(output: Path) -> Path:
    """Return where the rows of an unfinished run lie: the same for all names of one file."""
    real = Path(os.path.realpath(output))
    return real.with_name(real.name + ".partial")


def locked(folder: Path, output: Path) -> IO[str]:
    """Take the lock of an output, for as long as the file that is returned stays open (where the system has such locks)."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            file = (folder / "lock").open("w")
        except FileNotFoundError:  # a run that ended has just removed the folder
            continue
        if fcntl is None:
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if error.errno not in _HELD:
                with contextlib.suppress(OSError):  # nothing is left behind but the rows of an earlier run
                    (folder / "lock").unlink()
                    folder.rmdir()
                raise StoreError(
                    f"The disk of '{output}' has no locks ({error.strerror}), so nothing keeps another process from writing it "
                    "too; choose an output on another disk."
                ) from error
            raise StoreError(
                f"Another process is writing '{output}'; wait until it is done, or choose another output."
            ) from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(folder / "lock")):
                return file
        file.close()  # the lock of a run that has ended and removed it meanwhile


def remove(folder: Path) -> None:
    """Delete a folder of rows: first what makes them count, last what keeps other processes away."""
    with contextlib.suppress(OSError):
        names = sorted(os.listdir(folder), key=lambda name: (name == "lock", not name.endswith(".json"), name))
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(folder / name)
        os.rmdir(folder)
