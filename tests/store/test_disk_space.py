"""How much disk a feature file takes, and what is said when there is not so much."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from ffe.base import system
from ffe.base.feature_layout import FeatureLayout
from ffe.base.openvino_ir import IrModel
from ffe.base.system import reserve
from ffe.errors import DiskFullError
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec, StoredDtype
from ffe.store import disk_space, writer
from ffe.store.disk_space import explain_full_disk, file_bytes, model_bytes, text_bytes
from ffe.store.schema import Row, Skipped
from ffe.store.writer import write_store


@pytest.mark.parametrize("rows", [1, 40, 3000])
@pytest.mark.parametrize(("dims", "dtype"), [(1, "float32"), (48, "float16"), (1000, "float32"), (50_176, "float16")])
@pytest.mark.parametrize("length", [3, 2000])
def test_a_file_is_no_larger_than_was_said_and_not_much_smaller(
    tmp_path: Path, rows: int, dims: int, dtype: StoredDtype, length: int
) -> None:
    if rows * dims > 10_000_000:
        rows = 100
    spec = ExtractSpec(BackboneSpec("fake", "random", "0" * 64), PreprocessSpec((32, 32), "none"), dtype=dtype)
    table = [Row(f"{i:0{length}d}", f"{i:064x}", 0, "train", group="g" * length) for i in range(rows)]
    skipped = [Skipped(f"s{i:0{length}d}", "not-an-image", "ö" * length) for i in range(rows // 10)]
    model = IrModel(b"<net/>" * 1000, np.zeros(100_000, np.uint8), {"backbone": "fake"})
    row = np.ones(dims, dtype)
    path = tmp_path / "f.h5"
    write_store(
        path,
        spec=spec,
        layout=FeatureLayout.of_shape((1, 1, dims)),
        class_names=["a"],
        rows=table,
        features=lambda _: row,
        skipped=skipped,
        quantized=model,
    )
    said = file_bytes(rows, dims, row.itemsize, text=text_bytes(table, skipped), other=model_bytes(model))
    taken = path.stat().st_size
    assert taken <= said <= 2 * taken + (300 << 10)


def test_what_was_reserved_and_not_needed_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    reserve(path, 8 << 20)
    assert path.read_bytes() == b"12345"
    os.truncate(path, 5)
    assert path.stat().st_blocks * 512 < 1 << 20


def test_more_than_there_is_cannot_be_reserved(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(OSError, match=str(path)) as caught:
        reserve(path, 1 << 60)
    assert caught.value.errno in {errno.ENOSPC, errno.EFBIG}
    assert path.stat().st_size == 0


def test_where_nothing_can_be_reserved_the_free_space_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.touch()
    monkeypatch.setattr(system, "_fallocate", lambda descriptor, size: errno.EOPNOTSUPP)
    monkeypatch.setattr(system, "free_disk", lambda folder: 1000)
    reserve(path, 1000)
    with pytest.raises(OSError, match="No space left on device"):
        reserve(path, 1001)


def test_what_a_file_has_already_is_not_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1" * (1 << 20))
    os.sync()
    monkeypatch.setattr(system, "_fallocate", lambda descriptor, size: errno.EOPNOTSUPP)
    monkeypatch.setattr(system, "free_disk", lambda folder: 1000)
    reserve(path, (1 << 20) + 1000)
    with pytest.raises(OSError, match="No space left on device"):
        reserve(path, (1 << 20) + 100_000)


def test_hdf5_writes_nothing_where_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take the process with it, see ``ffe.base.system.reserve``."""
    monkeypatch.setattr(system, "_fallocate", lambda descriptor, size: errno.ENOSPC)
    monkeypatch.setattr(writer, "create_plain", lambda *rest: pytest.fail("HDF5 must not be asked"))
    spec = ExtractSpec(BackboneSpec("fake", "random", "0" * 64), PreprocessSpec((32, 32), "none"))
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_store(
            tmp_path / "f.h5",
            spec=spec,
            layout=FeatureLayout.of_shape((1, 1, 1)),
            class_names=[],
            rows=[Row("a", "0" * 64, 0, "")],
            features=lambda _: np.zeros(1),
        )
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_how_much_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(disk_space, "free_disk", lambda folder: 1 << 20)
    sentence = (
        r"^The disk of '.*f\.h5' is full: about 2\.5 MiB are missing; make room and run the same command again, "
        r"it goes on with what was saved\.$"
    )
    with pytest.raises(DiskFullError, match=sentence), explain_full_disk(tmp_path / "f.h5", lambda: 7 << 19):
        raise OSError(number, os.strerror(number))


def test_a_quota_hides_what_is_missing(tmp_path: Path) -> None:
    sentence = r"is full: your quota, or its number of files, is used up; make room and run the same command again"
    with pytest.raises(DiskFullError, match=sentence), explain_full_disk(tmp_path / "f.h5", lambda: 0):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="denied"), explain_full_disk(tmp_path / "f.h5", lambda: 0):
        raise OSError(errno.ENOTCONN, "denied")
