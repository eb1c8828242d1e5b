"""Several layers from one pass, and tokens: engines keep the contract, and Keras's layers are those of one cut at a time."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ffe.backbones.keras_build import build, check_layer
from ffe.backbones.resolve import make_spec
from ffe.backbones.weights import random_weights
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.base.openvino_ir import IrModel, import_openvino
from ffe.engines.base import Engine
from ffe.engines.keras import KerasEngine
from ffe.engines.openvino import OpenVinoEngine
from ffe.engines.openvino_convert import convert, quantize, to_ir
from ffe.errors import BackboneError, EngineError
from ffe.images.preprocess import preprocess
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec
from ffe.testing import EngineContract

SIZE = (32, 64)
NAMES = ("conv_pw_6_relu", "conv_pw_2_relu", "conv_pw_11_relu")  # not in the order of the network
LAYOUT = FeatureLayout((Part(2, 4, 128), Part(8, 16, 32), Part(2, 4, 128)))


def spec_of(layer: str) -> ExtractSpec:
    return ExtractSpec(BackboneSpec("mobilenet_0.25", "random", random_weights().sha256, layer), PreprocessSpec(SIZE, "tf"))


SPEC = spec_of(",".join(NAMES))


@functools.cache
def single(name: str) -> Any:
    return build(spec_of(name), random_weights())


@functools.cache
def float_ir() -> IrModel:
    return convert(SPEC, random_weights())


@functools.cache
def openvino_engine(batch_size: int) -> OpenVinoEngine:
    return OpenVinoEngine(float_ir(), batch_size)


@functools.cache
def keras_engine(batch_size: int) -> KerasEngine:
    return KerasEngine(build(SPEC, random_weights()), SPEC, batch_size)


class _Layers(EngineContract):
    size = SIZE

    def spatial(self, images: np.ndarray) -> np.ndarray:
        """Each layer from a network that is cut there alone."""
        scaled = preprocess(images, "tf")
        each = [np.asarray(single(name)(scaled, training=False)) for name in NAMES]
        return np.concatenate([features.reshape(len(images), -1) for features in each], axis=1)


class TestLayersOnOpenVino(_Layers):
    def make(self, batch_size: int) -> Engine:
        return openvino_engine(batch_size)


class TestLayersOnKeras(_Layers):
    def make(self, batch_size: int) -> Engine:
        return keras_engine(batch_size)


def test_layouts_are_those_of_the_layers_as_they_are_named() -> None:
    assert openvino_engine(4).layout == keras_engine(4).layout == LAYOUT
    assert str(LAYOUT) == "3 layers: 2x4x128; 8x16x32; 2x4x128"


def test_int8_of_several_layers() -> None:
    rng = np.random.default_rng(7)
    model = quantize(float_ir(), rng.integers(0, 256, (12, *SIZE, 3), np.uint8), float_ir().record)
    engine, images = OpenVinoEngine(model, 4), rng.integers(0, 256, (4, *SIZE, 3), np.uint8)
    assert engine.layout == LAYOUT
    found, expected = engine.extract(images), openvino_engine(4).extract(images)
    for columns in LAYOUT.columns:
        a, b = found[:, columns].ravel(), expected[:, columns].ravel()
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.97


@functools.cache
def token_engine(batch_size: int) -> OpenVinoEngine:
    """The mean colour as a class token, the first pixel as a register, then a grid of mean colours: rows of (2 + 4) * 3."""
    ov = import_openvino()
    from openvino import opset13 as ops

    pixels = ops.parameter([-1, 8, 8, 3], ov.Type.u8)
    x = ops.convert(pixels, "f32")
    cls = ops.reduce_mean(x, np.array([1, 2]))
    register = ops.reshape(ops.slice(x, [0, 0], [1, 1], [1, 1], [1, 2]), np.array([0, 3]), special_zero=True)
    grid = ops.avg_pool(ops.transpose(x, [0, 3, 1, 2]), [4, 4], [0, 0], [0, 0], [4, 4], True)
    cells = ops.reshape(ops.transpose(grid, [0, 2, 3, 1]), np.array([0, 12]), special_zero=True)
    model = ov.Model([ops.concat([cls, register, cells], 1)], [pixels], "tokens")
    layout = FeatureLayout((Part(2, 2, 3, prefix=2),))
    return OpenVinoEngine(to_ir(model, {"layout": layout.to_json()}), batch_size)


class TestTokens(EngineContract):
    size = (8, 8)

    def make(self, batch_size: int) -> Engine:
        return token_engine(batch_size)

    def spatial(self, images: np.ndarray) -> np.ndarray:
        """Class token, register and cells, by numpy."""
        x = images.astype(np.float64)
        cells = x.reshape(len(x), 2, 4, 2, 4, 3).mean(axis=(2, 4)).reshape(len(x), 4, 3)
        return np.concatenate([x.mean(axis=(1, 2))[:, None], x[:, 0, 0][:, None], cells], axis=1)


def test_a_record_of_another_length_is_refused() -> None:
    model = replace_record(float_ir(), FeatureLayout((Part(2, 4, 128), Part(8, 16, 32))))
    with pytest.raises(EngineError, match=r"it gives 6,144 values, and its record says 5120\); make it again"):
        OpenVinoEngine(model, 4)


def replace_record(model: IrModel, layout: FeatureLayout) -> IrModel:
    return replace(model, record={**model.record, "layout": layout.to_json()})


def test_layers_that_are_not_there_or_named_twice() -> None:
    with pytest.raises(BackboneError, match=r"The backbone 'mobilenet_0\.25' has no layer 'nope'; its last layers are"):
        check_layer(spec_of("conv_pw_2_relu,nope"), random_weights())
    with pytest.raises(BackboneError) as caught:
        make_spec("mobilenet_0.25", 32, "random", "conv_pw_2_relu, conv_pw_6_relu,conv_pw_2_relu")
    assert str(caught.value) == "The layer 'conv_pw_2_relu' is named twice; name each once."
    spec, _ = make_spec("mobilenet_0.25", 32, "random", "conv_pw_2_relu, conv_pw_6_relu")
    assert spec.backbone.layer == "conv_pw_2_relu,conv_pw_6_relu"


def test_one_layer_makes_the_model_that_it_made() -> None:
    """No record of a layout, and no reshaping: kept models stay valid."""
    model = convert(spec_of(NAMES[0]), random_weights())
    assert "layout" not in model.record
    assert OpenVinoEngine(model, 1).layout == FeatureLayout.of_shape((2, 4, 128))
