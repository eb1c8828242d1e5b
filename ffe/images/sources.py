"""Folders, CSV files and archives, here or at URLs -> image records. No image is opened here."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import cast

from ffe.base.columns import Made, Numbers, Texts
from ffe.base.digests import DigestIndex
from ffe.base.file_access import first_bytes, kind_of_ours
from ffe.base.file_stat import NO_STAMP, Stamp, stamp_now
from ffe.base.text import composed, few, is_are, near_file, quoted, relabelled
from ffe.base.urls import Place, UrlPath, is_url, local_file, url_below, url_parent
from ffe.errors import SourceError
from ffe.images.archive import MARK
from ffe.images.archive_file import ArchivePlace, compressed_refusal, suffix_of
from ffe.images.archive_sources import (
    NAMES_OF_CLASSES,
    UNSEEN_SECONDS,
    Members,
    Shard,
    entries_of,
    expanded,
    folder_of,
    is_archive,
    member_at,
    read_shards,
    shards_at,
    shards_of,
    split_name,
)
from ffe.images.csv_list import read_list, read_rows
from ffe.images.file_names import is_text, on_disk, printable
from ffe.images.folder_layout import Kind, has_image_suffix, layout_of, like_of, tops_of
from ffe.images.folder_walk import FolderWalk
from ffe.images.image_handle import ImageFile
from ffe.images.parquet_archive import listed_rows
from ffe.images.records import LEVELS, FileOf, Finding, LabelledPath, LabelledPaths, Records
from ffe.images.url_source import UrlWalk, object_at, objects_at, url_protocol, url_suffix
from ffe.redaction import redacted

log = logging.getLogger("ffe")

_SEVERAL_LABELS = (";", "|")
_LISTS = {".csv", ".tsv"}
_LISTS_HERE = _LISTS | {".parquet"}  # on this machine; some of these are archives
_KEEP_NO_SECRETS = {"s3", "s3a", "gs", "gcs", "hf"}  # their URLs are names alone


@dataclass(frozen=True)
class Scan:
    """What a source holds."""

    root: Place  # the folder that the records' paths are relative to
    kind: Kind  # how the source was understood
    class_names: tuple[str, ...]  # sorted names, in the form NFC; a label is an index into them
    records: Records  # sorted by path
    # (path, reason) of files that are no records: special files, names that are no text, files outside the class folders, class
    # folders without files
    left_out: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()  # what a user should know of it, the gravest first
    opened_by: Place | None = None  # the list without which no image is found again: its URLs hold secrets, names have none


def scan(source: str | os.PathLike[str], output: Path | None = None) -> Scan:
    """List the images of a folder or CSV, and say in the log what is odd about it; what must be mended is a SourceError.

    A folder may hold class folders, splits of class folders, class folders of splits, or images alone. Hidden files are passed
    over; links are followed. ``output`` is a file that is being made from the source; inside the folder it is no image.
    """
    found = list_images(source, output)
    if refused := [finding for finding in found.findings if finding.level == "refused"]:
        more = f" 'ffe scan {source}' lists {len(refused) - 1} more." if len(refused) > 1 else ""
        raise SourceError(refused[0].text + more)
    for finding in found.findings:
        log.log(logging.WARNING if finding.level == "warning" else logging.INFO, "%s", finding.text)
    return found


def list_images(source: str | os.PathLike[str], output: Path | None = None) -> Scan:
    """List the images of a source as ``scan`` does, but refuse nothing that can be looked at: it becomes a finding."""
    if not os.fspath(source):
        raise SourceError("The source is empty; name the folder or CSV of the images (is a variable unset?).")
    source = local_file(source)
    if is_url(source):
        return _checked(_at_url(str(source)), redacted(str(source)))
    if (several := expanded(os.fspath(source))) is not None:
        return _checked(_scan_archives(*several, source), source)
    path = on_disk(Path(source))
    if is_url(str(path)):
        raise SourceError(f"'{path}' was a URL, of which pathlib has taken a slash; give it as text.")
    if not path.exists():
        raise SourceError(f"There is no file or folder '{path}'; check the path.{near_file(path)}")
    if path.is_dir():
        found = _scan_local(path, FolderWalk(path, None if output is None else os.path.realpath(output)))
    elif (listed := _listed_here(path)) is not None:
        found = _scan_list(path.parent, *listed, path.parent.resolve() / path.name)
    elif is_archive(path):
        found = _scan_archives(path.parent, [Shard(path, path.name)], path)
    elif ours := kind_of_ours(path):
        raise SourceError(f"'{path}' is a {ours}, not a source of images; give the folder that holds the images.")
    else:
        with contextlib.suppress(OSError):
            if (refusal := compressed_refusal(path, first_bytes(path))) is not None:
                raise SourceError(refusal)
        raise SourceError(
            f"'{path}' is neither a folder nor a CSV file nor an archive (.tar, .zip, .parquet); "
            "give the folder that holds the images."
        )
    return _checked(found, path)


def _at_url(url: str) -> Scan:
    if url_suffix(url) in _LISTS:
        return _scan_list(UrlPath(redacted(url_parent(url))), *read_list(UrlPath(redacted(url)), url), UrlPath(redacted(url)))
    if is_archive(url):
        return _scan_archives(*shards_at(url), redacted(url))
    walk = UrlWalk(url)
    if (found := shards_of(url, walk.files)) is not None:
        return _scan_archives(url, found, walk.root, walk.left_out)
    kind, images, numbers, left_out, findings = _understood(walk.root, walk)
    return _make_scan(walk.root, kind, images, left_out, findings, held=walk.images(numbers))


def _listed_here(path: Path) -> tuple[LabelledPaths, list[Finding]] | None:
    """Return what a list on this machine, a CSV or a Parquet table of paths, names; None = it is no list."""
    if path.suffix.lower() in _LISTS:
        return read_list(path)
    table = listed_rows(path) if path.suffix.lower() in _LISTS_HERE else None
    if table is None:
        return None
    images, findings = read_rows(path, table[0])
    return images, findings + table[1]


def _scan_list(root: Place, lines: Sequence[LabelledPath], findings: Sequence[Finding], place: Place | None = None) -> Scan:
    at = images_at(root)
    numbers, urls, members = Numbers("q"), Texts(), dict[int, ImageFile]()  # of what is asked for, and of members of archives
    for i, line in enumerate(lines):
        alone = bool(line.url) and split_name(line.url) is None
        numbers.append(len(urls) if alone else -1)
        if alone:
            urls.append(line.url)
        elif line.url:
            members[i] = at(line.url)
    asked = objects_at(urls) if urls else ()

    def file_of(i: int) -> ImageFile:
        return asked[numbers[i]] if numbers[i] >= 0 else members.get(i) or at(lines[i].path)

    held = Made(len(lines), file_of) if urls or members else ()
    secrets = bool(held) and any(not line.url.endswith(line.path) and redacted(line.url) != line.url for line in lines)
    found = _make_scan(root, "csv", lines, [], findings, at, held)
    return replace(found, opened_by=place) if secrets else found


def _scan_local(root: Path, walk: FolderWalk) -> Scan:
    if (shards := shards_of(root, walk.files)) is None:
        kind, images, _, left_out, findings = _understood(root, walk)
        return _make_scan(root, kind, images, left_out, findings, root.__truediv__)
    used = {shard.name for shard in shards}
    beside = [(path, "beside the archives") for path in walk.files if path not in used and path not in NAMES_OF_CLASSES]
    return _scan_archives(root, shards, root, (*walk.left_out, *beside))


def _scan_archives(
    root: ArchivePlace, shards: Sequence[Shard], place: str | os.PathLike[str], beside: Iterable[tuple[str, str]] = ()
) -> Scan:
    """Understand archives by the labels in them, or by the folders in all of them together."""
    held = read_shards(root, shards)
    kind = cast("Kind", suffix_of(shards[0].path)[1:])
    findings, left_out = list(held.findings), [*beside, *held.left_out]
    images, numbers, numbered = held.labelled, cast("Sequence[int]", range(len(held.images))), held.images
    if images is None:
        _, inside, places, more, found = _understood(Path(place) if isinstance(root, Path) else UrlPath(place), held)
        findings, left_out = [*findings, *found], [*left_out, *dict.fromkeys(more)]
        images, numbers = entries_of(held, inside, places)
    folder = root if isinstance(root, Path) else UrlPath(redacted(root.rstrip("/")))
    handles = Made(len(images), lambda i: numbered[numbers[i]])
    return _make_scan(folder, kind, images, left_out, findings, held=handles)


def _checked(found: Scan, path: str | os.PathLike[str]) -> Scan:
    """Return what was found, unless nothing was."""
    if found.records:
        return found
    if found.findings and found.findings[0].level == "refused":
        raise SourceError(found.findings[0].text)
    if found.kind == "csv":
        raise SourceError(f"The CSV '{path}' lists no images; give each a line with its path and its label, under the first.")
    raise SourceError(f"There are no images in '{path}'; expected one folder per class with image files inside.")


def _understood(
    root: Place, walk: FolderWalk | UrlWalk | Members
) -> tuple[Kind, LabelledPaths, Numbers, list[tuple[str, str]], list[Finding]]:
    """Return how the folders of a source are understood, its images, and which of the files each is; what is left out and why,
    and what is odd about it.

    Pictures of one folder are understood alike, and so are its other files: one of each stands for all.
    """
    order, left_out = walk.files.order(), list(walk.left_out)
    first: dict[tuple[str, bool], str] = {}
    for path in (walk.files[int(i)] for i in order):
        if is_text(path):
            first.setdefault(like_of(path), path)
        else:
            left_out.append((path, _why_no_text(path)))
    files: dict[str, list[str]] = {}
    for path in first.values():
        if "/" in path:
            files.setdefault(path.split("/")[0], []).append(path)
    kind: Kind = "flat folder"
    entries = [LabelledPath(path, "") for path in first.values()]
    problem, deep = None, 1
    if files:
        kind, entries, problem = layout_of(root, files, ("", True) in first)
        deep = 2 if kind == "split folders" else 1
    said = {like_of(entry.path): entry for entry in entries}
    findings = [Finding("refused", problem)] if problem else []
    findings += _lost_folders(root, walk, [entry.path for entry in entries] if files else (), left_out, deep)
    findings += _hidden_folders(root, walk, deep) if files and isinstance(root, Path) else ()
    images, numbers = LabelledPaths(), Numbers("I")
    for i in map(int, order):
        path = walk.files[i]
        if not is_text(path):
            continue
        if (entry := said.get(like_of(path))) is not None:
            images.append(entry._replace(path=path))
            numbers.append(i)
        else:
            left_out.append((path, "beside the splits of its class" if "/" in path else "outside the class folders"))
    return kind, images, numbers, left_out, findings


def _why_no_text(path: str) -> str:
    bad = next((folder for folder in path.split("/")[:-1] if not is_text(folder)), None)
    if bad is None:
        return "the file name is not valid text; rename the file"
    return f"the folder '{printable(bad)}' has a name that is not valid text; rename the folder"


def _lost_folders(
    root: Place, walk: FolderWalk | UrlWalk | Members, used: Iterable[str], left_out: list[tuple[str, str]], deep: int
) -> Iterator[Finding]:
    """Yield the class folders, ``deep`` folders deep, and splits, that give no image: refused where they are not empty.

    ``used`` has the paths of the images, ``left_out`` what gives none, and why; empty folders are added.
    """
    filled = {top for path in used for top in tops_of(path)}
    why: dict[str, str] = {}
    for path, reason in left_out:
        for top in tops_of(path):
            why.setdefault(top, reason)
    bare = [folder for folder in sorted(walk.folders) if folder.count("/") < deep and folder not in filled]
    bare = [folder for folder in bare if "/" not in folder or folder.split("/")[0] in filled]
    lost, empty = [folder for folder in bare if folder in why], [folder for folder in bare if folder not in why]
    if lost:
        them, it = ("this folder", "it") if len(lost) == 1 else ("these folders", "them")
        yield Finding(
            "refused",
            f"No image can be read in {few(quoted(map(printable, lost)))} of '{root}' ({why[lost[0]]}); mend that, "
            f"or take {them} away if nothing is to be learnt from {it}.",
        )
    if empty and filled:
        left_out += [(folder, "an empty folder") for folder in empty]
        are = "is empty, so it is no class" if len(empty) == 1 else "are empty, so they are no classes"
        yield Finding("warning", f"{few(quoted(map(printable, empty)))} of '{root}' {are}; add images, or remove what is empty.")


def _hidden_folders(root: Path, walk: FolderWalk | UrlWalk | Members, deep: int) -> Iterator[Finding]:
    """Yield a note of hidden folders that stand where class folders do, and hold pictures."""
    found = []
    for folder in sorted(path for path in walk.hidden if path.count("/") < deep):
        with contextlib.suppress(OSError):
            if any(map(has_image_suffix, os.listdir(root / folder))):
                found.append(printable(folder))
    if found:
        what = "folder is" if len(found) == 1 else "folders are"
        text = f"the hidden {what} passed over: {few(quoted(found))}; a name without a dot in front makes it a class"
        yield Finding("note", text)


def _make_scan(
    root: Place,
    kind: Kind,
    entries: Sequence[LabelledPath],
    left_out: Iterable[tuple[str, str]],
    findings: Sequence[Finding],
    file_of: FileOf = Path,
    held: Sequence[ImageFile] = (),
) -> Scan:
    """Sort images and the names of their classes, and look at these names.

    ``held`` are the files of the ``entries``; without, ``file_of`` tells where each lies.
    """
    images = entries if isinstance(entries, LabelledPaths) else LabelledPaths(entries)
    spelt = sorted({*images.labels.values} - {""})
    class_names = tuple(sorted({composed(name) for name in spelt}))
    index = dict(zip([*spelt, ""], relabelled(map(composed, spelt), class_names), strict=True))
    records = Records(images, index, images.paths.order(), file_of, held)
    findings = sorted((*findings, *_findings_of_names(spelt, class_names)), key=lambda finding: LEVELS.index(finding.level))
    out = sorted((printable(path), why) for path, why in left_out)
    return Scan(root, kind, class_names, records, tuple(out), tuple(findings))


def image_at(source: str | os.PathLike[str], path: str) -> ImageFile:
    """Return the image that ``path`` names in a source: a folder, or a file beside which it lies; it may be gone by now."""
    return images_at(source)(path)


def images_at(source: str | os.PathLike[str]) -> FileOf:
    """Return what ``image_at`` is for many images of one source, of which it looks only once what it is."""
    place = os.fspath(local_file(source))
    root = cache(partial(root_of, place))  # of URLs in a list nobody asks for it

    def found(path: str) -> ImageFile:
        path = os.fspath(local_file(path))
        if whole := _listed_url(place, path):
            return object_at(whole)
        if is_url(place):
            if is_archive(place):
                name, mark, member = path.partition(MARK)
                each = shards_at(place)[1] if "?" in place else ()
                signed = next((shard.path for shard in each if shard.name == name), None)
                path = url_below(folder_of(place), path) if signed is None else f"{signed}{mark}{member}"
            else:
                path = url_below(root(), path)
        if is_url(path):
            return (member_at(path) if MARK in path else None) or object_at(path)
        file = on_disk(Path(root()) / path)
        return (member_at(str(file)) if MARK in path else None) or file

    return found


def root_of(source: str) -> str:
    """Return the folder that the paths of a source are relative to: of a list, or of another file, the one that it lies in."""
    if is_url(source):
        return url_parent(source) if url_suffix(source) in _LISTS else source
    path = Path(source)
    is_file = path.is_file() or (path.suffix.lower() in _LISTS_HERE and not path.is_dir())  # a list may be gone by now
    return str(path.parent if is_file else path)


def _listed_url(place: str, path: str) -> str:
    """Return the URL of an image with the secrets that it has in the list that names it; empty = there is none such."""
    far = is_url(place)
    lists = _LISTS if far else _LISTS_HERE
    if not (far or is_url(path)) or url_suffix(place) not in lists or url_protocol(place if far else path) in _KEEP_NO_SECRETS:
        return ""
    found = _kept_list(place, *((NO_STAMP, int(time.monotonic() / UNSEEN_SECONDS)) if far else (stamp_now(place), 0)))
    row = -1 if found is None else found[0].row(path)
    return "" if found is None or row < 0 else found[1][row].url


@lru_cache(maxsize=2)
def _kept_list(place: str, version: Stamp, turn: int) -> tuple[DigestIndex, LabelledPaths] | None:
    """Return the rows of the paths in a list, and its images, of which single ones are asked for; None = it cannot be read."""
    try:
        listed = read_list(UrlPath(redacted(place)), place) if is_url(place) else _listed_here(Path(place))
    except SourceError:
        return None
    return None if listed is None else (DigestIndex(listed[0].paths), listed[0])


def _findings_of_names(spelt: Sequence[str], class_names: Sequence[str]) -> Iterator[Finding]:
    """Yield what is odd about the names of classes."""
    if twice := sorted(name for name, count in Counter(map(composed, spelt)).items() if count > 1):
        names = f"the name{'s' if len(twice) > 1 else ''} {few(quoted(twice))} {is_are(len(twice))}"
        yield Finding("note", f"{names} spelt in two ways that look the same; each is one class")
    alike: dict[str, list[str]] = {}
    for name in class_names:
        alike.setdefault(name.casefold(), []).append(name)
    if cases := [" and ".join(quoted(names)) for names in alike.values() if len(names) > 1]:
        text = f"classes whose names differ only in capital letters: {few(cases)}; if they are one class, give them one name"
        yield Finding("warning", text)
    several = [name for name in class_names if any(all(p.strip() for p in name.split(c)) for c in _SEVERAL_LABELS if c in name)]
    if several:
        count = "counts as one class" if len(several) == 1 else "count as one class each"
        has = "an image has one label in ffe; give each the label that matters, or leave such images out"
        yield Finding("warning", f"{few(quoted(several))} {count}: {has}")
