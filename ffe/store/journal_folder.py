"""The folder of an unfinished run, ``OUTPUT.partial/``: where it is, whose it is, and its end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ffe.errors import StoreError

if TYPE_CHECKING:
    from filelock import BaseFileLock

DRAFT = "draft"  # the rows, where the finished file will have them
MODEL = "backbone.zip"  # the int8 model that makes them
LOCK = "lock"  # empty; the system knows who holds it


def journal_folder(output: Path) -> Path:
    """Return where the rows of an unfinished run lie: the same for all names of one file."""
    real = Path(os.path.realpath(output))
    return real.with_name(real.name + ".partial")


def lock_output(folder: Path, output: Path) -> BaseFileLock:
    """Take the lock of an output until it is released, or the process ends; a StoreError says why it cannot be had."""
    from filelock import FileLock, Timeout

    file = folder / LOCK
    lock = FileLock(file, timeout=0, thread_local=False, fallback_to_soft=False)
    while True:
        folder.mkdir(exist_ok=True)
        try:
            file.touch()
        except FileNotFoundError:  # a run that ended has just removed the folder
            continue
        try:
            lock.acquire()
            return lock
        except FileNotFoundError:
            continue
        except Timeout as error:
            if file.exists():  # else it is the lock of a run that has ended meanwhile
                raise StoreError(
                    f"Another process is writing '{output}'; wait until it is done, or choose another output."
                ) from error
        except OSError as error:
            with contextlib.suppress(OSError):  # nothing is left behind but the rows of an earlier run
                file.unlink()
                folder.rmdir()
            raise StoreError(
                f"The disk of '{output}' has no locks ({error.strerror}), so nothing keeps another process from writing it "
                "too; choose an output on another disk."
            ) from error


@contextlib.contextmanager
def hold_output(output: Path) -> Iterator[None]:
    """Keep other processes away from an output that has no rows of its own: its shards have them."""
    folder = journal_folder(output)
    lock = lock_output(folder, output)
    try:
        yield
    finally:
        delete_folder(folder)
        release_output(lock)


def delete_folder(folder: Path) -> None:
    """Delete a folder of rows: first what makes them count, last what keeps other processes away."""
    with contextlib.suppress(OSError):
        names = sorted(os.listdir(folder), key=lambda name: (name == LOCK, not name.endswith(".json"), name))
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(folder / name)
        os.rmdir(folder)


def release_output(lock: BaseFileLock) -> None:
    """Let another process have the output; a folder that nothing is left in goes (Windows deletes no lock that is held)."""
    lock.release()
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(lock.lock_file))
