"""What an unfinished run has left beside its output: records of rows, and the rows themselves."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffe.base.feature_layout import FeatureLayout
from ffe.base.file_access import unopened
from ffe.base.openvino_ir import IrModel, read_ir
from ffe.base.system import taken_disk
from ffe.base.text import OVERWRITE
from ffe.errors import SpecError, StaleStoreError, StoreError
from ffe.specs import ExtractSpec, spec_differences
from ffe.store.journal_folder import DRAFT, MODEL, journal_folder

HEAD_BYTES = 2048  # where the first row of a draft begins; before it HDF5 says what the file is
RECORD_ROW = 128  # bytes of a record for each row


@dataclass(frozen=True)
class Record:
    """What rows of the draft hold, from ``first`` on: names (digests) of their images, their fingerprints and checksums."""

    spec: ExtractSpec
    layout: FeatureLayout
    first: int
    names: tuple[str, ...]
    phash: tuple[int, ...]
    crc32: tuple[int, ...]


def read_record(path: Path) -> Record | None:
    """Read a record; None if it is damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
        layout = FeatureLayout.from_json(content["grid"])
        names = tuple(map(str, content["names"]))
        phash, crc32 = (tuple(map(int, content[name])) for name in ("phash", "crc32"))
        spec, first = ExtractSpec.from_json(content["spec"]), int(content["first"])
        if not len(names) == len(phash) == len(crc32) or first < 0:
            return None
        return Record(spec, layout, first, names, phash, crc32)
    except (ValueError, KeyError, TypeError, SpecError):
        return None


def row_bytes(layout: FeatureLayout, spec: ExtractSpec) -> int:
    """Return the bytes of a row of features."""
    return layout.dims * np.dtype(spec.dtype).itemsize


def intact_rows(draft: Path, record: Record) -> list[bool]:
    """Return of each row of a record whether it is on the disk as it was written; an OSError says nothing of the rows."""
    size = row_bytes(record.layout, record.spec)
    try:
        with draft.open("rb") as file:
            file.seek(HEAD_BYTES + record.first * size)
            rows = (file.read(size) for _ in record.names)
            return [len(row) == size and zlib.crc32(row) == crc32 for row, crc32 in zip(rows, record.crc32, strict=True)]
    except (FileNotFoundError, OverflowError):
        return [False] * len(record.names)


def check_same_spec(output: Path, record: Record, asked: ExtractSpec) -> None:
    """Raise a StaleStoreError if an unfinished run made other features than are asked for."""
    if record.spec != asked:
        differences = "; ".join(spec_differences(record.spec, asked))
        raise StaleStoreError(
            f"An unfinished run for '{output}' made other features ({differences}); "
            f"use the options of that run, another output, or {OVERWRITE}."
        )


def read_records(output: Path) -> Iterator[Record]:
    """Yield the records of an unfinished run for ``output``; nothing is locked, checked or changed."""
    for path in sorted(journal_folder(output).glob("*.json")):
        with contextlib.suppress(OSError):  # the run has just ended
            if (record := read_record(path)) is not None:
                yield record


def has_rows(output: Path) -> bool:
    """Return whether an unfinished run has left features behind."""
    return any(journal_folder(output).glob("*.json"))


def journal_bytes(output: Path) -> int:
    """Return what the rows of an unfinished run take on the disk."""
    return taken_disk(journal_folder(output) / DRAFT)


def journal_model(output: Path) -> IrModel | None:
    """Return the int8 model of an unfinished run for ``output``, if there is a sound one."""
    try:
        return read_ir(journal_folder(output) / MODEL) if has_rows(output) else None
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise StoreError(unopened(journal_folder(output) / MODEL, error)) from error
