"""What cannot be opened is not called damaged, and nobody is told to delete it."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest

from ffe import verify
from ffe.bundle.io import Bundle
from ffe.errors import BundleError, StoreError, StoreInUseError
from ffe.opening import unopened
from ffe.store.partial import folder_of, locked
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


@pytest.mark.parametrize("number", NO_LOCKS)
def test_nothing_is_written_where_the_disk_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def no_locks(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("ffe.store.partial.fcntl.flock", no_locks)
    output = tmp_path / "features.h5"
    with pytest.raises(StoreError, match=rf"has no locks \({os.strerror(number)}\).*; choose an output on another disk\."):
        locked(folder_of(output), output)
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
    with pytest.raises(BundleError, match=r"is empty; make the model again with 'ffe tune FEATURES\.h5 -o .*model\.ffe'\."):
        Bundle(model)
    shutil.copy(fake_store, model)
    with pytest.raises(
        BundleError, match=r"is a feature file or another HDF5 file, not a model; give a \.ffe file that 'ffe tune' wrote\."
    ):
        Bundle(model)


def test_a_photo_is_no_damaged_feature_file(pictures: Path) -> None:
    photo = next(pictures.rglob("*.png"))
    (problem,) = verify(photo).problems
    assert problem.text() == f"'{photo}' is no feature file, or a damaged one; give a file that 'ffe extract' wrote."


def test_an_error_without_a_number_keeps_its_words() -> None:
    assert unopened(Path("x"), OSError("odd")) == "'x' cannot be opened (odd); mend that, and run this again."
