"""What tests of several packages do with feature files: compare two, and make a change in one look meant."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from ffe.base.hdf5_checks import as_text
from ffe.store.checksums import read_tables, row_checksums, tables_digest


def assert_same_file(one: Path, other: Path) -> None:
    """Check that two HDF5 files hold the same: names, types, chunks, values to the bit, and attributes.

    The bytes of two files are equal where their content is: see ``ffe.store.writer``.
    """
    with h5py.File(one) as a, h5py.File(other) as b:
        assert sorted(a) == sorted(b)
        assert sorted(a.attrs) == sorted(b.attrs)
        for name in a.attrs:
            np.testing.assert_array_equal(a.attrs[name], b.attrs[name], err_msg=name)
        for name in a:
            assert a[name].dtype == b[name].dtype, name
            assert a[name].chunks == b[name].chunks, name
            np.testing.assert_array_equal(a[name][()], b[name][()], err_msg=name)


def seal(file: h5py.File) -> None:
    """Make the checksums of a file that a test changed fit its content, as if the change were meant.

    Args:
        file: a feature file, open for writing.
    """
    file["crc32"][...] = row_checksums(file["features"][()])
    file.attrs["tables_sha256"] = as_text(tables_digest(file, read_tables(file)))
