"""Which engine runs what, and what is said where it cannot."""

from __future__ import annotations

import importlib
import logging
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ffe.engines.factory as choose
from ffe.backbones.weights import random_weights
from ffe.base.openvino_ir import IrModel
from ffe.errors import EngineError
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec, WeightsKind

SPEC = ExtractSpec(BackboneSpec("mobilenet_0.25", "random", random_weights().sha256), PreprocessSpec((32, 32), "tf"))
IR = IrModel(b"<net/>", np.zeros(1, np.uint8))


class _Opened:
    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


class _OnKeras(_Opened):
    pass


class _OnOpenVino(_Opened):
    size = SPEC.preprocess.size


@pytest.fixture
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines that only say who they are, on a machine without a GPU."""
    monkeypatch.setattr("ffe.engines.keras.KerasEngine", _OnKeras)
    monkeypatch.setattr("ffe.engines.fastest.OpenVinoEngine", _OnOpenVino)  # first: it is imported here, and takes what is there
    monkeypatch.setattr("ffe.engines.openvino.OpenVinoEngine", _OnOpenVino)
    monkeypatch.setattr("ffe.backbones.keras_build.build", lambda *arguments: "built")
    monkeypatch.setattr("ffe.backbones.safe_load.load_model", lambda file: f"loaded {file}")
    monkeypatch.setattr(choose, "float_model", lambda *arguments: IR)
    monkeypatch.setattr(choose, "may_have_gpu", lambda: False)
    monkeypatch.setattr(logging.getLogger("ffe"), "propagate", True)


@pytest.mark.parametrize(
    ("name", "precision", "installed", "sentence"),
    [
        ("abacus", "float32", True, "There is no engine 'abacus'; choose one of auto, keras, openvino, torch, winograd."),
        (
            "openvino",
            "float32",
            False,
            "The engine openvino needs the package openvino, which is not installed; install it with 'pip install openvino', "
            "or use --engine keras and --precision float32.",
        ),
        (
            "auto",
            "int8",
            False,
            "The precision int8 needs the packages openvino and nncf, which are not installed; install them with "
            "'pip install openvino nncf', or use --engine keras and --precision float32.",
        ),
        ("keras", "int8", True, "The engine keras has no precision int8; use --engine openvino, or --precision float32."),
        (
            "openvino",
            "mixed_float16",
            True,
            "The engine openvino has no precision mixed_float16; use --engine keras, or --precision float32.",
        ),
    ],
)
def test_what_cannot_be_is_said(
    monkeypatch: pytest.MonkeyPatch, name: str, precision: Any, installed: bool, sentence: str
) -> None:
    monkeypatch.setattr(choose, "has_openvino", lambda: installed)
    with pytest.raises(EngineError) as caught:
        choose.check_engine(name, precision)
    assert str(caught.value) == sentence


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize(
    ("name", "precision", "installed", "gpu", "expected"),
    [
        ("auto", "float32", True, False, _OnOpenVino),
        ("auto", "float32", True, True, _OnKeras),
        ("auto", "float32", False, False, _OnKeras),
        ("auto", "mixed_float16", True, False, _OnKeras),
        ("auto", "int8", True, True, _OnOpenVino),
        ("keras", "float32", True, False, _OnKeras),
        ("openvino", "float32", True, True, _OnOpenVino),
    ],
)
def test_who_runs_what(
    monkeypatch: pytest.MonkeyPatch, name: str, precision: Any, installed: bool, gpu: bool, expected: type
) -> None:
    monkeypatch.setattr(choose, "has_openvino", lambda: installed)
    monkeypatch.setattr(choose, "_has_gpu", lambda: gpu)
    spec = replace(SPEC, precision=precision)
    engine = choose.open_engine(spec, random_weights(), name=name, quantized=IR if precision == "int8" else None)
    assert isinstance(engine, expected)
    assert engine.arguments[-1] == (8 if expected is _OnOpenVino else 32)


@pytest.mark.usefixtures("doubles")
def test_a_model_that_cannot_be_converted_runs_on_keras_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*arguments: object) -> IrModel:
        raise EngineError("OpenVINO converts from TensorFlow, but Keras runs on jax.")

    monkeypatch.setattr(choose, "float_model", fails)
    assert isinstance(choose.open_engine(SPEC, random_weights()), _OnKeras)
    assert "OpenVINO converts from TensorFlow, but Keras runs on jax. Going on with the engine keras." in caplog.text
    with pytest.raises(EngineError, match="OpenVINO converts from TensorFlow"):
        choose.open_engine(SPEC, random_weights(), name="openvino")


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize(
    ("name", "ir", "file", "expected"),
    [
        ("auto", IR, Path("b.keras"), _OnOpenVino),
        ("auto", None, Path("b.keras"), _OnKeras),
        ("keras", IR, Path("b.keras"), _OnKeras),
        ("openvino", IR, None, _OnOpenVino),
    ],
)
def test_who_runs_a_saved_backbone(name: str, ir: IrModel | None, file: Path | None, expected: type) -> None:
    engine = choose.open_saved_engine(SPEC, ir=ir, keras_file=lambda: nullcontext(file), name=name)
    assert isinstance(engine, expected)


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize(("name", "ir", "file"), [("keras", IR, None), ("openvino", None, Path("b.keras")), ("auto", None, None)])
def test_a_saved_backbone_of_another_form_is_refused(name: str, ir: IrModel | None, file: Path | None) -> None:
    with pytest.raises(EngineError, match=r"The model holds no backbone that the engine \w+ can run; use --engine auto\."):
        choose.open_saved_engine(SPEC, ir=ir, keras_file=lambda: nullcontext(file), name=name)


def test_without_the_device_of_a_driver_keras_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "may_have_gpu", lambda: False)
    monkeypatch.setitem(__import__("sys").modules, "keras", None)  # an import would fail
    assert not choose._has_gpu()


@pytest.mark.parametrize("gpus", [[], ["gpu:0"]])
def test_a_driver_without_a_usable_gpu_counts_as_none(monkeypatch: pytest.MonkeyPatch, gpus: list[str]) -> None:
    import keras

    monkeypatch.setattr(choose, "may_have_gpu", lambda: True)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: gpus or ["cpu:0"])
    assert choose._has_gpu() == bool(gpus)


@pytest.mark.usefixtures("doubles")
def test_an_openvino_that_does_not_load_is_a_sentence_and_auto_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    monkeypatch.setattr(choose, "has_openvino", lambda: True)
    assert isinstance(choose.open_engine(SPEC, random_weights()), _OnKeras)
    assert "OpenVINO does not work on this machine (ModuleNotFoundError: " in caplog.text
    assert "--engine torch for one of timm or Hugging Face. Going on with the engine keras." in caplog.text


def test_a_backbone_that_openvino_does_not_know_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from ffe.base.openvino_ir import import_openvino
    from ffe.engines.openvino_convert import convert_here, quantize

    def fails(*rest: object, **options: object) -> None:
        raise RuntimeError("no such\nlayer")

    monkeypatch.setattr(import_openvino(), "convert_model", fails)
    with pytest.raises(EngineError) as caught:
        convert_here(SPEC, random_weights())
    assert str(caught.value) == (
        "OpenVINO cannot convert the backbone 'mobilenet_0.25' (RuntimeError: no such layer); use --engine keras."
    )
    monkeypatch.undo()
    import nncf

    model = convert_here(SPEC, random_weights())
    monkeypatch.setattr(nncf, "quantize", fails)
    with pytest.raises(EngineError, match=r"OpenVINO cannot quantise the backbone .* use --precision float32\."):
        quantize(model, np.zeros((1, 32, 32, 3), np.uint8), {})


def test_conversion_needs_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Keras runs on another backend, and its OpenVINO backend does not do it."""
    import keras

    from ffe.engines.openvino_convert import convert_here

    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    sentence = (
        "OpenVINO converts from TensorFlow, but Keras runs on jax; "
        "set KERAS_BACKEND=tensorflow for the first run, or use --engine keras."
    )
    with pytest.raises(EngineError) as caught:
        convert_here(SPEC, random_weights())
    assert str(caught.value) == sentence


