"""What an archive or a table of images holds: its members by name, and how one of them is read again."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ffe.base.columns import Made, Numbers, Repeated, Texts
from ffe.base.digests import DigestIndex, key_of
from ffe.base.file_access import unopened
from ffe.base.file_stat import NO_STAMP, Stamp, stamp_now
from ffe.base.urls import is_url
from ffe.errors import DecodeError, SourceError
from ffe.images.archive_file import ArchivePlace, archive_version, forget_blocks, is_settled
from ffe.images.decode import too_many_bytes
from ffe.images.folder_walk import is_passed_over
from ffe.images.image_handle import ImageHandle
from ffe.images.records import Finding, Split
from ffe.images.url_source import unlisted
from ffe.redaction import redacted

MARK = "#"  # between the name of an archive and that of a member
GONE = "its archive is gone, or was changed since it was listed; run this again"


@dataclass(frozen=True)
class Member(ImageHandle):
    """An image in an archive; one that was changed since it was listed is not read."""

    archive: str = field(repr=False)  # where it lies: a path, or a URL with all that opens it
    version: Stamp  # of the archive, as it was listed
    size: int  # bytes; 0 = not known

    def read(self, max_bytes: int) -> bytes:
        """Return the content; see ``ImageHandle``."""
        if self.size > max_bytes:
            raise DecodeError("too-large", too_many_bytes(max_bytes))
        try:
            self._check_version()
            data = self.content(max_bytes)
            self._check_version()  # it may have been replaced in between
            return data
        except OSError as error:
            raise DecodeError("unreadable", error.strerror or str(error)) from error
        except MemoryError as error:
            raise DecodeError("too-large", "not enough memory to read it") from error

    def _check_version(self) -> None:
        if not self.remote and stamp_now(self.archive) != self.version:  # of a far one each block is looked at
            raise DecodeError("unreadable", GONE)

    @property
    def remote(self) -> bool:
        """Whether it comes over a network."""
        return is_url(self.archive)

    @abstractmethod
    def content(self, max_bytes: int) -> bytes:
        """Read it, from an archive that is as it was; ``max_bytes`` as of ``read``."""

    def listed_in(self, folder: str) -> str:
        """Return the name relative to a folder, a real path."""
        if self.remote:
            return self.name
        place, name = os.path.split(self.archive)
        return os.path.relpath(os.path.join(os.path.realpath(place), name), folder) + self.name[len(self.archive) :]


class MemberTable:
    """The images of an archive in their order, in columns: one is made each time that it is asked for.

    ``make`` is given what ``Archive.place_of`` returns, and the numbers of ``kinds`` (those of ``array``) that stand behind it.
    """

    def __init__(self, make: Callable[..., Member], kinds: str) -> None:
        self.make = make
        self.names: Sequence[str] = Texts()
        self.kinds = kinds
        self.sizes: Sequence[int] = Numbers("Q")
        self._numbers: list[Sequence[int]] = [Numbers(kind) for kind in kinds]

    def append(self, name: str, size: int, *numbers: int) -> None:
        """Put an image behind the others."""
        assert isinstance(self.names, Texts)
        self.names.append(name)
        for column, number in zip((self.sizes, *self._numbers), (size, *numbers), strict=True):
            assert isinstance(column, Numbers)
            column.append(number)

    def __len__(self) -> int:
        return len(self.names)

    def size(self, row: int) -> int:
        """Return the bytes of an image; 0 = not known."""
        return self.sizes[row]

    def numbers(self, row: int) -> Sequence[int]:
        """Return what is known of an image besides."""
        return [column[row] for column in self._numbers]

    def row(self, name: str) -> int:
        """Return the first row of a name; -1 = there is none."""
        return self._rows.row(name)

    @cached_property
    def _rows(self) -> DigestIndex:
        return DigestIndex(self.names)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all others."""
        self.names, self.sizes = Texts(self.names[row] for row in rows), Numbers("Q", map(self.sizes.__getitem__, rows))
        self._numbers = [
            Numbers(kind, map(column.__getitem__, rows)) for kind, column in zip(self.kinds, self._numbers, strict=True)
        ]

    def move(self, whole: MemberTable) -> None:
        """Put the images behind those of other archives: of many small columns, none would be long enough to lie on the disk."""
        first, count = len(whole), len(self)
        for row in range(count):
            whole.append(self.names[row], self.size(row), *self.numbers(row))
        columns = (whole.names, whole.sizes, *whole._numbers)
        shown: list[Sequence[Any]] = [Made(count, partial(_behind, column, first)) for column in columns]
        self.names, self.sizes, *self._numbers = shown


def _behind(column: Sequence[Any], first: int, row: int) -> Any:
    return column[first + row]


@dataclass
class Archive:
    """What was found in an archive."""

    path: ArchivePlace
    members: MemberTable
    version: Stamp = field(init=False)  # before it was listed
    folders: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)  # (name, reason)
    findings: list[Finding] = field(default_factory=list)
    # label of each picture, a number where it may be an index into names of classes; empty = none, None = folders give them
    labels: Repeated[str | int] | None = None
    splits: Repeated[Split] | None = None  # that each picture itself names; None = none does
    groups: Repeated[str] | None = None

    def __post_init__(self) -> None:
        with reading(self.path):
            self.version = archive_version(self.path)
        self.settled = is_settled(self.path, self.version)
        if not self.settled:
            forget_blocks(self.path)

    def image(self, row: int) -> Member:
        """Return an image by its row."""
        table = self.members
        return table.make(*self.place_of(table.names[row], table.size(row)), *table.numbers(row))

    @property
    def images(self) -> Sequence[Member]:
        """All images, each made when it is asked for."""
        return Made(len(self.members), self.image)

    def place_of(self, name: str, size: int) -> tuple[str, Stamp, str, Stamp, int]:
        """Return the first fields of a ``Member``: of bytes, or of none where they are not known (0)."""
        stamp = (size, self.version[1]) if self.settled else NO_STAMP
        return redacted(f"{self.path}{MARK}{name}"), stamp, str(self.path), self.version, size

    def refuse_doubles(self) -> None:
        """Note of which name there are several members: it cannot be told which is meant."""
        names = DigestIndex()
        for name in self.members.names:
            if name in names:
                self.refuse_second(name)
            names.append(key_of(name))

    def refuse_second(self, name: str) -> None:
        """Note that a name is there twice."""
        text = f"'{self.path}' holds two members named '{name}'; make it again with one of them."
        self.findings.append(Finding("refused", text))

    def take_name(self, name: str) -> str | None:
        """Return the name of a member in plain form; None = it is passed over, or left out, as it may lie anywhere."""
        if name.startswith("/") or ".." in name.split("/"):
            self.left_out.append((name, "its name leads out of the archive"))
            return None
        plain = posixpath.normpath(name)
        return None if any(map(is_passed_over, plain.split("/"))) else plain


@contextlib.contextmanager
def reading(path: ArchivePlace) -> Iterator[None]:
    """Say of an archive that it cannot be opened."""
    try:
        if isinstance(path, Path) and not stat.S_ISREG(os.stat(path).st_mode):
            raise SourceError(f"'{path}' is a pipe, a device or a socket, not a file; save the archive as a file.")
        yield
    except DecodeError as error:
        raise SourceError(unlisted(str(path), error)) from error
    except OSError as error:
        raise SourceError(unopened(Path(path), error)) from error
