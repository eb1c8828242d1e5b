"""What tests of several packages do with feature files: compare two, and make a change in one look meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from ffe.backbones.resolve import make_spec
from ffe.base.digests import bytes_digest, path_digest
from ffe.base.feature_layout import FeatureLayout
from ffe.base.hdf5_checks import as_text
from ffe.images.augment_text import parse_augment
from ffe.specs import ViewsSpec
from ffe.store.checksums import read_tables, row_checksums, tables_digest
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import write_store


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


def differences(one: Path, other: Path) -> set[str]:
    """Return the datasets and attributes that differ between two feature files that have the same of them."""
    with h5py.File(one) as a, h5py.File(other) as b:
        assert (set(a), set(a.attrs)) == (set(b), set(b.attrs))
        datasets = {name for name in a if not np.array_equal(a[name][()], b[name][()])}
        return datasets | {name for name in a.attrs if str(a.attrs[name]) != str(b.attrs[name])}


def seal(file: h5py.File) -> None:
    """Make the checksums of a file that a test changed fit its content, as if the change were meant.

    Args:
        file: a feature file, open for writing.
    """
    file["crc32"][...] = row_checksums(file["features"][()])
    file.attrs["tables_sha256"] = as_text(tables_digest(file, read_tables(file)))


def write_features(path: Path, features: np.ndarray, layout: FeatureLayout, views: list[int] | None = None) -> FeatureStore:
    """Write a feature file whose row i has ``features[i]``: rows are sorted by a digest of their path."""
    numbers = [0] * len(features) if views is None else views
    names = sorted((f"{i:04d}.png" for i in range(len(features))), key=path_digest)
    rows = [Row(name, bytes_digest(name.encode()), i % 2, "", view=numbers[i]) for i, name in enumerate(names)]
    places = {name: i for i, name in enumerate(names)}
    made = None if views is None else ViewsSpec(1, parse_augment("flip"))
    spec = replace(make_spec("fake")[0], dtype=str(features.dtype))  # type: ignore[arg-type]
    write_store(
        path, spec=spec, layout=layout, class_names=("cat", "dog"), rows=rows, views=made,
        features=lambda row: features[places[row.path]],
    )  # fmt: skip
    return FeatureStore(path)
