"""Converted models are kept, found again, and made again when they are damaged."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ffe.base.openvino_ir import IrModel
from ffe.engines.model_cache import cache_folder, cached, cached_or_made, model_key
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec

MODEL = IrModel(b"<net/>", np.arange(100, dtype=np.uint8), {"backbone": "fake"})
SPEC = ExtractSpec(BackboneSpec("vgg19", "file", "ab" * 32), PreprocessSpec((150, 150), "caffe"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(logging.getLogger("ffe"), "propagate", True)
    return tmp_path / "cache" / "models"


def make() -> IrModel:
    return MODEL


def forbidden() -> IrModel:
    raise AssertionError("it was there already")


def test_made_once_and_found_again(folder: Path) -> None:
    assert cached("a.zip") is None
    assert cached_or_made("a.zip", make) is MODEL
    again = cached_or_made("a.zip", forbidden)
    assert again.sha256 == MODEL.sha256
    assert again.record == MODEL.record
    assert [file.name for file in folder.iterdir()] == ["a.zip"]


def test_where_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == folder
    monkeypatch.delenv("FFE_CACHE_DIR")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("/home/me/.cache") / name)
    assert cache_folder() == Path("/home/me/.cache/ffe/models")


@pytest.mark.parametrize("damage", ["cut", "flipped", "text"])
def test_a_damaged_model_is_made_again_and_said(folder: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    cached_or_made("a.zip", make)
    path = folder / "a.zip"
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[data.index(MODEL.weights.tobytes()) + 5] ^= 1
    path.write_bytes({"cut": bytes(data[: len(data) // 2]), "flipped": bytes(data), "text": b"hello"}[damage])
    assert cached_or_made("a.zip", make) is MODEL
    assert f"the cached model '{path}' cannot be used (" in caplog.text
    assert "and is made again" in caplog.text
    caplog.clear()
    assert cached_or_made("a.zip", forbidden).sha256 == MODEL.sha256
    assert not caplog.records


def test_a_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "file"))
    assert cached_or_made("a.zip", make) is MODEL
    assert "the converted model cannot be kept in" in caplog.text
    assert "it is made again next time" in caplog.text


def test_a_write_that_fails_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", full)
    assert cached_or_made("a.zip", make) is MODEL
    assert list(folder.iterdir()) == []


def test_the_key_is_of_what_decides_the_model() -> None:
    key = model_key(SPEC)
    assert key == model_key(replace(SPEC, dtype="float16"))
    assert key == model_key(replace(SPEC, precision="int8", quantized_sha256="0" * 64))
    assert key == model_key(replace(SPEC, preprocess=replace(SPEC.preprocess, decode="fast")))
    others = [
        replace(SPEC, preprocess=replace(SPEC.preprocess, size=(150, 151))),
        replace(SPEC, preprocess=replace(SPEC.preprocess, mode="tf")),
        replace(SPEC, backbone=replace(SPEC.backbone, layer="block1_pool")),
        replace(SPEC, backbone=replace(SPEC.backbone, weights_sha256="cd" * 32)),
        replace(SPEC, backbone=replace(SPEC.backbone, name="vgg16")),
    ]
    assert len({key, *(model_key(spec) for spec in others)}) == 1 + len(others)
