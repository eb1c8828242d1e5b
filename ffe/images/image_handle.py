"""An image that is no file of its own: a member of an archive, a row of a table, an object in a bucket."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ffe.base.digests import bytes_digest, file_digest
from ffe.base.file_stat import Stamp
from ffe.errors import DecodeError

READERS = 32  # images that are asked for at once over a network, at the start: waiting costs no processor
ANY_ORDER = ("", 0)


@dataclass(frozen=True)
class ImageHandle(ABC):
    """Where an image lies, and how its bytes are had; it can be pickled, so that another process reads it."""

    name: str  # that finds it again, with its place in front: ``photos/shard.tar#cat/1.jpg``
    # (size in bytes, a whole number that changes when the content may have changed); ``NO_STAMP`` = unknown
    stamp: Stamp

    @property
    def remote(self) -> bool:
        """Whether it comes over a network: then many are read at once."""
        return False

    @abstractmethod
    def read(self, max_bytes: int) -> bytes:
        """Return the content; what cannot be had, or has more than ``max_bytes``, is a DecodeError."""

    def reading_order(self) -> tuple[str, int]:
        """Return what images are best read in the order of; ``ANY_ORDER`` where that does not matter."""
        return ANY_ORDER

    def listed_in(self, folder: str) -> str:
        """Return the name as a list in a folder, a real path, gives it."""
        return self.name

    def is_there(self) -> bool:
        """Return whether there is such an image."""
        return True

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot; empty = there is none."""
        return os.path.splitext(self.name)[1]

    def __str__(self) -> str:
        return self.name


ImageFile = Path | ImageHandle


def reading_order(file: ImageFile) -> tuple[str, int]:
    """Return what images are best read in the order of: those of an archive as they lie in it, and files in any."""
    return file.reading_order() if isinstance(file, ImageHandle) else ANY_ORDER


def content_digest(file: ImageFile) -> str:
    """Return the SHA-256 of an image's content; empty where it is not there. What cannot be read is an OSError."""
    if isinstance(file, ImageHandle):
        try:
            return bytes_digest(file.read(sys.maxsize))
        except DecodeError as error:
            raise OSError(str(error)) from error
    return file_digest(file) if file.is_file() else ""


def are_there(files: Sequence[ImageFile]) -> list[bool]:
    """Return of each image whether it is there; what comes over a network is asked for many at once."""
    with ThreadPoolExecutor(READERS if any(isinstance(file, ImageHandle) and file.remote for file in files) else 1) as pool:
        return list(pool.map(is_there, files))


def is_there(file: ImageFile) -> bool:
    """Return whether an image is there."""
    return file.is_there() if isinstance(file, ImageHandle) else file.is_file()
