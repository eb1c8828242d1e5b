"""Whether a file is still the one that was read, told from its size and time of change alone."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from ffe.base.atomic import atomic_write
from ffe.base.digests import bytes_digest, canonical_json, file_digest
from ffe.base.system import cache_root

Stamp = tuple[int, int]
NO_STAMP: Stamp = (-1, -1)

RACY_NS = 2_000_000_000
_WORTH_BYTES = 8 << 20  # smaller files are hashed sooner than a note about them is found


def stamp_now(path: str | os.PathLike[str]) -> Stamp:
    """Return (size in bytes, ns since 1970 of the later of the two times of change); ``NO_STAMP`` if it cannot be reached.

    Tools set mtime back; ctime, the change of the file's entry, cannot be set, and is the time of creation on some systems.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return NO_STAMP
    return status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)


def stamp_to_keep(path: str | os.PathLike[str]) -> Stamp:
    """Return the stamp of a file that is about to be read; ``NO_STAMP`` if it changed within the last two seconds, or later.

    It may change again within one tick of the file system's clock. Git does so, https://git-scm.com/docs/racy-git
    """
    now = time.time_ns()
    stamp = stamp_now(path)
    return stamp if stamp[1] <= now - RACY_NS else NO_STAMP


def remembered_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content; of a large one that has not changed since, from a note in the cache folder."""
    real = os.path.realpath(path)
    stamp = stamp_to_keep(real)
    if stamp == NO_STAMP or stamp[0] < _WORTH_BYTES:
        return file_digest(path)
    note = cache_root() / "digests" / f"{bytes_digest(os.fsencode(real))[:32]}.json"
    content = read_note(note)
    with contextlib.suppress(ValueError, TypeError, LookupError):
        if content["stamp"] == list(stamp) and len(bytes.fromhex(content["sha256"])) == 32:
            return str(content["sha256"])
    digest = file_digest(path)
    write_note(note, {"stamp": list(stamp), "sha256": digest})
    return digest


def read_note(path: Path) -> dict[str, Any]:
    """Return what ``write_note`` wrote; empty = there is nothing, or it cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_text("utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def write_note(path: Path, content: object) -> None:
    """Write JSON into the cache folder, replacing what was there; a cache that cannot be written costs time only."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, durable=False) as temporary:
            temporary.write_bytes(canonical_json(content))