def test_what_keras_on_openvino_cannot_do_goes_through_tensorflow_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ffe.engines import openvino_convert

    def fails(*arguments: object) -> IrModel:
        raise NotImplementedError("no such\nlayer")

    def found(name: str) -> object:
        return None if name == "tensorflow" else name

    importlib.import_module("keras")
    monkeypatch.setattr(logging.getLogger("ffe"), "propagate", True)
    monkeypatch.setattr(openvino_convert, "apart", fails)
    monkeypatch.setattr(openvino_convert, "convert_here", lambda spec, weights: IR)
    assert openvino_convert.convert(SPEC, random_weights()) is IR
    sentence = "OpenVINO cannot convert the backbone 'mobilenet_0.25' (NotImplementedError: no such layer); use --engine keras."
    assert set(caplog.messages) == {f"{sentence} Going on through TensorFlow."}
    monkeypatch.setattr(openvino_convert, "find_spec", found)
    with pytest.raises(EngineError) as caught:
        openvino_convert.convert(SPEC, random_weights())
    assert str(caught.value) == sentence
    caplog.clear()
    for changes in ({"name": "efficientnetv2b0"}, {"weights": "finetuned"}):  # by TensorFlow at once: it is loaded here
        other = replace(SPEC, backbone=replace(SPEC.backbone, **changes))
        assert openvino_convert.convert(other, random_weights()) is IR
    assert caplog.messages == []


def test_quantisation_needs_nncf(monkeypatch: pytest.MonkeyPatch) -> None:
    from ffe.engines.openvino_convert import quantize

    monkeypatch.setitem(__import__("sys").modules, "nncf", None)
    with pytest.raises(
        EngineError, match=r"needs the package nncf, which is not installed; install it with 'pip install nncf', or use --prec"
    ):
        quantize(IR, np.zeros((1, 2, 2, 3), np.uint8), {})


@pytest.mark.parametrize(
    ("weights", "layer", "said"),
    [
        ("random", None, "converting the backbone mobilenet_0.25, once; it is kept for the next time"),
        (
            "file",
            "conv_pw_11_relu",
            "converting the frozen part of mobilenet_0.25 up to conv_pw_11_relu, once; it is kept for the next time",
        ),
        ("finetuned", None, "converting the trained network mobilenet_0.25"),
        ("scratch", "pool3", "converting the frozen part of the trained network mobilenet_0.25 up to pool3"),
    ],
)
def test_what_is_converted_is_said(
    weights: WeightsKind, layer: str | None, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(choose, "cached_or_made", lambda name, make: make())
    monkeypatch.setattr("ffe.engines.openvino_convert.convert", lambda spec, weights: IR)
    with caplog.at_level(logging.INFO, "ffe"):
        choose.float_model(replace(SPEC, backbone=replace(SPEC.backbone, weights=weights, layer=layer)), random_weights())
    assert caplog.messages == [said]
