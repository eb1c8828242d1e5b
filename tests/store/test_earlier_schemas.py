"""Files as earlier versions wrote them: read as they are, never misread, and brought up to date on request."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from feature_files import assert_same_file

from ffe.base.digests import canonical_json
from ffe.cli import cli
from ffe.commands.pack import pack
from ffe.commands.verify import verify
from ffe.errors import StoreError
from ffe.extraction.run import extract
from ffe.specs import spec_digest
from ffe.store.checksums import read_tables, tables_digest
from ffe.store.reader import FeatureStore

TEXT = h5py.string_dtype("utf-8")
SKIPPED = [("bäd.png", "broken", "its header is damaged")]


@pytest.fixture(params=["1", "2 without fingerprints", "2"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def old(kind: str, fake_store: Path, tmp_path: Path) -> Path:
    """The drawn pictures in a file of schema 1 or 2, written by h5py as those versions did."""
    path = tmp_path / "old.h5"
    with FeatureStore(fake_store) as new, h5py.File(path, "w", libver="v110") as file:
        file.attrs["ffe_schema"] = int(kind[0])
        file.attrs["ffe_version"] = "0.1.0"
        file.attrs["spec"] = canonical_json(new.spec.to_json()).decode()
        file.attrs["spec_digest"] = spec_digest(new.spec)
        file.attrs["class_names"] = json.dumps(list(new.class_names))
        file.attrs["grid"] = np.asarray(new.grid, np.int64)
        file.attrs["source"] = new.source
        chunks = (7, new.dims)
        file.create_dataset("features", (40, new.dims), np.float32, chunks=chunks, fillvalue=np.nan)[()] = new.features()
        file["data"] = h5py.SoftLink("/features")
        file["labels"], file["view"] = new.labels, new.views
        columns = {"paths": new.paths, "sha256": new.sha256, "split": new.split}
        if kind == "2":
            file["phash"] = new.phash
            columns["group"] = tuple(f"g{i % 3}" for i in range(40))
        for name, values in columns.items():
            file.create_dataset(name, (40,), TEXT, data=list(values))
        skipped = np.dtype([("path", TEXT), ("reason", TEXT), ("message", TEXT)])
        file.create_dataset("skipped", data=np.asarray(SKIPPED, skipped), dtype=skipped)
    return path


def test_every_column_is_what_was_written(old: Path, kind: str, fake_store: Path) -> None:
    with FeatureStore(old) as store, FeatureStore(fake_store) as new:
        assert store.schema == int(kind[0])
        assert (store.spec, store.grid, store.class_names) == (new.spec, new.grid, new.class_names)
        assert (store.paths, store.sha256, store.split) == (new.paths, new.sha256, new.split)
        assert store.labels.tolist() == new.labels.tolist()
        np.testing.assert_array_equal(store.features(), new.features())
        np.testing.assert_array_equal(np.concatenate([x for x, _ in store.batches(9)]), new.features())
        assert store.phash.dtype == np.uint64
        assert store.phash.tolist() == (new.phash.tolist() if kind == "2" else [0] * 40)
        assert store.group == (tuple(f"g{i % 3}" for i in range(40)) if kind == "2" else ("",) * 40)
        assert [(s.path, s.reason, s.message) for s in store.skipped] == SKIPPED
        assert (store.crc32, store.tables_sha256, store.sources) == (None, None, (new.source,))
        assert store.summary()["checksums"] is False


def test_verify_says_that_there_are_no_checksums(old: Path, kind: str) -> None:
    found = verify(old, recompute=3)
    assert (found.ok, found.checksums, found.schema, found.recomputed) == (True, False, int(kind[0]), 3)
    assert found.notes == (
        f"the file has schema {kind[0]}, and with it no checksums: a damaged feature shows only where it is no number; "
        f"extract again, or 'ffe pack {old} -o NEW.h5', to add them",
    )
    result = CliRunner().invoke(cli, ["verify", str(old)])
    assert (result.exit_code, result.stdout) == (
        0,
        f"{old}: nothing wrong to be seen, but it has no checksums; 40 rows checked\n",
    )
    assert result.stderr == f"note: {found.notes[0]}\n"


def test_what_no_checksum_is_needed_for_is_found(old: Path) -> None:
    with h5py.File(old, "r+") as file:
        file["features"][5, 3] = np.nan
        name = file["paths"].asstr()[5]
    (problem,) = verify(old).problems
    assert problem.text() == f"row 5, '{name}': its features hold NaN or infinity"


def test_pack_adds_checksums(old: Path, kind: str, fake_store: Path, tmp_path: Path) -> None:
    pack([old], tmp_path / "new.h5")
    found = verify(tmp_path / "new.h5")
    assert (found.ok, found.checksums, found.notes) == (True, True, ())
    with FeatureStore(tmp_path / "new.h5") as packed, FeatureStore(old) as before:
        assert packed.rows() == before.rows()
        assert packed.skipped == before.skipped
        np.testing.assert_array_equal(packed.features(), before.features())


def test_extracting_again_adds_checksums_and_computes_nothing(
    old: Path, kind: str, pictures: Path, fake_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ffe.extraction.runners.local.open_engine", lambda *rest, **more: pytest.fail("something was computed"))
    assert extract(pictures, old, backbone="fake").computed == 0
    if kind == "2":  # the other files do not know the fingerprints, and nothing is decoded for them
        assert_same_file(old, fake_store)
    assert verify(old).ok


def test_a_virtual_file_needs_checksums(old: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        pack([old], tmp_path / "all.h5", virtual=True)
    assert str(caught.value) == (
        f"'{old}' has no checksums, so a virtual file could not tell it from another; add them with 'ffe pack {old} -o NEW.h5'."
    )


def test_schema_3_whose_attributes_have_any_length(fake_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.h5"
    shutil.copyfile(fake_store, path)
    with h5py.File(path, "r+") as file:
        for name, value in dict(file.attrs).items():
            if isinstance(value, bytes):
                file.attrs[name] = value.decode()
        file.attrs["ffe_schema"] = 3
        file.attrs["tables_sha256"] = tables_digest(file, read_tables(file))
        assert file.attrs.get_id("spec").dtype.hasobject
    with FeatureStore(path) as store, FeatureStore(fake_store) as new:
        assert store.schema == 3
        assert (store.spec, store.class_names, store.source, store.judged_by) == (
            *(new.spec, new.class_names, new.source, new.judged_by),
        )
        assert store.crc32 is not None
        np.testing.assert_array_equal(store.features(), new.features())
    with h5py.File(path, "r+") as file:
        file.attrs["ffe_schema"] = 4
    with pytest.raises(StoreError, match="its attribute 'ffe_version' is not stored as ffe stores it"):
        FeatureStore(path)
