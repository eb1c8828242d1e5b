"""NumPy's ``.npz``: an array for each column, and a JSON member with what is said of the features; nothing is pickled."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from ffe.exporting.feature_table import ABOUT, FEATURES, FeatureTable, TableFormat

ABOUT_MEMBER = f"{ABOUT}.json"

_EPOCH = (1980, 1, 1, 0, 0, 0)


def write(table: FeatureTable, file: BinaryIO) -> None:
    """Write member by member, block by block, not compressed, so that features can be mapped from the file."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(ABOUT_MEMBER, _EPOCH), table.about_json())
        names = np.asarray(table.store.class_names, np.str_)
        _write_array(archive, "class_names", names.dtype, names.shape, iter([names]))
        for name, column in table.texts.items():
            dtype = np.dtype(f"<U{max(1, *map(len, column), 1)}")
            blocks = (np.asarray(column[rows], dtype) for rows in table.slices())
            _write_array(archive, name, dtype, (len(table),), blocks)
        for name, numbers in table.numbers.items():
            _write_array(archive, name, numbers.dtype, numbers.shape, iter([numbers]))
        _write_array(archive, FEATURES, table.dtype, table.shape, map(table.features, table.slices()))


def _write_array(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype, shape: tuple[int, ...], blocks: Iterator[np.ndarray]
) -> None:
    with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as member:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        for block in blocks:
            member.write(np.ascontiguousarray(block).view(np.uint8).data)


NPZ = TableFormat("npz", ".npz", write)
