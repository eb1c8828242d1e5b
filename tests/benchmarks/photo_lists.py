"""A list of photos that lie in folders of their classes, for benchmarks that extract some of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def listed(path: Path, files: Iterable[Path]) -> Path:
    """Write a CSV of photos, whose labels are the names of their folders; return where it is."""
    path.write_text("path,label\n" + "".join(f"{file.resolve()},{file.parent.name}\n" for file in files))
    return path
