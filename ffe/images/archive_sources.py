"""Archives and tables of images as sources: one, a folder of them, or a pattern such as ``shard-{000..009}.tar``."""

from __future__ import annotations

import os
import re
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from ffe.base.columns import Numbers, Texts, joined
from ffe.base.file_stat import NO_STAMP, Stamp
from ffe.base.text import composed, counted, few, quoted
from ffe.base.urls import is_url, url_below, url_name, url_parent
from ffe.errors import DecodeError, SourceError
from ffe.images.archive import MARK, Archive, MemberTable
from ffe.images.archive_file import ArchivePlace, archive_version, decompressed, suffix_of
from ffe.images.folder_layout import common_folder, has_image_suffix, like_of
from ffe.images.image_handle import ImageHandle
from ffe.images.object_store import read_object
from ffe.images.parquet_archive import read_parquet
from ffe.images.records import SPLIT_NAMES, Finding, LabelledPath, LabelledPaths, Split
from ffe.images.tar_archive import read_tar
from ffe.images.url_source import unlisted
from ffe.images.zip_archive import read_zip
from ffe.redaction import redacted

KINDS: dict[str, Callable[[ArchivePlace], Archive]] = {".tar": read_tar, ".zip": read_zip, ".parquet": read_parquet}
NAMES_OF_CLASSES = ("classes.txt", "classnames.txt")  # beside archives whose labels are numbers

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 100_000
_NAMES_BYTES = 64 << 20
UNSEEN_SECONDS = 60  # that a list is kept of what lies at a URL, and whose changes cannot be seen
_PREFIX = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Shard:
    """An archive, its name within the source, and the split that this names."""

    path: ArchivePlace
    name: str
    split: Split = ""


class Numbered:
    """The images of archives, by their numbers: those of the first archive come first, in its order."""

    def __init__(self) -> None:
        self._shards: list[tuple[Shard, Archive]] = []
        self._ends = array("Q")

    def take(self, shard: Shard, archive: Archive) -> None:
        """Put the images of an archive behind the others."""
        self._ends.append(len(self) + len(archive.members))
        self._shards.append((shard, archive))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: int) -> ImageHandle:
        at = bisect_right(self._ends, number)
        return self._shards[at][1].image(number - (self._ends[at - 1] if at else 0))

    def shard(self, number: int) -> Shard:
        """Return where an image lies."""
        return self._shards[bisect_right(self._ends, number)][0]


@dataclass
class Members:
    """What lies in archives, as a walk through a folder would tell it; and, where they say so, what each image is."""

    above: str = ""  # the folder in the archives that holds all others, with its slash
    files: Texts = field(default_factory=Texts)  # names in the archives, below ``above``
    numbers: Numbers = field(default_factory=lambda: Numbers("I"))  # of the images that they are
    folders: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    images: Numbered = field(default_factory=Numbered)
    labelled: LabelledPaths | None = None  # by number; None = folders in the archives are the classes


def is_archive(path: str | Path) -> bool:
    """Return whether a file is named like an archive that is a source."""
    return suffix_of(path if is_url(path) else Path(path)) in KINDS


def expanded(source: str) -> tuple[ArchivePlace, list[Shard]] | None:
    """Return the archives that a pattern names, and the folder that they are named in; None = it is no pattern.

    One that is not there is a SourceError.
    """
    if (found := _RANGE.search(source)) is None or os.path.lexists(source) or not is_archive(source):
        return None
    first, last = found.groups()
    if _RANGE.search(source, found.end()) or not 0 <= int(last) - int(first) < _MOST_SHARDS:
        raise SourceError(f"'{source}' is no pattern of shards; write one as shard-{{000..009}}.tar, the smaller number first.")
    names = [f"{source[: found.start()]}{n:0{len(first)}}{source[found.end() :]}" for n in range(int(first), int(last) + 1)]
    head = source[: found.start()]
    if is_url(source):  # which each say for themselves
        root = folder_of(source)
        return root, [Shard(name, redacted(_name_in(root, name))) for name in names]
    if gone := [name for name in names if not os.path.isfile(name)]:
        are, them = ("is", "it") if len(gone) == 1 else ("are", "them")
        raise SourceError(f"Of '{source}', {few(quoted(gone))} {are} not there; fetch {them}, or change the pattern.")
    folder = Path(os.path.dirname(head))
    return folder, [Shard(Path(name), Path(name).relative_to(folder).as_posix()) for name in names]


def shards_at(url: str) -> tuple[ArchivePlace, list[Shard]]:
    """Return the folder of a URL, and the archive that it names there, or all that its pattern does."""
    return expanded(url) or (url_parent(url), [Shard(url, redacted(url_name(url)))])


