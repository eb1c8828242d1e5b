"""What lies below a folder: files, folders, and what is neither; nothing is opened but folders."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque
from pathlib import Path

from ffe.base.columns import Texts
from ffe.base.shard_names import without_shard
from ffe.errors import SourceError
from ffe.images.file_names import printable
from ffe.images.records import SPLIT_NAMES

# what systems, archives and servers put beside pictures
_NOT_IMAGES = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "picasa.ini"),
    *("__macosx", "@eadir", "$recycle.bin", "#recycle", "system volume information", "lost+found"),
}

_Identity = tuple[int, int]  # device and number of a folder
_Folder = tuple[str, str, frozenset[_Identity]]  # where it lies, its relative path, the folders above it


def is_passed_over(name: str) -> bool:
    """Return whether a file or folder of a name is hidden, or is what systems put beside pictures."""
    return name.startswith(".") or name.lower() in _NOT_IMAGES


def list_files(folder: Path) -> tuple[list[Path], list[tuple[str, str]]]:
    """Return all regular files below a folder, sorted, whatever its subfolders are called; and (path, reason) of the rest."""
    walk = FolderWalk(folder)
    return [folder / path for path in sorted(walk.files)], sorted((printable(path), why) for path, why in walk.left_out)


class FolderWalk:
    """Goes through the folders below ``root``, each once in a class, linked ones last; passes over ``output``, a real path."""

    def __init__(self, root: Path, output: str | None = None) -> None:
        self.files = Texts()  # relative; a name that is no text keeps its bytes, as ``os.fsdecode`` gives them
        self.left_out: list[tuple[str, str]] = []  # (path, reason) of what is no regular file
        self.folders: list[str] = []  # and links to nothing that are named like folders
        self.hidden: list[str] = []  # hidden folders, which are not entered
        self._output = output
        self._seen: dict[tuple[str, _Identity], str] = {}
        self._waiting: list[_Folder] = [(os.fspath(root), "", _above(root))]
        self._linked: deque[_Folder] = deque()
        try:
            os.scandir(root).close()
        except OSError as error:
            raise SourceError(f"The folder '{root}' cannot be read: {error.strerror}.") from error
        while self._waiting or self._linked:
            self._enter(*(self._waiting.pop() if self._waiting else self._linked.popleft()))

    def _enter(self, folder: str, prefix: str, above: frozenset[_Identity]) -> None:
        try:
            identity = _identity(folder)
            if identity in above:
                self.left_out.append((prefix, "a link back to a folder above it"))
                return
            before = self._seen.setdefault((_class_of(prefix), identity), prefix)
            if before != prefix:
                self.left_out.append((prefix, f"the same folder as '{printable(before)}', which counts already"))
                return
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self.left_out.append((prefix, f"folder cannot be read: {error.strerror}"))
            return
        for entry in entries:
            path = f"{prefix}/{entry.name}" if prefix else entry.name
            if entry.name.startswith("."):
                with contextlib.suppress(OSError):
                    self.hidden += [path] if entry.is_dir() else []
            elif not is_passed_over(entry.name) and not _belongs_to(entry.path, self._output):
                self._sort(entry, path, above | {identity})

    def _sort(self, entry: os.DirEntry[str], path: str, above: frozenset[_Identity]) -> None:
        """Note an entry of a folder as what it is."""
        try:
            mode = entry.stat().st_mode
        except FileNotFoundError:
            self.left_out.append((path, "a link to a file that is not there"))
            self.folders += [] if os.path.splitext(path)[1] else [path]
        except OSError as error:
            self.left_out.append((path, f"cannot be reached: {error.strerror}"))
        else:
            if stat.S_ISDIR(mode):
                self.folders.append(path)
                (self._linked if entry.is_symlink() else self._waiting).append((entry.path, path, above))
            elif stat.S_ISREG(mode):
                self.files.append(path)
            else:
                self.left_out.append((path, "a pipe, a device or a socket, not a file"))


def _identity(folder: str | Path) -> _Identity:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _above(root: Path) -> frozenset[_Identity]:
    """Return the folders that a folder lies in: links to them lead back to it."""
    found = set()
    for folder in Path(os.path.realpath(root)).parents:
        with contextlib.suppress(OSError):
            found.add(_identity(folder))
    return frozenset(found)


def _class_of(prefix: str) -> str:
    """Return the part of a path that says the class: the first folder, or the first two where one of them is a split."""
    parts = prefix.split("/")[:2]
    return "/".join(parts if any(part.lower() in SPLIT_NAMES for part in parts) else parts[:1])


def _belongs_to(path: str, output: str | None) -> bool:
    """Return whether a file is the output, a shard of it, or one that is written beside it on the way."""
    if output is None or not os.path.basename(path).startswith(os.path.splitext(os.path.basename(output))[0]):
        return False
    real = without_shard(os.path.realpath(path))
    return real == output or real.startswith((f"{output}.partial", f"{output}.tmp"))
