"""Folders, CSV files and lists of paths -> image records. No image is opened here."""

from __future__ import annotations

import contextlib
import csv
import os
import stat
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ffe.errors import SourceError

UNLABELLED = -1

Split = Literal["", "train", "valid", "test"]

SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}

# what systems, archives and servers put beside pictures
_NOT_IMAGES = {
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "picasa.ini"),
    *("__macosx", "@eadir", "$recycle.bin", "#recycle", "system volume information", "lost+found"),
}
_MOST_CSV_BYTES = 1 << 30

_Identity = tuple[int, int]  # device and number of a folder
_Folder = tuple[str, str, frozenset[_Identity]]  # where it lies, its relative path, the folders above it


@dataclass(frozen=True)
class ImageRecord:
    """One image file that a source names.

    Attributes:
        path: relative to the source, with ``/`` between the parts; unique.
        file: where the file lies.
        label: index into ``Scan.class_names``; -1 = unlabelled.
        split: ``train``, ``valid``, ``test``, or empty where the source gives none.
        group: name of what must not be torn apart by a split (a burst, a patient,
            a video), or empty where the source gives none.
    """

    path: str
    file: Path
    label: int
    split: Split
    group: str = ""


@dataclass(frozen=True)
class Scan:
    """What a source holds.

    Attributes:
        root: the folder that the records' paths are relative to.
        kind: how the source was understood: ``class folders``, ``split
            folders``, ``csv`` or ``flat folder``.
        class_names: sorted names; a label is an index into them.
        records: sorted by path.
        left_out: (path, reason) of files that are no records: special files,
            names that are no text, files outside the class folders.
    """

    root: Path
    kind: Literal["class folders", "split folders", "csv", "flat folder"]
    class_names: tuple[str, ...]
    records: tuple[ImageRecord, ...]
    left_out: tuple[tuple[str, str], ...] = ()


def scan(source: str | os.PathLike[str], output: Path | None = None) -> Scan:
    """List the images of a source.

    A folder is understood by its subfolders: one per class; or one per split
    (``train``, ``valid``, ``val``, ``validation``, ``test``) with class folders
    inside; or none at all (a flat, unlabelled folder).
    A CSV has the columns ``path`` and ``label``, and may have ``split`` and
    ``group``; its paths are relative to the CSV. Hidden files are passed over. Links are
    followed; a loop of links ends, and a folder that is reached twice within a class
    counts once.

    Args:
        source: the folder or CSV.
        output: a file that is being made from the source; where it lies inside
            the folder, it and what is written beside it are no images.

    Raises:
        SourceError: the source is missing, empty, or can be read in two ways.
    """
    path = Path(source)
    if not path.exists():
        raise SourceError(f"There is no file or folder '{path}'; check the path.")
    if path.is_dir():
        found = _scan_folder(path, None if output is None else os.path.realpath(output))
    elif path.suffix.lower() in {".csv", ".tsv"}:
        found = _scan_csv(path)
    else:
        raise SourceError(f"'{path}' is neither a folder nor a CSV file; give the folder that holds the images.")
    if not found.records and found.kind == "csv":
        raise SourceError(f"The CSV '{path}' lists no images; give each a line with its path and its label, under the first.")
    if not found.records:
        raise SourceError(f"There are no images in '{path}'; expected one folder per class with image files inside.")
    return found


def list_files(folder: Path, output: str | None = None) -> tuple[list[tuple[str, Path]], list[tuple[str, str]]]:
    """List all regular files below a folder, whatever its subfolders are called.

    Returns:
        (relative path, file) of each, sorted; and (path, reason) of what was left out.

    Raises:
        SourceError: the folder cannot be read.
    """
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise SourceError(f"The folder '{folder}' cannot be read: {error.strerror}.") from error
    walk = _Walk(folder, output)
    return sorted(walk.files), sorted(walk.left_out)