def folder_of(url: str) -> str:
    """Return the URL of the folder that the archives of a URL are named in; a pattern may name folders itself."""
    found = None if "::" in url else _RANGE.search(url)
    return url_parent(url if found is None else url[: found.start()])


def _name_in(root: str, url: str) -> str:
    """Return the path of an archive below the folder of a URL, or its own name where it does not lie there."""
    name = url_name(url)
    above = url[: url.rfind(name)]
    return f"{above.removeprefix(f'{root}/')}{name}" if above.startswith(f"{root}/") and "::" not in url else name


def shards_of(root: ArchivePlace, names: Sequence[str]) -> list[Shard] | None:
    """Return the archives that are all that a folder has of images, by the relative names of its files; None = it is another.

    They lie in the folder itself, or in folders named after splits. Compressed ones that also lie there decompressed do not
    count.
    """
    if any(map(has_image_suffix, names)) or not (archives := {name for name in names if is_archive(name)}):
        return None
    found = []
    for name in sorted(name for name in archives if decompressed(name) not in archives):
        folder, _, base = name.rpartition("/")
        if folder and folder.lower() not in SPLIT_NAMES:
            return None
        word = _PREFIX.match(base.lower())
        prefix = "" if word is None or base[word.end() : word.end() + 1] not in {"-", "_", "."} else word.group()
        found.append(Shard(_below(root, name), name, SPLIT_NAMES.get(folder.lower() or prefix, "")))
    return found


def _below(root: ArchivePlace, name: str) -> ArchivePlace:
    return root / name if isinstance(root, Path) else url_below(root, name)


def read_shards(root: ArchivePlace, shards: Sequence[Shard]) -> Members:
    """List archives; a SourceError says of one that it cannot be."""
    if len({shard.name for shard in shards}) < len(shards):
        where = redacted(str(root))
        raise SourceError(f"Several archives of '{where}' have one name; give each a name of its own in one folder.")
    found, archives, tables = Members(), list[Archive](), dict[str, MemberTable]()
    for shard in shards:
        archives.append(read_archive(shard.path))
        table = archives[-1].members
        if len(shards) > 1 and table.kinds:
            table.move(tables.setdefault(table.kinds, MemberTable(table.make, table.kinds)))
    alike: dict[Finding, list[Finding]] = {}  # by what they say, whichever archive it is of
    for shard, archive in zip(shards, archives, strict=True):
        for finding in archive.findings:
            same = finding.text if finding.level == "refused" else finding.text.replace(redacted(str(shard.path)), "")
            alike.setdefault(replace(finding, text=same), []).append(finding)
        found.left_out += [(f"{shard.name}{MARK}{name}", why) for name, why in archive.left_out]
        found.folders += archive.folders
        archive.left_out, archive.folders = [], []
        found.images.take(shard, archive)
    for first, *others in alike.values():
        more = f" So it is with {counted(len(others), 'other archive')}." if others else ""
        found.findings.append(replace(first, text=first.text + more))
    if all(archive.labels is archive.splits is archive.groups is None for archive in archives):
        _take_folders(found, archives)
    else:
        _take_labels(root, found, shards, archives)
    return found


def _take_folders(found: Members, archives: Sequence[Archive]) -> None:
    """Let the folders in all archives together say what the images are."""
    names = joined([archive.members.names for archive in archives])
    folder, _ = common_folder([name.split("/") for name in {like_of(name): name for name in names}.values()])
    found.above = folder and f"{folder}/"
    found.folders = [name.removeprefix(found.above) for name in found.folders if name.startswith(found.above)]
    for number, name in enumerate(names):
        if name.startswith(found.above):
            found.files.append(name.removeprefix(found.above))
            found.numbers.append(number)
        else:
            found.left_out.append((f"{found.images.shard(number).name}{MARK}{name}", "outside the class folders"))


def _take_labels(root: ArchivePlace, found: Members, shards: Sequence[Shard], archives: Sequence[Archive]) -> None:
    """Take in what the archives say of each image."""
    names = _names_of_classes(root)
    found.labelled, unlabelled, numbers = LabelledPaths(), 0, set[int]()
    for shard, archive in zip(shards, archives, strict=True):
        for row, name in enumerate(archive.members.names):
            label = archive.labels[row] if archive.labels is not None else ""
            if isinstance(label, int):
                numbers.add(label)
                label = str(label) if names is None else names[label] if label < len(names) else ""
            unlabelled += not label
            split = (archive.splits[row] if archive.splits is not None else "") or shard.split
            group = archive.groups[row] if archive.groups is not None else ""
            found.labelled.append(LabelledPath(f"{shard.name}{MARK}{name}", label, split, group))
        archive.labels = archive.splits = archive.groups = None
    if names is not None and numbers and max(numbers) >= len(names):
        have = f"'{root}' names {counted(len(names), 'class', 'classes')}, and the labels go up to {max(numbers)}"
        found.findings.append(Finding("refused", f"{have}; mend {' or '.join(NAMES_OF_CLASSES)}, or the labels."))
    elif 0 < unlabelled < len(found.labelled):
        has = "has no label" if unlabelled == 1 else "have no label"
        found.findings.append(Finding("warning", f"{counted(unlabelled, 'image')} of '{root}' {has}, where others have one."))


