"""What a feature file says of its own bytes, so that no damage is taken for content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from ffe.base.columns import PIECE, zeros
from ffe.base.digests import canonical_json
from ffe.base.hdf5_checks import read_attribute
from ffe.store import schema
from ffe.store.compression import crc32


def row_checksums(block: np.ndarray | list[np.ndarray]) -> np.ndarray:
    """Return the CRC-32 of the bytes of each row: (n, D) in C order, or n rows (D,) -> uint32 (n,)."""
    return np.fromiter(map(crc32, block), np.uint32, len(block))


def read_tables(file: h5py.File) -> dict[str, np.ndarray]:
    """Read all small columns of a feature file, as they are stored."""
    return {name: _read(file[name]) for name in schema.TABLES if name in file}


def _read(table: h5py.Dataset) -> np.ndarray:
    if table.dtype.hasobject or not table.size:
        return np.asarray(table[()])
    read = zeros(table.shape, table.dtype)
    table.read_direct(read)
    return read


def tables_digest(file: h5py.File, tables: Mapping[str, np.ndarray | h5py.Dataset]) -> str:
    """Return the SHA-256 over all that a feature file says, but for the features, 64 hexadecimal digits.

    Of an int8 model it covers the record only: the spec has the digest of the rest.
    """
    features = file[schema.FEATURES]
    head = {
        "attributes": {name: read_attribute(file, name) for name in schema.ATTRIBUTES if name in file.attrs},
        "features": [list(features.shape), features.dtype.str],
        "record": read_attribute(file[schema.BACKBONE], "record") if schema.BACKBONE in file else None,
        "tables": {name: [_type(table.dtype), list(table.shape)] for name, table in tables.items()},
    }
    digest = hashlib.sha256(canonical_json(head))
    for table in tables.values():
        for start in range(0, len(table), PIECE):
            digest.update(table[start : start + PIECE].tobytes())
    return digest.hexdigest()


def _type(dtype: np.dtype) -> Any:
    """Return a type without what h5py notes at it."""
    if dtype.names is None:
        return dtype.str
    return [[name, dtype[name].str] for name in dtype.names]
