"""Where the images of stored rows lie, as far as their feature files tell."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

from ffe.base.digests import file_digest
from ffe.dataset.stored_rows import StoredSplit
from ffe.dataset.table import ImageTable
from ffe.images.file_names import on_disk


def with_files(rows: StoredSplit) -> ImageTable:
    """Return the images with the places of their files, which may be gone by now."""
    stored = ((rows.stores[i], row) for i, row in rows.origin.tolist())
    return replace(
        rows.images, files=tuple(image_file(store.source, store.paths[row], store.sha256[row]) for store, row in stored)
    )


def image_file(source: str, name: str, sha256: str) -> Path | None:
    """Return where the image of a row lies; None where it must not be shown: a file from somebody else must not show others."""
    root = Path(source)
    file = (root.parent if root.is_file() else root) / name
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    return on_disk(file) if inside or _is_same(file, sha256) else None


def _is_same(file: Path, sha256: str) -> bool:
    try:
        return stat.S_ISREG(file.stat().st_mode) and file_digest(file) == sha256
    except OSError:
        return False