def _names_of_classes(root: ArchivePlace) -> list[str] | None:
    """Return the names that stand beside archives, one a line, for labels that are numbers."""
    for place in (_below(root, name) for name in NAMES_OF_CLASSES):
        try:
            data = place.read_bytes() if isinstance(place, Path) else read_object(place, None, -1, _NAMES_BYTES)
            lines = data.decode("utf-8-sig").splitlines()
        except FileNotFoundError:
            continue
        except DecodeError as error:
            if error.reason == "missing":
                continue
            raise SourceError(unlisted(str(place), error)) from error
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"'{place}' names the classes, one a line, but cannot be read as UTF-8 text; mend it.") from error
        names = [composed(line.strip()) for line in lines]
        while names and not names[-1]:
            names.pop()
        if "" in names or len(set(names)) < len(names):
            raise SourceError(f"'{place}' names the classes, but a line is empty, or a name is there twice; mend it.")
        return names
    return None


def read_archive(path: ArchivePlace) -> Archive:
    """List an archive; a SourceError says why it cannot be."""
    return KINDS[suffix_of(path)](path)


@lru_cache(maxsize=4)
def _kept(path: ArchivePlace, version: Stamp, turn: int) -> Archive:
    """List an archive of which single images are asked for, one after the other; anew in each turn."""
    return read_archive(path)


@lru_cache(maxsize=64)
def _far_version(url: str, second: int) -> Stamp:
    """Return the version of an archive at a URL: of many images in it, one asks a second."""
    return archive_version(url)


def split_name(path: str) -> tuple[ArchivePlace, str] | None:
    """Return the archive that a path leads through, and the name in it; None = it leads through none."""
    at = path.find(MARK)
    while at >= 0:
        if is_archive(path[:at]) and (is_url(path) or os.path.isfile(path[:at])):
            return path[:at] if is_url(path) else Path(path[:at]), path[at + 1 :]
        at = path.find(MARK, at + 1)
    return None


def member_at(path: str) -> ImageHandle | None:
    """Return the image that ``shard.tar#cat/1.jpg`` names; None = it names none, or its archive cannot be listed."""
    if (found := split_name(path)) is None or os.path.lexists(path):
        return None
    archive, name = found
    try:
        version = archive_version(archive) if isinstance(archive, Path) else _far_version(archive, int(time.monotonic()))
        listed = _kept(archive, version, 0 if version[1] >= 0 else int(time.monotonic() / UNSEEN_SECONDS))
    except (SourceError, DecodeError):
        return None
    if (row := listed.members.row(name)) < 0:  # a web server is not told what stands behind the mark
        return _NoMember(redacted(path), NO_STAMP) if str(archive).startswith(("http://", "https://")) else None
    return replace(listed.image(row), name=redacted(path))


class _NoMember(ImageHandle):
    """An image that an archive does not have."""

    def read(self, max_bytes: int) -> bytes:
        raise DecodeError("missing", "its archive has no such member")

    def is_there(self) -> bool:
        return False


def images_of(path: ArchivePlace) -> tuple[Sequence[ImageHandle], list[tuple[str, str]]]:
    """Return all images of an archive; and (path, reason) of what else is in it."""
    listed = read_archive(path)
    if refused := [finding.text for finding in listed.findings if finding.level == "refused"]:
        raise SourceError(refused[0])
    return listed.images, [(redacted(f"{path}{MARK}{name}"), why) for name, why in listed.left_out]


def entries_of(found: Members, entries: LabelledPaths, places: Sequence[int]) -> tuple[LabelledPaths, Sequence[int]]:
    """Return the images of all archives, by what the folders in them say of the ``places`` in their files; and their numbers."""
    images, numbers = LabelledPaths(), Numbers("I")
    for entry, place in zip(entries, places, strict=True):
        number = found.numbers[place]
        shard = found.images.shard(number)
        path = f"{shard.name}{MARK}{found.above}{entry.path}"
        images.append(entry._replace(path=path, split=entry.split or shard.split))
        numbers.append(number)
    return images, numbers
