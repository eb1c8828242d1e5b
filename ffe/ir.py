"""A network in OpenVINO's intermediate representation (IR): a value, and one file.

The graph is XML, and points into one block of constants. Reading it runs no
code. https://docs.openvino.ai/2026/documentation/openvino-ir-format.html
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ffe.keys import bytes_digest, canonical_json

GRAPH = "graph.xml"
WEIGHTS = "weights.bin"
RECORD = "record.json"

_EPOCH = (1980, 1, 1, 0, 0, 0)
_LOCAL_HEADER = 30


@dataclass(frozen=True, eq=False)
class IrModel:
    """A network from uint8 (N, H, W, 3), RGB, not yet scaled, to float32 features of any rank.

    Attributes:
        xml: the graph.
        weights: uint8 (n,), its constants.
        record: what made it, as JSON values; no part of the digest.
    """

    xml: bytes
    weights: np.ndarray
    record: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """Digest of graph and constants, 64 hexadecimal digits."""
        return digest_of_parts(bytes_digest(self.xml), bytes_digest(self.weights.data))


def digest_of_parts(xml: str, weights: str) -> str:
    """Return ``IrModel.sha256`` from the digests of graph and constants."""
    return bytes_digest((xml + weights).encode())


def write_ir(path: Path, model: IrModel) -> None:
    """Write one file; not atomic, the caller renames it."""
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        record = canonical_json({**model.record, "sha256": model.sha256})
        for name, data in ((RECORD, record), (GRAPH, model.xml), (WEIGHTS, model.weights.data)):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
        archive.close()
        file.flush()
        os.fsync(file.fileno())


def read_ir(path: Path) -> IrModel:
    """Read a file that ``write_ir`` wrote, and check its digest.

    Raises:
        ValueError: it is damaged.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            xml, record = archive.read(GRAPH), json.loads(archive.read(RECORD))
        sha256 = record.pop("sha256")
        model = IrModel(xml, map_member(path, WEIGHTS), record)
        if sha256 != model.sha256:
            raise ValueError("its content was changed")
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        LookupError,
        TypeError,
        AttributeError,
        EOFError,
        RuntimeError,
    ) as error:
        raise ValueError(f"it is damaged ({error!r})") from error
    return model


def map_member(path: Path, name: str) -> np.ndarray:
    """Return a member of a zip as uint8 (n,); one that is stored plainly is read when it is used.

    Raises:
        KeyError: there is no such member.
    """
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size == 0:
            return np.frombuffer(archive.read(name), np.uint8)
    with path.open("rb") as file:
        file.seek(info.header_offset)
        name_length, extra_length = struct.unpack("<26xHH", file.read(_LOCAL_HEADER))
    start = info.header_offset + _LOCAL_HEADER + name_length + extra_length
    return np.memmap(path, np.uint8, "c", start, (info.file_size,))
