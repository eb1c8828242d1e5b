"""Tar archives: class folders, or WebDataset shards, in which each picture has a label beside it."""

from __future__ import annotations

import contextlib
import json
import os
import tarfile
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ffe.base.columns import Repeated
from ffe.base.digests import bytes_digest
from ffe.base.file_stat import read_note, write_note
from ffe.base.system import cache_root
from ffe.base.text import composed
from ffe.errors import DecodeError, SourceError
from ffe.images.archive import Archive, Member, MemberTable, reading
from ffe.images.archive_file import ArchivePlace, compressed_refusal, is_settled, open_archive
from ffe.images.column_names import misspelt
from ffe.images.folder_layout import has_image_suffix
from ffe.images.records import Finding

_LISTED_BY = 3  # what is kept of a list is of no use to another number: raise it when lists change
_BLOCK = 512
_REST_BYTES = 1 << 20  # behind the end mark, as far as is looked
_LABEL_BYTES = 1 << 20
_LABEL_SUFFIXES = (".cls", ".json")
_JSON_LABELS = ("label", "cls")
_MOST_KEYS = 50
_SHOWN = 200
_KINDS = {tarfile.LNKTYPE: "a link, which is not followed", tarfile.SYMTYPE: "a link, which is not followed"}
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)


@dataclass(frozen=True)
class TarMember(Member):
    """A picture in a tar: its bytes from ``offset`` on."""

    offset: int

    def content(self, max_bytes: int) -> bytes:
        """Read it."""
        with open_archive(self.archive, self.version) as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise DecodeError("truncated", "its archive is cut off")
        return data

    def reading_order(self) -> tuple[str, int]:
        """Return where it lies."""
        return self.archive, self.offset


@dataclass
class _Beside:
    """The files beside pictures that have a label, or none."""

    names: dict[str, None] = field(default_factory=dict)
    labels: dict[str, dict[str, str | int]] = field(default_factory=lambda: {suffix: {} for suffix in _LABEL_SUFFIXES})  # by key
    others: dict[str, None] = field(default_factory=dict)  # the keys of JSON objects without a label


def read_tar(path: ArchivePlace) -> Archive:
    """List a tar without unpacking anything; a SourceError says why it cannot be.

    One at a URL comes over the network as a whole, for it has no directory; so what was found is kept in the cache folder.
    """
    found = Archive(path, MemberTable(TarMember, "Q"))
    if isinstance(path, Path) or not is_settled(path, found.version):
        return _listed(path, found)
    note = cache_root() / "digests" / f"{bytes_digest(f'{_LISTED_BY} {path} {found.version}'.encode())[:32]}.json"
    with contextlib.suppress(LookupError, TypeError, ValueError):
        kept = read_note(note)
        table, labels = MemberTable(TarMember, "Q"), None if kept["labels"] is None else Repeated(kept["labels"])
        for name, size, offset in kept["members"]:
            table.append(str(name), int(size), int(offset))
        found.folders, found.left_out = kept["folders"], [(a, b) for a, b in kept["left_out"]]
        found.members, found.labels = table, labels
        found.findings = [Finding(level, text) for level, text in kept["findings"]]
        return found
    _listed(path, found)
    if all(finding.level != "refused" for finding in found.findings):
        table, labels = found.members, found.labels
        members = [(table.names[row], table.size(row), *table.numbers(row)) for row in range(len(table))]
        said = None if labels is None else list(labels)
        findings = [(finding.level, finding.text) for finding in found.findings]
        values = {"members": members, "folders": found.folders, "labels": said, "left_out": found.left_out, "findings": findings}
        write_note(note, values)
    return found


def _listed(path: ArchivePlace, found: Archive) -> Archive:
    beside = _Beside()
    with reading(path), open_archive(path, found.version) as file:
        if (refusal := compressed_refusal(path, file.read(8))) is not None:
            raise SourceError(refusal)
        file.seek(0)
        end = _members(found, file, beside)
        _check_end(found, file, end)
    found.refuse_doubles()
    labels, others = beside.labels[".json"] | beside.labels[".cls"], list(beside.others)
    if not labels and (near := misspelt("label", others) or misspelt("cls", others)):
        shown = ", ".join(others)[:_SHOWN]
        text = (
            f"No .json of '{path}' has a 'label' or 'cls' (found: {shown}), so none is taken from it; is it '{near}'? Rename it."
        )
        found.findings.append(Finding("warning", text))
    keys = {_key(name) for name in found.members.names} if beside.names else set()
    if labels:
        _take_labels(found, labels)
    for name in beside.names:
        if name.rpartition(".")[0] not in keys:
            found.left_out.append((name, "a label without a picture"))
    return found


