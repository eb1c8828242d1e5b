"""Lossless filters: the same rows from every one, chosen again by what is there, and plain words where a package is missing."""

from __future__ import annotations

import importlib
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from contract import StoreContract

from ffe.commands.pack import pack
from ffe.errors import SpecError, StoreError
from ffe.extraction.run import extract
from ffe.specs import Compression, StoredDtype
from ffe.store import compression
from ffe.store.reader import FeatureStore

FILTERS = {"none": [], "lzf": [32000], "gzip": [1], "zstd": [32001]}


class _Compressed(StoreContract):
    compress: Compression

    def write(self, path: Path, **content: object) -> None:  # type: ignore[override]
        from ffe.store.writer import write_store

        write_store(path, compress=self.compress, **content)  # type: ignore[arg-type]


class TestLzfStore(_Compressed):
    compress = "lzf"


class TestGzipStore(_Compressed):
    compress = "gzip"
    dtype = "float16"


class TestZstdStore(_Compressed):
    compress = "zstd"

    @pytest.fixture(autouse=True)
    def plugin(self) -> None:
        pytest.importorskip("hdf5plugin")


@pytest.mark.parametrize("compress", ["none", "lzf", "gzip", "zstd"])
def test_extraction_compresses_and_keeps_it_so(compress: Compression, pictures: Path, fake_store: Path, tmp_path: Path) -> None:
    if compress == "zstd":
        pytest.importorskip("hdf5plugin")
    path = tmp_path / "f.h5"
    extract(pictures, path, backbone="fake", compress=compress)
    with FeatureStore(path) as store, FeatureStore(fake_store) as plain, h5py.File(path) as file:
        assert store.compression == store.summary()["compression"] == compress
        assert store.spec_digest == plain.spec_digest
        np.testing.assert_array_equal(store.features(), plain.features())
        properties = file["features"].id.get_create_plist()
        assert [properties.get_filter(i)[0] for i in range(properties.get_nfilters())] == FILTERS[compress]
    before = path.read_bytes()
    assert extract(pictures, path, backbone="fake").computed == 0
    assert path.read_bytes() == before
    other: Compression = "gzip" if compress != "gzip" else "none"
    assert extract(pictures, path, backbone="fake", compress=other).computed == 0
    with FeatureStore(path) as store:
        assert store.compression == other


def test_zeros_take_little_room(tmp_path: Path, fake_store: Path) -> None:
    """Packed by gzip, without the bytes being shuffled."""
    pack([fake_store], tmp_path / "p.h5", compress="gzip")
    with h5py.File(tmp_path / "p.h5") as file:
        assert not file["features"].shuffle
        assert file["features"].id.get_storage_size() < file["features"].nbytes


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_zlib_stands_in_for_isal(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: StoredDtype) -> None:
    """On processors that isal does not know: the same checksums, and files that either reads."""
    for name in ("fast", "slow"):
        if name == "slow":
            assert compression._zlib.__name__ == "isal.isal_zlib"
            monkeypatch.setattr(compression, "_zlib", zlib)
        extract(pictures, tmp_path / f"{name}.h5", backbone="fake", compress="gzip", dtype=dtype)
    for undo in (lambda: None, monkeypatch.undo):
        undo()
        with FeatureStore(tmp_path / "fast.h5") as fast, FeatureStore(tmp_path / "slow.h5") as slow:
            assert fast.tables_sha256 == slow.tables_sha256
            np.testing.assert_array_equal(fast.features(), slow.features())


def test_a_chunk_that_is_cut_off_or_too_long() -> None:
    rows = np.arange(100, dtype=np.float32)
    packed = compression.deflate(rows)
    assert compression.inflate(memoryview(packed), 400) == rows.tobytes()
    for data, size in ((packed[:-1], 400), (packed, 399), (packed, 401), (b"nothing", 400), (b"", 400)):
        with pytest.raises(OSError, match=r"a chunk (is cut off|cannot be inflated)"):
            compression.inflate(memoryview(data), size)


@pytest.fixture
def no_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if hdf5plugin were not installed."""

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    available = h5py.h5z.filter_avail
    monkeypatch.setattr(compression.h5py.h5z, "filter_avail", lambda number: number < 32001 and available(number))


def test_writing_zstd_without_its_package(pictures: Path, tmp_path: Path, no_plugin: None) -> None:
    with pytest.raises(StoreError) as caught:
        extract(pictures, tmp_path / "f.h5", backbone="fake", compress="zstd")
    assert str(caught.value) == (
        "The compression zstd needs the package hdf5plugin, which is not installed; "
        "install it with 'pip install hdf5plugin', or use --compress gzip."
    )
    assert list(tmp_path.iterdir()) == []


def test_reading_zstd_without_its_package(fake_store: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("hdf5plugin")
    path = tmp_path / "f.h5"
    pack([fake_store], path, compress="zstd")
    request.getfixturevalue("no_plugin")
    with pytest.raises(StoreError) as caught:
        FeatureStore(path)
    assert str(caught.value) == (
        f"The compression zstd of '{path}' needs the package hdf5plugin, which is not installed; "
        "install it with 'pip install hdf5plugin'."
    )


def test_an_unknown_compression(fake_store: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="compress is 'rar', but must be one of none, lzf, gzip, zstd"):
        pack([fake_store], tmp_path / "p.h5", compress="rar")  # type: ignore[arg-type]


def test_a_filter_of_another_program_is_read_and_not_copied(fake_store: Path, tmp_path: Path) -> None:
    """A file that was repacked by other tools keeps its rows; what ffe writes of it is plain."""
    path = tmp_path / "f.h5"
    with h5py.File(fake_store) as old, h5py.File(path, "w") as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        for name in set(old) - {"data", "features"}:
            old.copy(name, new)
        values = old["features"][()]
        new.create_dataset("features", data=values, chunks=(7, 48), scaleoffset=None, fletcher32=True, fillvalue=np.nan)
    with FeatureStore(path) as store:
        assert store.compression == "filter 3"
        np.testing.assert_array_equal(store.features(), values)
    pack([path], tmp_path / "p.h5")
    with FeatureStore(tmp_path / "p.h5") as store:
        assert store.compression == "none"
        np.testing.assert_array_equal(store.features(), values)
