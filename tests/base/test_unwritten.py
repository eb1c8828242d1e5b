"""What cannot be written is said with its file, its disk, what was kept, and what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ffe.base.output_file import write_output
from ffe.bundle.io import Bundle
from ffe.commands.tune import tune
from ffe.errors import BundleError, FfeError, ReportError, StoreError
from ffe.store.disk_space import explain_full_disk

REASONS = {
    errno.ENOSPC: "the disk of '{folder}' is full; make room there, or choose another place.",
    errno.EDQUOT: "your share of the disk of '{folder}' is used up; make room there, or choose another place.",
    errno.EFBIG: "the disk of '{folder}', or a limit of yours (ulimit -f), takes no file so large; "
    "raise it, or choose another place.",
    errno.EROFS: "the disk of '{folder}' can only be read; mount it for writing, or choose another place.",
    errno.EACCES: "'{folder}' may not be written to; allow it (chmod), or choose another place.",
    errno.EIO: "the disk of '{folder}' or the connection to it fails; look after it, or choose another place.",
}


def _failing(monkeypatch: pytest.MonkeyPatch, where: str, number: int) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(where, fail)


@pytest.mark.parametrize("number", REASONS)
def test_pages_and_models(fake_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    model = tmp_path / "m.ffe"
    model.write_bytes(fake_bundle.read_bytes())
    before = model.read_bytes()
    reason = REASONS[number].format(folder=tmp_path)
    for what, file, error in (("report", "r.html", ReportError), ("model", "m.ffe", BundleError)):
        with monkeypatch.context() as patch:
            _failing(patch, "ffe.base.atomic.put_in_place" if what == "report" else "ffe.base.atomic.sync", number)
            with pytest.raises(FfeError) as raised:
                write_output(tmp_path / file, b"page") if what == "report" else Bundle(model).replace_splits([])
        assert type(raised.value) is error
        assert str(raised.value) == f"The {what} '{tmp_path / file}' cannot be written: {reason}"
    assert [path.name for path in tmp_path.iterdir()] == ["m.ffe"]
    assert model.read_bytes() == before


@pytest.mark.parametrize("file", [None, "f.h5.partial/draft"])
@pytest.mark.parametrize("number", [errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES])
def test_features(tmp_path: Path, number: int, file: str | None) -> None:
    with pytest.raises(StoreError) as raised, explain_full_disk(tmp_path / "f.h5", lambda: 0):
        raise OSError(number, os.strerror(number), None if file is None else str(tmp_path / file))
    reason = REASONS[number].format(folder=tmp_path)
    kept = "What was computed is kept: the same command goes on with it."
    assert str(raised.value) == f"The feature file '{tmp_path / 'f.h5'}' cannot be written: {reason} {kept}"


def test_an_error_of_another_file_is_not_taken_for_one_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), explain_full_disk(tmp_path / "f.h5", lambda: 0):
        raise OSError(errno.EACCES, "no", str(tmp_path / "photo.jpg"))


def test_a_model_that_is_copied(fake_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, "ffe.base.atomic.sync", errno.ENOSPC)
    with pytest.raises(BundleError) as raised:
        Bundle(fake_bundle).copy(tmp_path / "m.ffe")
    reason = REASONS[errno.ENOSPC].format(folder=tmp_path)
    assert str(raised.value) == f"The model '{tmp_path / 'm.ffe'}' cannot be written: {reason}"
    assert list(tmp_path.iterdir()) == []


def test_a_search_keeps_its_trials(fake_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        _failing(patch, "ffe.base.atomic.sync", errno.ENOSPC)
        with pytest.raises(BundleError) as raised:
            tune(fake_store, tmp_path / "m.ffe", heads="logistic", trials=2)
    assert str(raised.value).endswith(" The finished trials are kept: the same command goes on with them.")
    assert tune(fake_store, tmp_path / "m.ffe", heads="logistic", trials=2).known == 2
