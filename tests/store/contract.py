"""What every feature store must pass: subclass ``StoreContract``; both ends can be replaced."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from feature_files import assert_same_file

from ffe._version import __version__
from ffe.base.digests import bytes_digest
from ffe.base.feature_layout import FeatureLayout
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec, StoredDtype, spec_digest
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row, Skipped
from ffe.store.writer import write_store


class StoreContract:
    """The promises of ``ffe.store.schema``, as tests.

    Attributes:
        dtype: how the features are stored.
        layout: of a row.
        schema: that the file must have.
        count: rows; enough for several chunks.
    """

    dtype: StoredDtype = "float32"
    layout: FeatureLayout = FeatureLayout.of_shape((2, 2, 256))
    schema: int = 4
    count: int = 600
    class_names: tuple[str, ...] = ("cat", "dög")
    skipped: tuple[Skipped, ...] = (
        Skipped("cat/bäd.png", "broken", "its header is damaged"),
        Skipped("x", "empty", "nothing", (0, 10**18)),
    )

    def write(
        self,
        path: Path,
        *,
        spec: ExtractSpec,
        layout: FeatureLayout,
        class_names: Sequence[str],
        rows: Sequence[Row],
        features: Callable[[Row], np.ndarray],
        skipped: Sequence[Skipped] = (),
        judged_by: str = "",
        source: str = "",
    ) -> None:
        """Write a store; see ``ffe.store.writer.write_store``."""
        write_store(
            path,
            spec=spec,
            layout=layout,
            class_names=class_names,
            rows=rows,
            features=features,
            skipped=skipped,
            judged_by=judged_by,
            source=source,
        )

    def open(self, path: Path) -> FeatureStore:
        """Open a store; see ``ffe.store.reader.FeatureStore``."""
        return FeatureStore(path)

    def spec(self) -> ExtractSpec:
        """Return the spec that the features are said to be made by."""
        return ExtractSpec(BackboneSpec("fake", "random", "0" * 64), PreprocessSpec((32, 32), "none"), dtype=self.dtype)

    def rows(self) -> list[Row]:
        """Return rows in the order of their paths, with all labels and splits."""
        splits = ("train", "valid", "test", "")
        return [
            Row(
                f"cät/{i:04d}.jpg",
                bytes_digest(b"%d" % i),
                -1 if i % 7 == 0 else i % 2,
                splits[i % 4],
                phash=2**64 - 1 - i if i % 3 else 0,
                group=f"bürst {i // 5}" if i % 2 else "",
                stat=(1000 + i, 10**18 + i) if i % 4 else (-1, -1),
            )
            for i in range(self.count)
        ]

    def values(self, row: Row) -> np.ndarray:
        """Return the features (D,) of a row, in the type that they are stored in."""
        seed = int(row.sha256[:8], 16)
        return np.random.default_rng(seed).standard_normal(self.layout.dims, np.float32).astype(self.dtype)

    def expected(self) -> list[Row]:
        """Return the rows in the order that the file must have."""
        return sorted(self.rows(), key=lambda row: bytes_digest(row.path.encode()))

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """A file that was just written."""
        path = tmp_path / "features.h5"
        self._write(path)
        return path

    def _write(self, path: Path, **changes: Any) -> None:
        content: dict[str, Any] = {
            "spec": self.spec(),
            "layout": self.layout,
            "class_names": self.class_names,
            "rows": self.rows(),
            "features": self.values,
            "skipped": self.skipped,
            "judged_by": "a decoder",
            "source": "/pictures",
        }
        self.write(path, **{**content, **changes})

    def test_plain_h5py_reads_data_and_labels(self, path: Path) -> None:
        """Tools that know only ``data`` and ``labels`` find all features and labels."""
        rows = self.expected()
        with h5py.File(path) as file:
            link = file.get("data", getlink=True)
            assert isinstance(link, h5py.SoftLink)
            assert link.path == "/features"
            assert file["data"].dtype == self.dtype
            np.testing.assert_array_equal(file["data"][()], np.stack([self.values(row) for row in rows]))
            assert file["labels"].dtype == np.int64
            np.testing.assert_array_equal(file["labels"][()], [row.label for row in rows])

    def test_chunks_hold_whole_rows_and_empty_is_nan(self, path: Path) -> None:
        """No chunk splits a row, there are several of them, and what was never written is NaN."""
        with h5py.File(path) as file:
            features = file["features"]
            assert features.shape == (self.count, self.layout.dims)
            assert features.chunks is not None
            assert features.chunks[1] == features.shape[1]
            assert 1 <= features.chunks[0] < self.count
            assert np.isnan(features.fillvalue)

    def test_attributes_describe_the_file(self, path: Path) -> None:
        """The schema, the spec, its digest, the classes, the layout and the source stand in the file."""
        with h5py.File(path) as file:
            assert file.attrs["ffe_schema"] == self.schema
            assert ExtractSpec.from_json(json.loads(file.attrs["spec"])) == self.spec()
            assert file.attrs["spec_digest"].decode() == spec_digest(self.spec())
            assert json.loads(file.attrs["class_names"]) == list(self.class_names)
            assert file.attrs["grid"].tolist() == self.layout.to_json()
            assert file.attrs["source"].decode() == "/pictures"
            assert file.attrs["ffe_version"].decode() == __version__

    def test_checksums_are_those_of_the_stored_bytes(self, path: Path) -> None:
        """Any program can check a row: CRC-32 of its bytes, as they stand in the file."""
        with h5py.File(path) as file:
            assert file["crc32"].dtype == np.uint32
            assert file["crc32"][()].tolist() == [zlib.crc32(row.tobytes()) for row in file["features"][()]]
            assert re.fullmatch(b"[0-9a-f]{64}", file.attrs["tables_sha256"])

    def test_text_is_utf8_of_a_fixed_length(self, path: Path) -> None:
        """No column holds addresses that HDF5 would follow."""
        with h5py.File(path) as file:
            for name in file.attrs:
                assert not file.attrs.get_id(name).dtype.hasobject, name
            for name in ("paths", "sha256", "split", "group"):
                text = h5py.check_string_dtype(file[name].dtype)
                assert (text.encoding, text.length is not None) == ("utf-8", True)
            assert list(file["paths"].asstr()[()]) == [row.path for row in self.expected()]

    def test_columns_come_back(self, path: Path) -> None:
        """All that was written is read again, row for row."""
        rows = self.expected()
        with self.open(path) as store:
            assert len(store) == self.count
            assert store.dims == self.layout.dims
            assert store.spec == self.spec()
            assert store.spec_digest == spec_digest(self.spec())
            assert store.class_names == self.class_names
            assert (store.layout, store.grid) == (self.layout, self.layout.grid)
            assert store.source == "/pictures"
            assert store.labels.dtype == np.int64
            assert store.phash.dtype == np.uint64
            assert store.rows() == rows
            assert store.paths == tuple(row.path for row in rows)
            assert store.skipped == self.skipped
            assert store.judged_by == "a decoder"

    def test_order_depends_on_the_paths_alone(self, path: Path, tmp_path: Path) -> None:
        """Rows given in another order make the same file."""
        other = tmp_path / "other.h5"
        self._write(other, rows=self.rows()[::-1])
        assert_same_file(other, path)

    def test_order_is_shuffled(self, path: Path) -> None:
        """Neighbours by path are no neighbours in the file."""
        with self.open(path) as store:
            assert list(store.paths) != sorted(store.paths)
            assert store.paths == tuple(row.path for row in self.expected())

    def test_all_features_are_float32(self, path: Path) -> None:
        """Features are read as float32, whatever they are stored as."""
        with self.open(path) as store:
            features = store.features()
            assert features.dtype == np.float32
            np.testing.assert_array_equal(features, self._matrix())

    def test_chosen_rows_in_any_order(self, path: Path) -> None:
        """Rows come in the order asked for, also twice, also none, also from all chunks."""
        full = self._matrix()
        wishes: list[Any] = [
            [0],
            [self.count - 1, 0],
            [1, 1, 1, 0, 1],
            [],
            np.arange(self.count)[::-1],
            np.random.default_rng(0).permutation(self.count)[:97],
            np.random.default_rng(1).integers(0, self.count, 2 * self.count),
        ]
        with self.open(path) as store:
            for wish in wishes:
                rows = np.asarray(wish, np.int64)
                read = store.features(rows)
                assert read.dtype == np.float32
                assert read.shape == (len(rows), store.dims)
                np.testing.assert_array_equal(read, full[rows])

    def test_raw_row_keeps_its_type(self, path: Path) -> None:
        """A raw row has the bits that were given to the writer."""
        rows = self.expected()
        with self.open(path) as store:
            for index in (0, self.count // 2, self.count - 1):
                assert store.raw_row(index).dtype == self.dtype
                np.testing.assert_array_equal(store.raw_row(index), self.values(rows[index]))

    def test_batches_cover_every_row_once(self, path: Path) -> None:
        """Batches run from the first row to the last; only the last may be smaller."""
        with self.open(path) as store:
            batches = list(store.batches(128))
            assert [len(labels) for _, labels in batches] == [128] * (self.count // 128) + [self.count % 128]
            np.testing.assert_array_equal(np.concatenate([features for features, _ in batches]), self._matrix())
            np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), store.labels)
            assert all(features.dtype == np.float32 for features, _ in batches)

    def test_shuffled_batches_cover_every_row_once(self, path: Path) -> None:
        """Each epoch has every row once, with its label; the same seed gives the same batches."""
        with self.open(path) as store:
            epochs = [list(store.shuffled(32, seed=seed)) for seed in (0, 0, 1)]
            full, labels = self._matrix(), store.labels
        known = {row.tobytes(): i for i, row in enumerate(full)}
        orders = []
        for epoch in epochs:
            assert [len(found) for _, found in epoch] == [32] * (self.count // 32) + [self.count % 32] * (self.count % 32 > 0)
            rows = [known[row.tobytes()] for features, _ in epoch for row in features]
            np.testing.assert_array_equal(np.concatenate([found for _, found in epoch]), labels[rows])
            assert sorted(rows) == list(range(self.count))
            orders.append(rows)
        assert orders[0] == orders[1]
        assert self.count < 10 or (orders[0] != orders[2] and orders[0] != sorted(orders[0]))

    def test_rows_that_are_not_there(self, path: Path) -> None:
        """A row number outside the file is an error, never another row."""
        with self.open(path) as store:
            for wrong in (-1, self.count):
                with pytest.raises(IndexError, match=f"has the rows 0 to {self.count - 1}"):
                    store.features(np.asarray([0, wrong]))

    def test_failed_write_leaves_the_old_file(self, path: Path) -> None:
        """A write that breaks off midway changes nothing and leaves nothing behind."""
        before = path.read_bytes()
        last = self.expected()[-1]

        def breaks(row: Row) -> np.ndarray:
            if row == last:
                raise OSError("the disk is full")
            return self.values(row) + np.asarray(1, self.dtype)

        with pytest.raises(OSError, match="the disk is full"):
            self._write(path, features=breaks)
        assert path.read_bytes() == before
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_failed_first_write_leaves_nothing(self, tmp_path: Path) -> None:
        """A write that breaks off leaves no half file where there was none."""

        def breaks(row: Row) -> np.ndarray:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self._write(tmp_path / "features.h5", features=breaks)
        assert list(tmp_path.iterdir()) == []

    def test_write_replaces_the_old_file(self, path: Path) -> None:
        """A finished write takes the place of the old file; an open reader keeps the old one."""
        with self.open(path) as old:
            self._write(path, rows=self.rows()[:3], skipped=())
            assert len(old.features()) == self.count
        with self.open(path) as new:
            assert len(new) == 3
            assert new.skipped == ()

    def _matrix(self) -> np.ndarray:
        return np.stack([self.values(row) for row in self.expected()]).astype(np.float32)
