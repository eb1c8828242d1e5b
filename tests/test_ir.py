"""The IR model as a value and as a file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from ffe.ir import GRAPH, RECORD, WEIGHTS, IrModel, map_member, read_ir, write_ir

MODEL = IrModel(b"<net/>", np.arange(256, dtype=np.uint8), {"backbone": "vgg19", "fidelity": {"images": 3}})


def test_there_and_back(tmp_path: Path) -> None:
    write_ir(tmp_path / "m.zip", MODEL)
    again = read_ir(tmp_path / "m.zip")
    assert again.xml == MODEL.xml
    np.testing.assert_array_equal(again.weights, MODEL.weights)
    assert again.record == MODEL.record
    assert again.sha256 == MODEL.sha256


def test_equal_models_have_equal_files(tmp_path: Path) -> None:
    write_ir(tmp_path / "a.zip", MODEL)
    write_ir(tmp_path / "b.zip", IrModel(MODEL.xml, MODEL.weights.copy(), dict(MODEL.record)))
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_the_digest_is_of_graph_and_weights_alone() -> None:
    assert IrModel(MODEL.xml, MODEL.weights).sha256 == MODEL.sha256
    assert IrModel(b"<other/>", MODEL.weights).sha256 != MODEL.sha256
    assert IrModel(MODEL.xml, MODEL.weights[::-1].copy()).sha256 != MODEL.sha256


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_mapped(tmp_path: Path, compression: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("first", b"x" * 77)
        archive.writestr("second", bytes(range(200)))
        archive.writestr("empty", b"")
    before = path.read_bytes()
    mapped = map_member(path, "second")
    assert mapped.tobytes() == bytes(range(200))
    assert len(map_member(path, "empty")) == 0
    if compression == zipfile.ZIP_STORED:
        mapped[0] = 9  # a private copy: the file stays as it is
    assert path.read_bytes() == before
    with pytest.raises(KeyError):
        map_member(path, "third")


@pytest.mark.parametrize("missing", [GRAPH, WEIGHTS, RECORD])
def test_a_file_that_lacks_a_member_is_refused(tmp_path: Path, missing: str) -> None:
    write_ir(tmp_path / "m.zip", MODEL)
    with zipfile.ZipFile(tmp_path / "m.zip") as whole, zipfile.ZipFile(tmp_path / "n.zip", "w") as part:
        for name in whole.namelist():
            if name != missing:
                part.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match="it is damaged"):
        read_ir(tmp_path / "n.zip")


@pytest.mark.parametrize("record", [b"[]", b"{}", b"no json", b'{"sha256": "0"}'])
def test_a_record_of_another_kind_is_refused(tmp_path: Path, record: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "n.zip", "w") as archive:
        archive.writestr(RECORD, record)
        archive.writestr(GRAPH, MODEL.xml)
        archive.writestr(WEIGHTS, MODEL.weights.tobytes())
    with pytest.raises(ValueError, match=r"it is damaged|its content was changed|Expecting value"):
        read_ir(tmp_path / "n.zip")
