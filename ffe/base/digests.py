"""Canonical JSON and SHA-256: the one place that knows what makes a cached feature stale."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import IO, Any


def canonical_json(value: Any) -> bytes:
    """Return JSON as UTF-8 with sorted keys and no spaces: equal values, equal bytes; a ValueError for NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def bytes_digest(data: bytes | memoryview) -> str:
    """Return the SHA-256 of ``data`` in 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, read in pieces."""
    with path.open("rb") as file:
        return stream_digest(file)


def stream_digest(file: IO[bytes]) -> str:
    """Return the SHA-256 of what is left of an open file, read in pieces."""
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
