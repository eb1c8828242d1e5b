"""An archive, on this machine or at a URL, opened for reading at any place: what is far comes in large blocks."""

from __future__ import annotations

import io
import os
import re
import threading
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO, cast

from ffe.base.file_stat import NO_STAMP, Stamp, stamp_now, stamp_to_keep
from ffe.base.text import quoted_argument
from ffe.base.urls import is_url, url_name
from ffe.errors import DecodeError
from ffe.images.object_store import info_of, read_range
from ffe.images.url_source import url_suffix
from ffe.redaction import redacted

ArchivePlace = Path | str  # a text is a URL, with all that opens it

_COMPRESSIONS = {  # by ending: the first bytes, and what decompresses it
    ".gz": (b"\x1f\x8b", "gunzip"),
    ".bz2": (b"BZh", "bunzip2"),
    ".xz": (b"\xfd7zXZ\0", "unxz"),
    ".zst": (b"\x28\xb5\x2f\xfd", "unzstd"),
}
_COMPRESSED_TAR = re.compile(rf"\.t(ar\.)?({'|'.join(ending[1:] for ending in _COMPRESSIONS)})$|\.tbz$", re.IGNORECASE)
_BLOCK = 8 << 20
_MOST_BLOCKS = 24  # of all archives together, those on their way too

_Key = tuple[str, Stamp, int]
_blocks: OrderedDict[_Key, Future[bytes]] = OrderedDict()
_lock = threading.Lock()


def suffix_of(place: ArchivePlace) -> str:
    """Return the ending of an archive's name, in small letters; that of a compressed tar is ``.tar``, too."""
    if _COMPRESSED_TAR.search(url_name(place) if isinstance(place, str) else place.name):
        return ".tar"
    return url_suffix(place) if isinstance(place, str) else place.suffix.lower()


def decompressed(name: str) -> str:
    """Return how a compressed file is named when it no longer is; one whose name does not say so gets another name."""
    stem, suffix = os.path.splitext(name)
    if suffix.lower() in _COMPRESSIONS:
        return stem
    return f"{stem}.tar" if _COMPRESSED_TAR.search(name) else f"{stem}-plain{suffix}"


def compressed_refusal(place: ArchivePlace, head: bytes) -> str | None:
    """Return what to say of a file that is compressed as a whole, by its first bytes; None = it is not."""
    if (tool := next((tool for magic, tool in _COMPRESSIONS.values() if head.startswith(magic)), None)) is None:
        return None
    name, first = (url_name(place), "download it, decompress it") if isinstance(place, str) else (str(place), "decompress it")
    plain = decompressed(name)
    return (
        f"'{redacted(str(place))}' is compressed as a whole, so nothing in it can be read alone; {first} with "
        f"'{tool} -c < {quoted_argument(name)} > {quoted_argument(plain)}', and give '{plain}'."
    )


def archive_version(place: ArchivePlace) -> Stamp:
    """Return the stamp of an archive as it is now: its size comes first, -1 behind it says that changes cannot be seen.

    Raises:
        DecodeError: it is at a URL, and cannot be asked about, or its size is not told.
    """
    if not isinstance(place, str):
        return stamp_now(place)
    stamp, size = info_of(place)
    if size < 0:
        raise DecodeError("unreadable", "its server does not tell its size; download it")
    return stamp if stamp != NO_STAMP else (size, -1)


def is_settled(place: ArchivePlace, version: Stamp) -> bool:
    """Return whether a later change of an archive would be seen by its stamp."""
    return version[1] >= 0 if isinstance(place, str) else stamp_to_keep(place) != NO_STAMP


def open_archive(place: ArchivePlace, version: Stamp) -> BinaryIO:
    """Open an archive of which the version is known."""
    if is_url(place):
        return cast(BinaryIO, _RangeFile(str(place), version))
    return open(place, "rb")


def forget_blocks(place: ArchivePlace) -> None:
    """Keep nothing of an archive, of which a change cannot be seen."""
    with _lock:
        for key in [key for key in _blocks if key[0] == str(place)]:
            del _blocks[key]


class _RangeFile(io.RawIOBase):
    """A file at a URL, of which blocks are read as they are needed, and kept for whoever reads beside it."""

    def __init__(self, url: str, version: Stamp) -> None:
        self._url, self._version, self._at = url, version, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._version[0]}[whence])
        return self._at

    def readinto(self, buffer: object) -> int:
        view, done = memoryview(buffer).cast("B"), 0  # type: ignore[arg-type]
        while done < len(view) and self._at < self._version[0]:
            number, start = divmod(self._at, _BLOCK)
            part = _block(self._url, self._version, number)[start : start + len(view) - done]
            view[done : done + len(part)] = part
            done, self._at = done + len(part), self._at + len(part)
        return done


def _block(url: str, version: Stamp, number: int) -> bytes:
    """Return a block of what lies at a URL; who asks for it while it is on its way waits for it."""
    key = (url, version, number)
    with _lock:
        found = _blocks.get(key)
        mine = found is None
        if found is None:
            found = _blocks[key] = Future()
        _blocks.move_to_end(key)
        while len(_blocks) > _MOST_BLOCKS:
            _blocks.popitem(last=False)
    if mine:
        try:
            data = read_range(url, number * _BLOCK, min((number + 1) * _BLOCK, version[0]))
            stamp, size = info_of(url)
            if size != version[0] or (version[1] >= 0 and stamp != version):
                raise DecodeError("unreadable", "its archive was changed since it was listed; run this again")
            found.set_result(data)
        except BaseException as error:
            with _lock:
                _blocks.pop(key, None)
            found.set_exception(error)
    return found.result()
