"""Canonical JSON and SHA-256: the one place that knows what makes a cached feature stale."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import IO, Any

from ffe.specs import ExtractSpec

_KIND = "backbone.weights"
_KINDS = {
    "file": "weights from a file",
    "random": "random weights",
    "finetuned": "fine-tuned weights",
    "scratch": "weights trained from scratch",
}


def canonical_json(value: Any) -> bytes:
    """Return JSON as UTF-8 with sorted keys and no spaces: equal values, equal bytes.

    Raises:
        ValueError: the value holds NaN or infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def bytes_digest(data: bytes | memoryview) -> str:
    """Return the SHA-256 of ``data`` in 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, read in pieces.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return stream_digest(file)


def stream_digest(file: IO[bytes]) -> str:
    """Return the SHA-256 of what is left of an open file, read in pieces."""
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def spec_digest(spec: ExtractSpec) -> str:
    """Return the cache key of the features that ``spec`` makes."""
    return bytes_digest(canonical_json(spec.to_json()))


def spec_differences(stored: ExtractSpec, asked: ExtractSpec, words: tuple[str, str] = ("stored", "asked")) -> list[str]:
    """Say where two specs differ, one ``backbone.name: stored vgg19, asked vgg16`` per field.

    Where the kinds of weights differ, their digests do so too, and are not named.
    """

    def flat(value: Any, prefix: str = "") -> dict[str, Any]:
        if not isinstance(value, dict):
            return {prefix: value}
        return {k: v for name, item in value.items() for k, v in flat(item, f"{prefix}.{name}" if prefix else name).items()}

    def short(name: str, value: Any) -> str:
        if name.endswith("sha256"):
            return value[:12]
        if name == _KIND:
            return _KINDS.get(value, value)
        return "x".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)

    a, b = flat(stored.to_json()), flat(asked.to_json())
    return [
        f"{k}: {words[0]} {short(k, a.get(k, 'none'))}, {words[1]} {short(k, b.get(k, 'none'))}"
        for k in {**a, **b}
        if a.get(k) != b.get(k) and not (k == f"{_KIND}_sha256" and a.get(_KIND) != b.get(_KIND))
    ]
