"""The feature file: what both ends promise, and what the reader refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from contract import StoreContract

from ffe.base.feature_layout import FeatureLayout, Part
from ffe.base.hdf5_checks import as_text
from ffe.errors import StoreError
from ffe.specs import StoredDtype
from ffe.store.checksums import read_tables, tables_digest
from ffe.store.reader import FeatureStore
from ffe.store.schema import chunk_rows


class TestFloat32Store(StoreContract):
    pass


class TestFloat16Store(StoreContract):
    dtype: StoredDtype = "float16"
    layout = FeatureLayout.of_shape((4, 4, 100))
    count = 700


class TestStoreOfVectors(StoreContract):
    """Features without a grid, and rows that are larger than a chunk is meant to be."""

    layout = FeatureLayout.of_shape((1, 1, 300_000))
    count = 3


class TestStoreOfTokens(StoreContract):
    """A class token, two registers and a grid; earlier versions of ffe would take it for a grid."""

    layout = FeatureLayout((Part(4, 5, 64, prefix=3),))
    schema = 5


class TestStoreOfLayers(StoreContract):
    """Two layers side by side."""

    layout = FeatureLayout((Part(8, 8, 16), Part(4, 4, 32)))
    schema = 5


def test_chunks_are_about_a_mebibyte() -> None:
    assert chunk_rows(100_000, 8192, 4) == 32
    assert chunk_rows(100_000, 8192, 2) == 64
    assert chunk_rows(10, 8192, 4) == 10
    assert chunk_rows(10, 1 << 20, 4) == 1


@pytest.fixture
def damaged(fake_store: Path, tmp_path: Path) -> Callable[[Callable[[h5py.File], None]], Path]:
    """Return a function that copies a sound file and lets a test change the copy, which is then sealed as if it were meant."""

    def copy(damage: Callable[[h5py.File], None]) -> Path:
        path = tmp_path / "features.h5"
        shutil.copy(fake_store, path)
        with h5py.File(path, "r+") as file:
            damage(file)
            if "features" in file:
                file.attrs["tables_sha256"] = as_text(tables_digest(file, read_tables(file)))
        return path

    return copy


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"There is no feature file '.*none\.h5'; make one with 'ffe extract SOURCE -o .*none\.h5'"
    ):
        FeatureStore(tmp_path / "none.h5")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is a folder, not a feature file; make one with 'ffe extract .* -o features\.h5'\."):
        FeatureStore(tmp_path)


def test_model_in_place_of_a_feature_file(fake_bundle: Path) -> None:
    with pytest.raises(StoreError, match="is a model, not a feature file; give a file that 'ffe extract' wrote"):
        FeatureStore(fake_bundle)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty; make it with 'ffe extract SOURCE -o"),
        (b"path,label\na.png,cat\n", "is no feature file, or a damaged one; give"),
    ],
)
def test_file_that_is_no_hdf5(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "features.h5"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=rf"features\.h5' {sentence}"):
        FeatureStore(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_file_that_was_cut_off(fake_store: Path, tmp_path: Path, share: float) -> None:
    data = fake_store.read_bytes()
    path = tmp_path / "features.h5"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(
        StoreError, match="is an HDF5 file that is cut off or damaged; if 'ffe extract' wrote it, make it again with --overwrite"
    ):
        FeatureStore(path)


def test_hdf5_file_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((3, 4))
    with pytest.raises(StoreError, match=r"features\.h5' was not written by ffe; make a feature file with 'ffe extract'"):
        FeatureStore(path)


def test_other_schema(damaged: Callable[[Callable[[h5py.File], None]], Path]) -> None:
    def damage(file: h5py.File) -> None:
        file.attrs["ffe_schema"] = 99

    sentence = (
        r"has schema 99, but this version of ffe reads schema 5; install the version of ffe that wrote it, or extract it again"
    )
    with pytest.raises(StoreError, match=sentence):
        FeatureStore(damaged(damage))


def set_spec(file: h5py.File, **fields: object) -> None:
    file.attrs["spec"] = as_text(json.dumps({**json.loads(file.attrs["spec"]), **fields}))


def replace(file: h5py.File, name: str, values: np.ndarray) -> None:
    del file[name]
    file[name] = values


def delete(file: h5py.File, name: str) -> None:
    del file[name]


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda f: set_spec(f, precision="mixed_float16"), "its spec does not match its spec digest"),
        (lambda f: set_spec(f, dtype="float16"), "its features do not have the shape or type that its spec says"),
        (lambda f: f.attrs.__setitem__("grid", [4, 4, 4]), "its features do not have the shape or type that its spec says"),
        (lambda f: replace(f, "labels", np.zeros(39, np.int64)), "its columns have different lengths"),
        (lambda f: replace(f, "view", np.zeros(41, np.int64)), "its columns have different lengths"),
        (lambda f: replace(f, "phash", np.zeros(41, np.uint64)), "its columns have different lengths"),
        (lambda f: replace(f, "group", np.zeros(39, "S1")), "its columns have different lengths"),
        (lambda f: replace(f, "labels", np.full(40, 2)), "it holds labels that are no class"),
        (lambda f: replace(f, "labels", np.full(40, -2)), "it holds labels that are no class"),
    ],
)
def test_content_that_contradicts_itself(
    damaged: Callable[[Callable[[h5py.File], None]], Path], damage: Callable[[h5py.File], None], what: str
) -> None:
    with pytest.raises(StoreError, match=rf"features\.h5' is damaged: {what}; extract it again with --overwrite\."):
        FeatureStore(damaged(damage))


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: delete(f, "labels"),
        lambda f: delete(f, "features"),
        lambda f: f.attrs.__delitem__("grid"),
        lambda f: f.attrs.__setitem__("spec", as_text("{")),
        lambda f: set_spec(f, colour="blue"),
        lambda f: set_spec(f, precision="float8"),
    ],
    ids=["no labels", "no features", "no grid", "spec that is no JSON", "spec with another field", "spec out of range"],
)
def test_content_that_is_missing_or_no_sense(
    damaged: Callable[[Callable[[h5py.File], None]], Path], damage: Callable[[h5py.File], None]
) -> None:
    with pytest.raises(StoreError, match=r"features\.h5' is damaged.*; extract it again with --overwrite\."):
        FeatureStore(damaged(damage))


def test_summary_counts(fake_store: Path) -> None:
    with FeatureStore(fake_store) as store:
        summary = json.loads(json.dumps(store.summary()))
    assert summary["rows"] == 40
    assert summary["dims"] == 48
    assert summary["grid"] == [4, 4, 3]
    assert summary["class_counts"] == {"cat": 20, "dog": 20}
    assert summary["unlabelled"] == summary["skipped"] == 0
