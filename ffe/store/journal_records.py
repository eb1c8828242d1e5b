"""What an unfinished run has left beside its output: records of rows, and the rows themselves."""

from __future__ import annotations

import contextlib
import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffe.base.file_access import unopened
from ffe.base.openvino_ir import IrModel, read_ir
from ffe.base.system import taken_disk
from ffe.errors import SpecError, StaleStoreError, StoreError
from ffe.specs import ExtractSpec, spec_differences
from ffe.store.journal_folder import DRAFT, MODEL, folder_of, remove

HEAD_BYTES = 2048  # where the first row of a draft begins; before it HDF5 says what the file is
RECORD_ROW = 128  # bytes of a record for each row


@dataclass(frozen=True)
class Record:
    """What rows of the draft hold, from ``first`` on: names (digests) of their images, their fingerprints and checksums."""

    spec: ExtractSpec
    grid: tuple[int, int, int]
    first: int
    names: tuple[str, ...]
    phash: tuple[int, ...]
    crc32: tuple[int, ...]


def read_record(path: Path) -> Record | None:
    """Read a record; None if it is damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
        height, width, channels = (int(n) for n in content["grid"])
        names = tuple(map(str, content["names"]))
        phash, crc32 = (tuple(map(int, content[name])) for name in ("phash", "crc32"))
        spec, first = ExtractSpec.from_json(content["spec"]), int(content["first"])
        if not len(names) == len(phash) == len(crc32) or first < 0 or min(height, width, channels) < 1:
            return None
        return Record(spec, (height, width, channels), first, names, phash, crc32)
    except (ValueError, KeyError, TypeError, SpecError):
        return None


def row_bytes(grid: tuple[int, int, int], spec: ExtractSpec) -> int:
    """Return the bytes of a row of features (h, w, c)."""
    return math.prod(grid) * np.dtype(spec.dtype).itemsize


def sound_rows(draft: Path, record: Record) -> list[bool]:
    """Say of each row of a record whether it is on the disk as it was written.

    Raises:
        OSError: the draft cannot be read, which says nothing of its rows.
    """
    size = row_bytes(record.grid, record.spec)
    try:
        with draft.open("rb") as file:
            file.seek(HEAD_BYTES + record.first * size)
            rows = (file.read(size) for _ in record.names)
            return [len(row) == size and zlib.crc32(row) == crc32 for row, crc32 in zip(rows, record.crc32, strict=True)]
    except (FileNotFoundError, OverflowError):
        return [False] * len(record.names)


def refuse_other_run(output: Path, record: Record, asked: ExtractSpec) -> None:
    """Make sure that an unfinished run made the features that are asked for.

    Raises:
        StaleStoreError: it made others.
    """
    if record.spec != asked:
        differences = "; ".join(spec_differences(record.spec, asked))
        raise StaleStoreError(
            f"An unfinished run for '{output}' made other features ({differences}); "
            "use the options of that run, another output, or --overwrite."
        )


def unfinished(output: Path) -> list[Record]:
    """Return the records of an unfinished run for ``output``; nothing is locked, checked or changed."""
    records = []
    for path in sorted(folder_of(output).glob("*.json")):
        with contextlib.suppress(OSError):  # the run has just ended
            records.append(read_record(path))
    return [record for record in records if record is not None]


def has_rows(output: Path) -> bool:
    """Return whether an unfinished run for ``output`` has left features behind."""
    return any(folder_of(output).glob("*.json"))


def held_bytes(output: Path) -> int:
    """Return what the rows of an unfinished run take on the disk."""
    return taken_disk(folder_of(output) / DRAFT)


def unfinished_model(output: Path) -> IrModel | None:
    """Return the int8 model of an unfinished run for ``output``, if there is a sound one."""
    try:
        return read_ir(folder_of(output) / MODEL) if has_rows(output) else None
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise StoreError(unopened(folder_of(output) / MODEL, error)) from error


def forget(output: Path) -> None:
    """Delete what an unfinished run for ``output`` has left; the run must have ended."""
    remove(folder_of(output))
