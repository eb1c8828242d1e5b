"""Opening files of others: what cannot be opened is not called damaged, and only what is damaged is called so."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from ffe.base.text import near_file, url_refusal
from ffe.errors import FfeError

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
PARQUET_SIGNATURE = b"PAR1"
HDF5_FILE = "feature file or another HDF5 file"  # of what its first bytes say is HDF5; what is in it is not known yet

_ZIP_END_BYTES = 66_000  # in which a zip says that it is one

_WHAT_HELPS = {
    errno.EACCES: "allow it (chmod), and run this again",
    errno.EPERM: "allow it (chmod), and run this again",
    errno.EMFILE: "raise the limit of open files (ulimit -n), and run this again",
    errno.ENFILE: "close other programs, and run this again",
    errno.EAGAIN: "another program has it open to change it; close it there, and run this again",
    errno.EIO: "the disk or the connection to it fails; look after it, or copy the file, and run this again",
    getattr(errno, "ESTALE", -1): "the network disk has lost it; mount it again, and run this again",
    errno.ELOOP: "its links lead in a circle; give the file itself",
    errno.ENAMETOOLONG: "its name is too long for this disk; check the path",
}


def first_bytes(path: Path, count: int = 8) -> bytes:
    """Return how a file begins; pipes and devices, which may keep one waiting, are not opened, and give an OSError too."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))
    with path.open("rb") as file:
        return file.read(count)


def is_zip(path: Path) -> bool:
    """Return whether a file is a zip; an OSError where it cannot be read (``zipfile.is_zipfile`` would say that it is none)."""
    with path.open("rb") as file:
        file.seek(-min(file.seek(0, os.SEEK_END), _ZIP_END_BYTES), os.SEEK_END)
        file.read()
        return zipfile.is_zipfile(file)


def is_table(path: Path) -> bool:
    """Return whether a file is Parquet, but no table of images, or an ``.npz`` of features; one that cannot be opened is none."""
    with contextlib.suppress(OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        if path.is_file() and first_bytes(path, 4) == PARQUET_SIGNATURE:
            return not _holds_images(path)
        if path.is_file() and is_zip(path):
            with zipfile.ZipFile(path) as archive:
                members = {one.filename: one.header_offset for one in archive.infolist()}
                return "features.npy" in members and min(members.values()) == 0  # else it lies in a model that is cut off
    return False


def _holds_images(path: Path) -> bool:
    """Return whether a Parquet table, as far as it can be told, holds images or lists them, and no features."""
    with contextlib.suppress(Exception):  # there is no pyarrow, or the table is damaged: who reads it says so
        from pyarrow import parquet

        schema = parquet.read_schema(path)
        return "features" not in schema.names and b"ffe" not in (schema.metadata or {})
    return False


def check_kind(
    path: str | os.PathLike[str],
    kind: str,
    sentences: Mapping[str, str],
    wrong: type[FfeError],
    unreadable: type[FfeError] | None = None,
) -> None:
    """Make sure that there is a file of a kind, ``hdf5`` or ``zip``, told from its first and last bytes.

    ``sentences`` say, with ``{path}``, that it is ``unnamed``, a ``folder``, ``missing``, ``empty``, ``hdf5``, ``zip`` or some
    ``other`` file: ``wrong`` is raised with them, and ``unreadable`` (None = the same) where it cannot be opened. What is said of
    a table of features is the same for all.
    """
    place = Path(path)
    try:
        found = _kind_of(place) if os.fspath(path) else "unnamed"
    except (FileNotFoundError, NotADirectoryError) as error:
        raise wrong(url_refusal(path) or sentences["missing"].format(path=place) + near_file(path)) from error
    except OSError as error:
        raise (unreadable or wrong)(unopened(place, error)) from error
    if found in {"zip", "other"} and is_table(place):
        instead = "the feature file that it was made of" if kind == "hdf5" else "a model"
        raise wrong(f"'{place}' is a table, which 'ffe tune', 'train' and 'evaluate' take; give {instead}.")
    if found != kind:
        raise wrong(sentences[found].format(path=place))


def _kind_of(path: Path) -> str:
    if path.is_dir():
        return "folder"
    start = first_bytes(path)
    if is_zip(path):
        return "zip"
    return "empty" if not start else "hdf5" if start == HDF5_SIGNATURE else "other"


def kind_of_ours(path: Path) -> str:
    """Return ``HDF5_FILE`` by a file's first bytes, ``model file`` by its name; empty for folders and all others."""
    with contextlib.suppress(OSError):
        kind = _kind_of(path)
        return HDF5_FILE if kind == "hdf5" else "model file" if kind != "folder" and path.suffix.lower() == ".ffe" else ""
    return ""


def is_model(path: Path) -> bool:
    """Return whether a file is to be read as a model; one that cannot be opened is not, unless its name says so."""
    try:
        return path.suffix == ".ffe" or (path.is_file() and is_zip(path) and not is_table(path))
    except OSError:  # who opens it as a feature file will say why
        return False


def takes_files(folder: Path) -> bool:
    """Return whether a file can be made in a folder: it is tried, as rights do not tell all. A full disk is found later."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError as error:
        return error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def unwritable(folder: Path, replaced: bool, what: str = "output") -> str:
    """Return a sentence for a folder that takes no file; ``replaced`` = one that is there was to be replaced."""
    why = ", and a file is replaced by a new one that is made beside it" if replaced else ""
    return f"The folder '{folder}' cannot be written to{why}; choose another place for the {what}."


def unopened(path: Path, error: OSError) -> str:
    """Return a sentence for a file that could not be opened or read: why, and what to do; nothing is said of its content."""
    if error.errno == errno.EINVAL and error.filename is not None:
        return f"'{path}' cannot be read: {error.strerror}; give a file."
    number = error.errno or 0
    why = os.strerror(number) if number else " ".join(str(error).split())[:120]
    return f"'{path}' cannot be opened ({why}); {_WHAT_HELPS.get(number, 'mend that, and run this again')}."