def _scan_folder(root: Path, output: str | None) -> Scan:
    everything, left_out = list_files(root, output)
    files: dict[str, list[tuple[str, Path]]] = {}
    loose = []
    for path, file in everything:
        if "/" in path:
            files.setdefault(path.split("/")[0], []).append((path, file))
        else:
            loose.append((path, file))
    filled = sorted(files)
    if not filled:
        records = tuple(ImageRecord(path, file, UNLABELLED, "") for path, file in sorted(loose))
        return Scan(root, "flat folder", (), records, tuple(left_out))
    left_out += [(path, "outside the class folders") for path, _ in loose]

    splits = {name: SPLIT_NAMES[name.lower()] for name in filled if name.lower() in SPLIT_NAMES}
    with_classes = [name for name in splits if any(path.count("/") > 1 for path, _ in files[name])]
    others = [name for name in filled if name not in splits]
    if not with_classes and others:  # "train" may well be a class, beside "bus" and "tram"
        labelled = [(path, file, name, "", "") for name in filled for path, file in files[name]]
        return _labelled(root, "class folders", labelled, left_out)
    if not with_classes:
        raise SourceError(
            f"'{root}' holds only {', '.join(splits)} and no class folders in them; "
            "put the images into one folder per class, or list them in a CSV with the columns path,label,split."
        )
    if others:
        raise SourceError(
            f"'{root}' mixes split folders ({', '.join(splits)}) with other folders ({', '.join(others)}); "
            "move the others away, or into the splits."
        )
    if len(set(splits.values())) < len(splits):
        raise SourceError(f"'{root}' names one split twice ({', '.join(splits)}); keep one folder for each split.")
    entries: list[tuple[str, Path, str, str, str]] = []
    for name, split in splits.items():
        for path, file in files[name]:
            parts = path.split("/")
            entries.append((path, file, parts[1] if len(parts) > 2 else "", split, ""))
    return _labelled(root, "split folders", entries, left_out)


def _labelled(
    root: Path,
    kind: Literal["class folders", "split folders", "csv"],
    entries: list[tuple[str, Path, str, str, str]],
    left_out: list[tuple[str, str]],
) -> Scan:
    """Turn (path, file, class name or empty, split, group) into a scan with sorted classes."""
    class_names = tuple(sorted({name for _, _, name, _, _ in entries if name}))
    index = {name: i for i, name in enumerate(class_names)}
    records = sorted(
        (ImageRecord(path, file, index.get(name, UNLABELLED), split, group) for path, file, name, split, group in entries),  # type: ignore[arg-type]
        key=lambda record: record.path,
    )
    return Scan(root, kind, class_names, tuple(records), tuple(left_out))


class _Walk:
    """Goes through the folders below one, each once in a class, and what links lead to after all else.

    Attributes:
        files: (relative path, file) of each regular file.
        left_out: (path, reason) of what is none.
    """

    def __init__(self, root: Path, output: str | None) -> None:
        self.files: list[tuple[str, Path]] = []
        self.left_out: list[tuple[str, str]] = []
        self._output = output
        self._seen: dict[tuple[str, _Identity], str] = {}
        self._waiting: list[_Folder] = [(os.fspath(root), "", _above(root))]
        self._linked: deque[_Folder] = deque()
        while self._waiting or self._linked:
            self._enter(*(self._waiting.pop() if self._waiting else self._linked.popleft()))

    def _enter(self, folder: str, prefix: str, above: frozenset[_Identity]) -> None:
        """Note the files of a folder, and the folders in it as those to enter next."""
        try:
            status = os.stat(folder)
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                self.left_out.append((printable(prefix), "a link back to a folder above it"))
                return
            before = self._seen.setdefault((_class_of(prefix), identity), prefix)
            if before != prefix:
                self.left_out.append((printable(prefix), f"the same folder as '{printable(before)}', which counts already"))
                return
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self.left_out.append((printable(prefix), f"folder cannot be read: {error.strerror}"))
            return
        for entry in entries:
            path = f"{prefix}/{entry.name}" if prefix else entry.name
            if not entry.name.startswith(".") and entry.name.lower() not in _NOT_IMAGES and not self._is_output(entry):
                self._sort(entry, path, above | {identity})

    def _is_output(self, entry: os.DirEntry[str]) -> bool:
        return self._output is not None and _belongs_to(entry.path, self._output)

    def _sort(self, entry: os.DirEntry[str], path: str, above: frozenset[_Identity]) -> None:
        try:
            mode = entry.stat().st_mode
        except FileNotFoundError:
            self.left_out.append((printable(path), "a link to a file that is not there"))
            return
        except OSError as error:
            self.left_out.append((printable(path), f"cannot be reached: {error.strerror}"))
            return
        if stat.S_ISDIR(mode):
            (self._linked if entry.is_symlink() else self._waiting).append((entry.path, path, above))
        elif printable(path) != path:
            self.left_out.append((printable(path), "the file name is not valid text; rename the file"))
        elif stat.S_ISREG(mode):
            self.files.append((path, Path(entry.path)))
        else:
            self.left_out.append((path, "a pipe, a device or a socket, not a file"))


