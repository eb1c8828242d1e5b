"""The IR model as a value and as a file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from ffe.base.openvino_ir import GRAPH, RECORD, WEIGHTS, IrModel, check_graph, map_member, read_ir, write_ir

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


def graph(layer: str, root: str = "<net>") -> IrModel:
    return IrModel(f"<?xml version='1.0'?>{root}<layers>{layer}</layers></net>".encode(), np.zeros(8, np.uint8))


SOUND = '<layer type="Const" version="opset1"><data element_type="f32" shape="2" offset="0" size="8"/></layer>'


def test_a_sound_graph_passes() -> None:
    check_graph(graph(SOUND))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (graph(SOUND, '<net xmlns="x">'), "its graph has names that ffe does not write"),
        (graph(f'<a:x xmlns:a="y">{SOUND}</a:x>'), "its graph has names that ffe does not write"),
        (graph(SOUND, "<!DOCTYPE net><net>"), "its graph is not the XML that ffe writes"),
        (graph("<layer>"), "its graph is damaged"),
        (graph(SOUND.replace("opset1", "extension")), "its graph has the operation 'Const', which ffe does not run"),
        (graph(SOUND.replace("Const", "Loop")), "its graph has the operation 'Loop', which ffe does not run"),
        (graph(SOUND.replace('offset="0"', 'offset="4"')), "its graph asks for constants that it does not hold"),
        (graph(SOUND.replace('offset="0"', 'offset="-1"')), "its graph asks for constants that it does not hold"),
        (graph(SOUND.replace('shape="2"', 'shape="3"')), "its graph has constants of another shape than their bytes"),
        (graph(SOUND.replace('shape="2"', 'shape="-2"')), "its graph has constants of another shape than their bytes"),
    ],
)
def test_a_graph_that_others_made(model: IrModel, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_graph(model)