def _members(found: Archive, file: BinaryIO, beside: _Beside) -> int:
    """Take in all members, and return where the last one ends."""
    end = 0
    try:
        tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (it holds nothing but the file)
        while (one := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined] # it would keep them all
            if one.offset_data + one.size > found.version[0] and one.type in _PLAIN:
                raise tarfile.ReadError("cut off")
            end = one.offset_data + (-(-one.size // _BLOCK) * _BLOCK if one.type in _PLAIN else 0)
            _take(found, file, one, beside)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        if not end:
            raise SourceError(f"'{found.path}' is no tar archive, or its beginning is damaged; fetch it again.") from error
    return end


def _take(found: Archive, file: BinaryIO, one: tarfile.TarInfo, beside: _Beside) -> None:
    name = found.take_name(one.name)
    if name is None:
        return
    if one.isdir():
        found.folders.append(name)
    elif one.type not in _PLAIN or one.issparse():
        sparse = "a sparse file, which is not read" if one.issparse() else "a device or a pipe, not a file"
        found.left_out.append((name, _KINDS.get(one.type, sparse)))
    elif (suffix := os.path.splitext(name)[1].lower()) in _LABEL_SUFFIXES:
        if name in beside.names:
            found.refuse_second(name)
        beside.names[name] = None
        try:
            label = _label(_part(file, one) if one.size <= _LABEL_BYTES else b"\xff", suffix, beside.others)
        except (ValueError, RecursionError):
            text = f"The label in '{name}' of '{found.path}' is neither text nor a whole number; mend it."
            found.findings.append(Finding("refused", text))
        else:
            if label is not None:
                beside.labels[suffix][name[: -len(suffix)]] = label
    else:
        found.members.append(name, one.size, one.offset_data)


def _part(file: BinaryIO, one: tarfile.TarInfo) -> bytes:
    """Return the content of a member; the place in the file stays for whoever goes through it."""
    before = file.tell()
    file.seek(one.offset_data)
    data = file.read(one.size)
    file.seek(before)
    return data


def _label(data: bytes, suffix: str, others: dict[str, None]) -> str | int | None:
    """Return the label that a file beside a picture gives; None = none, and the keys that it has go into ``others``.

    A ValueError says that it is no label.
    """
    text = data.decode().strip()
    if suffix == ".cls":
        return int(text) if text.isdecimal() else composed(text) or None
    content = json.loads(text)
    if isinstance(content, dict):
        label = next((content[name] for name in _JSON_LABELS if content.get(name) is not None), None)
        if label is None and len(others) < _MOST_KEYS:
            others.update(dict.fromkeys(content))
    else:
        label = content
    if label is None or (isinstance(label, int) and not isinstance(label, bool) and label >= 0):
        return label
    if isinstance(label, str):
        return composed(label.strip()) or None
    raise ValueError("no label")


def _key(name: str) -> str:
    """Return the name of a picture without its ending alone: ``cat.104.jpg`` is ``cat.104``, unlike elsewhere."""
    return os.path.splitext(name)[0] if has_image_suffix(name) else name


def _take_labels(found: Archive, labels: dict[str, str | int]) -> None:
    """Give the pictures their labels; what belongs to a sample and is not its picture is left out."""
    found.labels, pictures = Repeated(), array("Q")
    for row, name in enumerate(found.members.names):
        key = _key(name)
        if has_image_suffix(name) and (key in labels or not _sample(key, labels)):
            found.labels.append(labels.get(key, ""))
            pictures.append(row)
        else:
            why = "a further part of a sample" if has_image_suffix(name) or _sample(name, labels) else "named like no picture"
            found.left_out.append((name, why))
    found.members.keep(pictures)


def _sample(name: str, labels: dict[str, str | int]) -> bool:
    """Return whether a name begins with the key of a sample that has a label, and a dot."""
    folder, _, base = name.rpartition("/")
    parts = base.split(".")
    keys = (".".join(parts[:i]) for i in range(1, len(parts)))
    return any((f"{folder}/{key}" if folder else key) in labels for key in keys)


def _check_end(found: Archive, file: BinaryIO, end: int) -> None:
    """Note that a tar breaks off, or goes on behind its end: it can be read to that place alone."""
    file.seek(end)
    mark, rest = file.read(_BLOCK), file.read(_REST_BYTES)
    if len(mark) == _BLOCK and not any(mark) and not any(rest):
        return
    last = found.members.names[-1] if len(found.members) else ""
    where = f"behind '{last}'" if last else "before its first picture"
    if len(mark) < _BLOCK or any(mark):
        text = f"'{found.path}' is cut off or damaged {where}; fetch it again."
    else:
        text = f"'{found.path}' holds more behind its end, {where}: it was joined from several; give these one by one."
    found.findings.append(Finding("refused", text))