def _above(root: Path) -> frozenset[_Identity]:
    """Return the folders that a folder lies in: links to them lead back to it."""
    found = set()
    for folder in Path(os.path.realpath(root)).parents:
        with contextlib.suppress(OSError):
            status = os.stat(folder)
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)


def _class_of(prefix: str) -> str:
    """Return the part of a path that says the class: the first folder, or the first two where the first is a split."""
    parts = prefix.split("/")
    return "/".join(parts[: 2 if parts[0].lower() in SPLIT_NAMES else 1])


def _belongs_to(path: str, output: str) -> bool:
    """Return whether a file is the output, or one that is written beside it on the way."""
    if not os.path.basename(path).startswith(os.path.basename(output)):
        return False
    real = os.path.realpath(path)
    return real == output or real.startswith((f"{output}.partial", f"{output}.tmp"))


def printable(path: str) -> str:
    """Return a path as valid text: bytes of no encoding show as a question mark in a box."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _scan_csv(path: Path) -> Scan:
    if not path.is_file():
        raise SourceError(f"'{path}' is a pipe, a device or a socket, not a file; save the list as a CSV file.")
    if path.stat().st_size > _MOST_CSV_BYTES:
        raise SourceError(f"The CSV '{path}' has more than {_MOST_CSV_BYTES >> 30} GiB; split it up, or check that it is a CSV.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            header = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"The CSV '{path}' cannot be read ({error}); save it as UTF-8 text.") from error
    for column in ("path", "label"):
        if column not in header:
            raise SourceError(
                f"The CSV '{path}' has no '{column}' column (found: {', '.join(header) or 'nothing'}); "
                "its first line must name the columns path,label and, if you like, split and group."
            )
    entries: list[tuple[str, Path, str, str, str]] = []
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        name, label, split, group = ((row.get(column) or "").strip() for column in ("path", "label", "split", "group"))
        if not name:
            raise SourceError(f"Line {number} of '{path}' has no path; fill it in or remove the line.")
        if split and split.lower() not in SPLIT_NAMES:
            raise SourceError(f"Line {number} of '{path}' has the split '{split}'; use train, valid or test, or leave it empty.")
        if "\0" in name or "\0" in group:
            what = "path" if "\0" in name else "group"
            raise SourceError(f"Line {number} of '{path}' has a {what} with a zero byte; mend the line.")
        if name in seen:
            raise SourceError(f"Line {number} of '{path}' names '{name}' a second time; keep one line per image.")
        seen.add(name)
        entries.append((name, path.parent / name, label, SPLIT_NAMES[split.lower()] if split else "", group))
    return _labelled(path.parent, "csv", entries, [])
