"""What cannot be opened is not called damaged, and nobody is told to delete it."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ffe import verify
from ffe.backbones.catalog import find
from ffe.backbones.keras_build import _load_weights
from ffe.backbones.trained import find_in_model
from ffe.backbones.weights import resolve
from ffe.base.feature_layout import FeatureLayout
from ffe.base.file_access import unopened
from ffe.base.output_file import check_output as check_report
from ffe.bundle.build import check_place
from ffe.bundle.io import Bundle
from ffe.errors import BundleError, FfeError, ReportError, SourceError, StoreError, StoreInUseError, WeightsError
from ffe.extraction.request import check_output
from ffe.images.csv_list import read_list
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec
from ffe.store.journal import Journal
from ffe.store.journal_folder import journal_folder, lock_output
from ffe.store.reader import FeatureStore

NO_LOCKS = (errno.ENOLCK, errno.EROFS, errno.EOPNOTSUPP, errno.EIO)


@pytest.mark.parametrize("number", NO_LOCKS)
def test_a_file_is_read_without_locks_where_the_disk_has_none(
    fake_store: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    opened = h5py.File

    def no_locks(*arguments: Any, locking: bool | None = None, **options: Any) -> h5py.File:
        if locking is not False:
            raise OSError(number, f"Unable to synchronously open file (unable to lock file, errno = {number})")
        return opened(*arguments, locking=locking, **options)

    monkeypatch.setattr(h5py, "File", no_locks)
    assert verify(fake_store).ok


def test_a_file_that_is_open_without_a_lock_is_opened_again(fake_store: Path) -> None:
    with h5py.File(fake_store, locking=False), FeatureStore(fake_store) as store:
        assert len(store) == 40


@pytest.mark.parametrize("number", NO_LOCKS)
def test_nothing_is_written_where_the_disk_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def no_locks(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", no_locks)
    output = tmp_path / "features.h5"
    with pytest.raises(StoreError, match=rf"has no locks \({os.strerror(number)}\).*; choose an output on another disk\."):
        lock_output(journal_folder(output), output)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "help_"),
    [
        (errno.EIO, "the disk or the connection to it fails; look after it, or copy the file, and run this again"),
        (errno.EMFILE, "raise the limit of open files (ulimit -n), and run this again"),
        (errno.ESTALE, "the network disk has lost it; mount it again, and run this again"),
        (errno.EACCES, "allow it (chmod), and run this again"),
        (errno.ENXIO, "mend that, and run this again"),
    ],
)
@pytest.mark.parametrize(("name", "kind"), [("features.h5", FeatureStore), ("model.ffe", Bundle)])
def test_what_cannot_be_read_is_said_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, help_: str, name: str, kind: Any
) -> None:
    path = tmp_path / name
    path.write_bytes(b"healthy")

    def fail(self: Path, *arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "open", fail)
    sentence = f"'{path}' cannot be opened ({os.strerror(number)}); {help_}."
    with pytest.raises(StoreInUseError if kind is FeatureStore else BundleError, match=f"^{re.escape(sentence)}$"):
        kind(path)


def test_hdf5_that_fails_to_read_is_not_called_damaged(fake_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise OSError(errno.EIO, "Unable to synchronously open file (file read failed)")

    monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(StoreInUseError, match=r"cannot be opened \(Input/output error\)"):
        verify(fake_store)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize(("name", "kind", "error"), [("f.h5", FeatureStore, StoreError), ("m.ffe", Bundle, BundleError)])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str, kind: Any, error: type[Exception]) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(error, match=rf"{name}' cannot be read: it is a pipe or a device, not a file; give a file\."):
        kind(tmp_path / name)


def test_a_model_that_is_empty_or_holds_features(fake_store: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.ffe"
    model.touch()
    with pytest.raises(
        BundleError, match=r"is empty; make the model again with 'ffe tune FEATURES\.h5 -o .*model\.ffe --overwrite'\."
    ):
        Bundle(model)
    shutil.copy(fake_store, model)
    with pytest.raises(
        BundleError, match=r"is a feature file or another HDF5 file, not a model; give a \.ffe file that 'ffe tune' wrote\."
    ):
        Bundle(model)


def test_a_photo_is_no_damaged_feature_file(pictures: Path, tmp_path: Path) -> None:
    photo = next(pictures.rglob("*.png"))
    sentence = f"'{photo}' is no feature file and no model; give a file that ffe wrote."
    with pytest.raises(StoreError, match=f"^{re.escape(sentence)}$"):
        verify(photo)
    (tmp_path / "features.h5").write_bytes(photo.read_bytes())
    assert not verify(tmp_path / "features.h5").ok


def test_an_error_without_a_number_keeps_its_words() -> None:
    assert unopened(Path("x"), OSError("odd")) == "'x' cannot be opened (odd); mend that, and run this again."


def denied(monkeypatch: pytest.MonkeyPatch, path: Path, number: int = errno.EIO) -> str:
    """Let a file fail when it is opened; return the beginning of what is to be said of it."""
    real = io.open

    def fails(file: Any, *arguments: Any, **options: Any) -> Any:
        if not isinstance(file, int) and os.fspath(file) == str(path):
            raise OSError(number, os.strerror(number), str(file))
        return real(file, *arguments, **options)

    monkeypatch.setattr(io, "open", fails)
    return re.escape(f"'{path}' cannot be opened ({os.strerror(number)}); ")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_lists_weights_models_and_reports_that_cannot_be_opened(
    tmp_path: Path, fake_bundle: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "model.ffe"
    shutil.copy(fake_bundle, path)
    features = path.with_suffix(".h5")
    os.link(path, features)
    text = denied(monkeypatch, path, number)
    uses: tuple[tuple[type[FfeError], Callable[[], object]], ...] = (
        (SourceError, lambda: read_list(path)),
        (WeightsError, lambda: resolve(find("vgg19"), (32, 32), str(path))),
        (WeightsError, lambda: find_in_model(path)),
        (BundleError, lambda: check_place(path, overwrite=True)),
        (ReportError, lambda: check_report(path, "picture", mark=b"x")),
    )
    for error, use in uses:
        with pytest.raises(error, match=text):
            use()
    with pytest.raises(StoreError, match=denied(monkeypatch, features, number)):
        check_output(features, overwrite=True)


def test_an_unfinished_run_that_cannot_be_read_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, spec = (
        tmp_path / "features.h5",
        ExtractSpec(BackboneSpec("fake", "random", "0" * 64), PreprocessSpec((32, 32), "none")),
    )
    with contextlib.closing(Journal(output, spec)) as journal:
        journal.append(["0" * 64], [np.ones(4, np.float32)], FeatureLayout.of_shape((1, 1, 4)))
        journal.commit()
    draft = journal_folder(output) / "draft"
    with monkeypatch.context() as patched, pytest.raises(StoreError, match=denied(patched, draft)):
        Journal(output, spec)
    with contextlib.closing(Journal(output, spec)) as journal:
        assert len(journal) == 1


def test_a_model_whose_end_cannot_be_read_is_not_called_another_file(fake_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr("ffe.base.file_access.is_zip", fail)
    with pytest.raises(BundleError, match=r"cannot be opened \(Input/output error\)"):
        Bundle(fake_bundle)


@pytest.mark.parametrize("number", NO_LOCKS)
def test_weights_are_read_where_the_disk_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path, real = tmp_path / "w.weights.h5", h5py.File.__init__
    with h5py.File(path, "w") as file:
        file["x"] = 1

    class Model:
        def load_weights(self, name: str) -> None:
            with h5py.File(name, "r") as file:
                self.read = int(file["x"][()])

    def no_locks(self: h5py.File, *arguments: Any, locking: bool | None = None, **options: Any) -> None:
        if locking is not False and isinstance(arguments[0], str):
            raise OSError(number, f"Unable to synchronously open file (unable to lock file, errno = {number})")
        real(self, *arguments, locking=locking, **options)

    monkeypatch.setattr(h5py.File, "__init__", no_locks)
    model: Any = Model()
    _load_weights(model, path)
    assert model.read == 1
