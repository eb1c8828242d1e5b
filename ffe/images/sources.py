"""Folders, CSV files and lists of paths -> image records. No image is opened here."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ffe.base.text import composed, few, near_file, quoted, url_refusal
from ffe.errors import SourceError
from ffe.images.csv_list import Finding, read_list
from ffe.images.file_names import is_text, on_disk, printable

log = logging.getLogger("ffe")

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
_PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".jp2")
_SEVERAL_LABELS = (";", "|")

Kind = Literal["class folders", "split folders", "splits in class folders", "csv", "flat folder"]
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
        line: of the CSV that names it, from 1; 0 = none does.
    """

    path: str
    file: Path
    label: int
    split: Split
    group: str = ""
    line: int = 0


@dataclass(frozen=True)
class Scan:
    """What a source holds.

    Attributes:
        root: the folder that the records' paths are relative to.
        kind: how the source was understood: ``class folders``, ``split
            folders``, ``splits in class folders``, ``csv`` or ``flat folder``.
        class_names: sorted names, in the form NFC; a label is an index into them.
        records: sorted by path.
        left_out: (path, reason) of files that are no records: special files,
            names that are no text, files outside the class folders, class folders without files.
        findings: what a user should know of it, the gravest first.
    """

    root: Path
    kind: Kind
    class_names: tuple[str, ...]
    records: tuple[ImageRecord, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()


def scan(source: str | os.PathLike[str], output: Path | None = None) -> Scan:
    """List the images of a source, and say what is odd about it.

    A folder is understood by its subfolders: one per class; or one per split
    (``train``, ``valid``, ``val``, ``validation``, ``test``) with class folders
    inside; or one per class with split folders inside; or none at all (a flat,
    unlabelled folder).
    A CSV has the columns ``path`` and ``label``, and may have ``split`` and
    ``group``; its paths are relative to the CSV. Hidden files are passed over. Links are
    followed; a loop of links ends, and a folder that is reached twice within a class
    counts once. Names that look the same are the same: they are compared in the form NFC.

    Args:
        source: the folder or CSV.
        output: a file that is being made from the source; where it lies inside
            the folder, it and what is written beside it are no images.

    Raises:
        SourceError: the source is missing, empty, or can be read in two ways; a line of
            the CSV cannot be used; a whole class cannot be read.
    """
    found = list_images(source, output)
    refused = [finding for finding in found.findings if finding.level == "refused"]
    if refused:
        more = f" 'ffe scan {source}' lists {len(refused) - 1} more." if len(refused) > 1 else ""
        raise SourceError(refused[0].text + more)
    for finding in found.findings:
        log.log(logging.WARNING if finding.level == "warning" else logging.INFO, "%s", finding.text)
    return found


def list_images(source: str | os.PathLike[str], output: Path | None = None) -> Scan:
    """List the images of a source as ``scan`` does, but refuse nothing that can be looked at: it becomes a finding.

    Raises:
        SourceError: the source is missing or empty, or no list of images.
    """
    if not os.fspath(source):
        raise SourceError("The source is empty; name the folder or CSV of the images (is a variable unset?).")
    path = on_disk(Path(source))
    if not path.exists():
        raise SourceError(url_refusal(source) or f"There is no file or folder '{path}'; check the path.{near_file(path)}")
    if path.is_dir():
        found = _scan_folder(path, None if output is None else os.path.realpath(output))
    elif path.suffix.lower() in {".csv", ".tsv"}:
        found = _scan_csv(path)
    else:
        raise SourceError(f"'{path}' is neither a folder nor a CSV file; give the folder that holds the images.")
    if not found.records and found.findings and found.findings[0].level == "refused":
        raise SourceError(found.findings[0].text)
    if not found.records and found.kind == "csv":
        raise SourceError(f"The CSV '{path}' lists no images; give each a line with its path and its label, under the first.")
    if not found.records:
        raise SourceError(f"There are no images in '{path}'; expected one folder per class with image files inside.")
    return found


def list_files(folder: Path, output: str | None = None) -> tuple[list[tuple[str, Path]], list[tuple[str, str]]]:
    """List all regular files below a folder, whatever its subfolders are called.

    Returns:
        (relative path, file) of each, sorted; names that are no text keep their
        bytes, as ``os.fsdecode`` gives them; and (path, reason) of what was left out.

    Raises:
        SourceError: the folder cannot be read.
    """
    walk = _walk(folder, output)
    return sorted(walk.files), sorted((printable(path), why) for path, why in walk.left_out)


def _walk(folder: Path, output: str | None) -> _Walk:
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise SourceError(f"The folder '{folder}' cannot be read: {error.strerror}.") from error
    return _Walk(folder, output)


def _scan_folder(root: Path, output: str | None) -> Scan:
    walk = _walk(root, output)
    files: dict[str, list[_Entry]] = {}
    loose: list[_Entry] = []
    left_out = list(walk.left_out)
    for path, file in sorted(walk.files):
        if not is_text(path):
            left_out.append((path, _why_no_text(path)))
        elif "/" in path:
            files.setdefault(path.split("/")[0], []).append((path, file))
        else:
            loose.append((path, file))
    if not files:
        lost = _lost(root, walk, (), left_out, 1)
        records = tuple(ImageRecord(path, file, UNLABELLED, "") for path, file in loose)
        return Scan(root, "flat folder", (), records, _shown(left_out), tuple(lost))
    kind, entries, problem = _layout(root, files, any(path.lower().endswith(_PICTURES) for path, _ in loose))
    deep = 2 if kind == "split folders" else 1
    found = [Finding("refused", problem)] if problem else []
    found += _lost(root, walk, [path for path, *_ in entries], left_out, deep)
    found += _hidden(root, walk, deep)
    left_out += [(path, "outside the class folders") for path, _ in loose]
    used = {path for path, *_ in entries}
    left_out += [(path, "beside the splits of its class") for those in files.values() for path, _ in those if path not in used]
    return _labelled(root, kind, entries, left_out, found)


_Entry = tuple[str, Path]  # relative path, file
_Labelled = tuple[str, Path, str, str, str, int]  # the same, class name or empty, split, group, line


def _why_no_text(path: str) -> str:
    *folders, _ = path.split("/")
    bad = next((folder for folder in folders if not is_text(folder)), None)
    if bad is None:
        return "the file name is not valid text; rename the file"
    return f"the folder '{printable(bad)}' has a name that is not valid text; rename the folder"


def _shown(left_out: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((printable(path), why) for path, why in left_out))


def _layout(root: Path, files: dict[str, list[_Entry]], loose: bool) -> tuple[Kind, list[_Labelled], str | None]:
    """Understand a folder by the folders in it.

    Args:
        root: the folder.
        files: those of each folder in it.
        loose: whether there are pictures beside these folders.

    Returns:
        How it is understood, its images, and why it is refused, or None.
    """
    filled = sorted(files)
    splits = {name: SPLIT_NAMES[name.lower()] for name in filled if name.lower() in SPLIT_NAMES}
    with_classes = [name for name in splits if any(path.count("/") > 1 for path, _ in files[name])]
    others = [name for name in filled if name not in splits]
    plain: list[_Labelled] = [(path, file, name, "", "", 0) for name in filled for path, file in files[name]]
    if not with_classes and others:  # "train" may well be a class, beside "bus" and "tram"
        return _class_folders(root, files, plain, loose)
    if not with_classes:
        return (
            "class folders",
            plain,
            f"'{root}' holds only {', '.join(splits)} and no class folders in them; "
            "put the images into one folder per class, or list them in a CSV with the columns path,label,split.",
        )
    if others:
        return (
            "class folders",
            plain,
            f"'{root}' mixes split folders ({', '.join(splits)}) with other folders ({', '.join(others)}); "
            "move the others away, or into the splits.",
        )
    entries: list[_Labelled] = []
    for name, split in splits.items():
        for path, file in files[name]:
            parts = path.split("/")
            entries.append((path, file, parts[1] if len(parts) > 2 else "", split, "", 0))
    problem = None
    if len(set(splits.values())) < len(splits):
        problem = f"'{root}' names one split twice ({', '.join(splits)}); keep one folder for each split."
    elif len({composed(label) for _, _, label, *_ in entries}) == 1:
        inner, _ = _folders_in([path.split("/")[2:] for path, _, label, *_ in entries if label])
        if len(inner) > 1:
            problem = (
                f"The splits of '{root}' hold one folder only, '{max(label for _, _, label, *_ in entries)}', which holds others "
                f"({few(quoted(inner))}); if those are the classes, move them up, directly into the splits."
            )
    return "split folders", entries, problem


def _class_folders(
    root: Path, files: dict[str, list[_Entry]], plain: list[_Labelled], loose: bool
) -> tuple[Kind, list[_Labelled], str | None]:
    """Understand a folder of class folders: there may be splits in them, or the classes may lie deeper."""
    inside = {name: {_part(path) for path, _ in found} for name, found in files.items()}
    split = sorted(
        name for name, parts in inside.items() if len({SPLIT_NAMES.get(part.lower(), "") for part in parts} - {""}) > 1
    )
    if split:  # then other files than pictures are no images of a class
        inside = {
            name: {part for part in parts if part.lower() in SPLIT_NAMES}
            | {_part(path) for path, _ in files[name] if path.lower().endswith(_PICTURES)}
            for name, parts in inside.items()
        }
    parted = sorted(name for name, parts in inside.items() if parts and all(part.lower() in SPLIT_NAMES for part in parts))
    if not loose and (problem := _one_level_off(root, [path.split("/") for path, *_ in plain])):
        return "class folders", plain, problem
    of_splits = [path for name in {*split, *parted} for path, _ in files[name] if _part(path).lower() in SPLIT_NAMES]
    pictures = [path for path in of_splits if path.lower().endswith(_PICTURES)]
    if of_splits and all(path.count("/") > 2 for path in pictures or of_splits):
        parted = sorted({*split, *parted})
        problem = (
            f"In '{root}', {few(quoted(parted))} hold{'s' if len(parted) == 1 else ''} splits with folders in them; give one of "
            f"the folders, such as '{root / parted[0]}', or list the images in a CSV with the columns path,label,split."
        )
        return "class folders", plain, problem
    if not split and len(parted) < len(files):
        return "class folders", plain, None
    if torn := [name for name in split if name not in parted]:
        parts = inside[torn[0]]
        beside = sorted(f"'{part}'" if part else "loose ones" for part in parts if part.lower() not in SPLIT_NAMES)
        problem = (
            f"'{root / torn[0]}' holds split folders ({', '.join(sorted(p for p in parts if p.lower() in SPLIT_NAMES))}) "
            f"and other pictures beside them ({few(beside)}); move these into the splits, or away."
        )
        return "class folders", plain, problem
    if len(parted) < len(files):
        others = sorted(set(files) - set(parted))
        problem = (
            f"In '{root}', {few(quoted(split))} hold{'s' if len(split) == 1 else ''} split folders "
            f"({', '.join(sorted(inside[split[0]]))}) and {few(quoted(others))} {'does' if len(others) == 1 else 'do'} not; "
            "give every class the same splits, or list the images in a CSV with the columns path,label,split."
        )
        return "class folders", plain, problem
    for name, parts in inside.items():
        if len({SPLIT_NAMES[part.lower()] for part in parts}) < len(parts):
            problem = f"'{root / name}' names one split twice ({', '.join(sorted(parts))}); keep one folder for each split."
            return "class folders", plain, problem
    entries: list[_Labelled] = [
        (path, file, name, SPLIT_NAMES[_part(path).lower()], "", 0)
        for path, file, name, *_ in plain
        if _part(path).lower() in SPLIT_NAMES
    ]
    return "splits in class folders", entries, None


def _part(path: str) -> str:
    """Return the folder in its class that a file lies in, or below; empty = none."""
    return path.split("/")[1] if path.count("/") > 1 else ""


def _one_level_off(root: Path, paths: Sequence[Sequence[str]]) -> str | None:
    """Return where the class folders or splits lie, where all images lie in one folder, in a sentence; None = in their place."""
    place = root
    while True:
        tops, rest = _folders_in(paths)
        if not tops or (len(tops) == 1 and tops[0].lower() not in SPLIT_NAMES):
            if not tops:
                return None
            place, paths = place / tops[0], rest
            continue
        if place == root or (all(top.lower() in SPLIT_NAMES for top in tops) and not any(len(parts) > 1 for parts in rest)):
            return None
        return (
            f"'{root}' holds one folder only, and '{place}' in it holds others ({few(quoted(tops))}); did you mean '{place}'? "
            "Images that are all of one class belong directly into its folder."
        )


def _folders_in(paths: Sequence[Sequence[str]]) -> tuple[list[str], list[Sequence[str]]]:
    """Return the folders that some paths begin with, and what comes behind these; none where pictures lie beside them."""
    if any(len(parts) == 1 and parts[0].lower().endswith(_PICTURES) for parts in paths):
        return [], []
    return sorted({parts[0] for parts in paths if len(parts) > 1}), [parts[1:] for parts in paths if len(parts) > 1]


def _lost(root: Path, walk: _Walk, used: Iterable[str], left_out: list[tuple[str, str]], deep: int) -> Iterator[Finding]:
    """Yield the class folders, and splits, that give no image: refused where there is something in them that cannot be read.

    Args:
        root: the source.
        walk: what lies in it.
        used: paths of the images.
        left_out: what gives none, and why; empty folders are added.
        deep: class folders lie so deep.
    """
    filled = {"/".join(path.split("/")[:n]) for path in used for n in (1, 2)}
    why: dict[str, str] = {}
    for path, reason in left_out:
        for n in (1, 2):
            why.setdefault("/".join(path.split("/")[:n]), reason)
    lost: list[str] = []
    empty: list[str] = []
    for folder in sorted(walk.folders):
        parts = folder.split("/")
        if len(parts) > deep or folder in filled or (len(parts) == 2 and parts[0] not in filled):
            continue
        (lost if folder in why else empty).append(folder)
    if lost:
        them = "this folder" if len(lost) == 1 else "these folders"
        yield Finding(
            "refused",
            f"No image can be read in {few(quoted(map(printable, lost)))} of '{root}' ({why[lost[0]]}); mend that, "
            f"or take {them} away if nothing is to be learnt from {'it' if len(lost) == 1 else 'them'}.",
        )
    if empty and filled:
        left_out += [(folder, "an empty folder") for folder in empty]
        are = "is empty, so it is no class" if len(empty) == 1 else "are empty, so they are no classes"
        yield Finding("warning", f"{few(quoted(map(printable, empty)))} of '{root}' {are}; add images, or remove what is empty.")


def _hidden(root: Path, walk: _Walk, deep: int) -> Iterator[Finding]:
    """Yield a note of hidden folders that stand where class folders do, and hold pictures."""
    found = []
    for folder in sorted(path for path in walk.hidden if path.count("/") < deep):
        with contextlib.suppress(OSError), os.scandir(root / folder) as entries:
            if any(entry.name.lower().endswith(_PICTURES) for entry in entries):
                found.append(printable(folder))
    if found:
        what = "folder is" if len(found) == 1 else "folders are"
        yield Finding(
            "note", f"the hidden {what} passed over: {few(quoted(found))}; a name without a dot in front makes it a class"
        )


def _labelled(
    root: Path,
    kind: Kind,
    entries: Sequence[_Labelled],
    left_out: list[tuple[str, str]],
    findings: list[Finding],
) -> Scan:
    """Turn images with the names of their classes into a scan with sorted classes."""
    spelt = sorted({name for _, _, name, *_ in entries if name})
    class_names = tuple(sorted({composed(name) for name in spelt}))
    index = {name: class_names.index(composed(name)) for name in spelt}
    records = sorted(
        (
            ImageRecord(path, file, index.get(name, UNLABELLED), split, group, line)  # type: ignore[arg-type]
            for path, file, name, split, group, line in entries
        ),
        key=lambda record: record.path,
    )
    findings += _of_names(spelt, class_names)
    findings.sort(key=lambda finding: ("refused", "warning", "note").index(finding.level))
    return Scan(root, kind, class_names, tuple(records), _shown(left_out), tuple(findings))


def _of_names(spelt: Sequence[str], class_names: Sequence[str]) -> Iterator[Finding]:
    """Yield what is odd about the names of classes."""
    if len(spelt) > len(class_names):
        twice = sorted(name for name, count in Counter(map(composed, spelt)).items() if count > 1)
        yield Finding(
            "note",
            f"the name{'s' if len(twice) > 1 else ''} {few(quoted(twice))} "
            f"{'are' if len(twice) > 1 else 'is'} spelt in two ways that look the same; each is one class",
        )
    alike: dict[str, list[str]] = {}
    for name in class_names:
        alike.setdefault(name.casefold(), []).append(name)
    cases = [" and ".join(quoted(names)) for names in alike.values() if len(names) > 1]
    if cases:
        yield Finding(
            "warning",
            f"classes whose names differ only in capital letters: {few(cases)}; if they are one class, give them one name",
        )
    several = [name for name in class_names if any(all(p.strip() for p in name.split(c)) for c in _SEVERAL_LABELS if c in name)]
    if several:
        yield Finding(
            "warning",
            f"{few(quoted(several))} {'counts as one class' if len(several) == 1 else 'count as one class each'}: "
            "an image has one label in ffe; give each the label that matters, or leave such images out",
        )


class _Walk:
    """Goes through the folders below one, each once in a class, and what links lead to after all else.

    Attributes:
        files: (relative path, file) of each regular file; a name that is no text keeps its bytes.
        left_out: (path, reason) of what is none.
        folders: relative paths of all folders, and of links to nothing that are named like folders.
        hidden: those of hidden folders, which are not entered.
    """

    def __init__(self, root: Path, output: str | None) -> None:
        self.files: list[tuple[str, Path]] = []
        self.left_out: list[tuple[str, str]] = []
        self.folders: list[str] = []
        self.hidden: list[str] = []
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
                self._note_hidden(entry, path)
            elif entry.name.lower() not in _NOT_IMAGES and not self._is_output(entry):
                self._sort(entry, path, above | {identity})

    def _note_hidden(self, entry: os.DirEntry[str], path: str) -> None:
        with contextlib.suppress(OSError):
            if entry.is_dir():
                self.hidden.append(path)

    def _is_output(self, entry: os.DirEntry[str]) -> bool:
        return self._output is not None and _belongs_to(entry.path, self._output)

    def _sort(self, entry: os.DirEntry[str], path: str, above: frozenset[_Identity]) -> None:
        try:
            mode = entry.stat().st_mode
        except FileNotFoundError:
            self.left_out.append((path, "a link to a file that is not there"))
            if not os.path.splitext(path)[1]:
                self.folders.append(path)
            return
        except OSError as error:
            self.left_out.append((path, f"cannot be reached: {error.strerror}"))
            return
        if stat.S_ISDIR(mode):
            self.folders.append(path)
            (self._linked if entry.is_symlink() else self._waiting).append((entry.path, path, above))
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
    """Return the part of a path that says the class: the first folder, or the first two where one of them is a split."""
    parts = prefix.split("/")[:2]
    return "/".join(parts if any(part.lower() in SPLIT_NAMES for part in parts) else parts[:1])


def _belongs_to(path: str, output: str) -> bool:
    """Return whether a file is the output, or one that is written beside it on the way."""
    if not os.path.basename(path).startswith(os.path.basename(output)):
        return False
    real = os.path.realpath(path)
    return real == output or real.startswith((f"{output}.partial", f"{output}.tmp"))


def _scan_csv(path: Path) -> Scan:
    lines, findings = read_list(path, SPLIT_NAMES)
    entries: list[_Labelled] = [
        (line.path, path.parent / line.path, line.label, line.split, line.group, line.number) for line in lines
    ]
    return _labelled(path.parent, "csv", entries, [], findings)
