"""The reference engine."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.backbones.keras_build import build
from ffe.backbones.weights import random_weights
from ffe.engines.base import ROW_TOLERANCE, Engine
from ffe.engines.factory import open_engine, open_saved_engine
from ffe.engines.keras import KerasEngine
from ffe.images.preprocess import preprocess
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessMode, PreprocessSpec
from ffe.testing import EngineContract


def spec_of(size: tuple[int, int], mode: PreprocessMode = "tf", layer: str | None = None) -> ExtractSpec:
    return ExtractSpec(BackboneSpec("mobilenet_0.25", "random", random_weights().sha256, layer), PreprocessSpec(size, mode))


@functools.cache
def model_of(size: tuple[int, int], layer: str | None = None) -> Any:
    return build(spec_of(size, layer=layer), random_weights())


@functools.cache
def engine_of(size: tuple[int, int], batch_size: int, layer: str | None = None) -> KerasEngine:
    return KerasEngine(model_of(size, layer), spec_of(size, layer=layer), batch_size)


@pytest.mark.portable
class TestKerasEngine(EngineContract):
    """MobileNet with random weights, cut where its output is a grid that is not square."""

    size = (32, 64)
    layer = "conv_pw_6_relu"
    tolerance = 1e-4

    def make(self, batch_size: int) -> Engine:
        return engine_of(self.size, batch_size, self.layer)

    def spatial(self, images: np.ndarray) -> np.ndarray:
        """The plain model on pixels that numpy scaled."""
        return np.asarray(model_of(self.size, self.layer)(preprocess(images, "tf"), training=False))


def test_grid_is_not_square() -> None:
    """So that the contract's order test can fail: height 2, width 4."""
    assert engine_of((32, 64), 4, "conv_pw_6_relu").layout.grid == (2, 4, 128)


def test_two_engines_of_one_spec_agree() -> None:
    """Built twice from nothing, the features are as near as rows of one engine."""
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    rows = [open_engine(spec_of((32, 32)), random_weights(), batch_size=4).extract(images) for _ in range(2)]
    np.testing.assert_allclose(*rows, rtol=0, atol=ROW_TOLERANCE * np.abs(rows[0]).max())


def test_batch_size_changes_next_to_nothing() -> None:
    """Other batch sizes may take other kernels: equal within the tolerance of rows, not to the bit."""
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 64, 3), np.uint8)
    small, large = (engine_of((32, 64), n, "conv_pw_6_relu").extract(images) for n in (4, 9))
    np.testing.assert_allclose(small, large, rtol=0, atol=ROW_TOLERANCE * np.abs(large).max())


def test_what_does_not_fill_a_batch_is_not_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One photo costs one, not a batch; and there are two graphs, however many photos come."""
    engine, asked = engine_of((32, 64), 4, "conv_pw_6_relu"), list[int]()
    run = engine._model.predict_on_batch
    monkeypatch.setattr(engine, "on_cpu", True)
    monkeypatch.setattr(engine._model, "predict_on_batch", lambda images: (asked.append(len(images)), run(images))[1])
    for count in (1, 4, 3):
        engine.extract(np.zeros((count, 32, 64, 3), np.uint8))
    assert asked == [1, 4, 1, 1, 1]


@pytest.mark.parametrize("mode", ["caffe", "torch", "none"])
def test_every_mode_is_scaled_like_the_reference(mode: PreprocessMode) -> None:
    """A network of one average, so that the difference is that of the scaling alone."""
    import keras

    pixels = keras.Input((32, 32, 3))
    engine = KerasEngine(keras.Model(pixels, keras.layers.AveragePooling2D(8)(pixels)), spec_of((32, 32), mode), 4)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    expected = preprocess(images, mode).reshape(4, 4, 8, 4, 8, 3).mean(axis=(2, 4))
    assert engine.layout.grid == (4, 4, 3)
    np.testing.assert_allclose(engine.extract(images).reshape(4, 4, 4, 3), expected, rtol=0, atol=1e-4)


def test_output_that_is_a_vector_has_a_grid_of_one() -> None:
    import keras

    pixels = keras.Input((32, 32, 3))
    engine = KerasEngine(keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(pixels)), spec_of((32, 32)), 2)
    assert engine.layout.grid == (1, 1, 3)
    assert engine.extract(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 3)


def test_saved_backbone_runs_on_the_engine(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 64, 3), np.uint8)
    engine = engine_of((32, 64), 4, "conv_pw_6_relu")
    file = tmp_path / "backbone.keras"
    engine.backbone.save(file)
    spec = spec_of((32, 64), layer="conv_pw_6_relu")
    again = open_saved_engine(spec, ir=None, keras_file=lambda: nullcontext(file), batch_size=4)
    rows = engine.extract(images)
    np.testing.assert_allclose(again.extract(images), rows, rtol=0, atol=ROW_TOLERANCE * np.abs(rows).max())
