"""Spec and weights -> a frozen Keras model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ffe.backbones.catalog import find
from ffe.backbones.keras_build import build, fill_randomly
from ffe.backbones.safe_load import load_model
from ffe.backbones.weights import Weights, random_weights
from ffe.base.digests import file_digest
from ffe.errors import BackboneError, WeightsError
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec


def spec_of(name: str, weights: Weights, side: int = 32, layer: str | None = None) -> ExtractSpec:
    return ExtractSpec(BackboneSpec(name, weights.kind, weights.sha256, layer), PreprocessSpec((side, side), find(name).mode))


def random_build(layer: str | None = None, side: int = 32) -> Any:
    weights = random_weights()
    return build(spec_of("mobilenet_0.25", weights, side, layer), weights)


def run(model: Any, images: np.ndarray) -> np.ndarray:
    """Run a model layer by layer, which for a few images is faster than to compile it."""
    return np.asarray(model(images, training=False))


def saved(model: Any, path: Path) -> Weights:
    """Save weights in the format of the files that keras.applications downloads."""
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return Weights("file", file_digest(path), path)


IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)


def test_random_weights_are_the_same_in_every_build() -> None:
    first, second = random_build(), random_build()
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    features = run(first, IMAGES)
    np.testing.assert_array_equal(features, run(second, IMAGES))
    assert features.shape == (3, 1, 1, 256)
    assert 1e-4 < features.std() < 100  # the signal neither dies out nor explodes on its way through the layers


def test_random_weights_depend_on_the_seed() -> None:
    model = random_build()
    before = model.get_weights()[0].copy()
    fill_randomly(model, seed=1)
    assert np.abs(model.get_weights()[0] - before).max() > 0.1


def test_backbone_is_frozen() -> None:
    model = random_build()
    assert model.trainable is False
    assert model.trainable_weights == []
    assert len(model.weights) > 50


def test_cut_at_a_layer() -> None:
    whole, cut = random_build(side=64), random_build(layer="conv_pw_6_relu", side=64)
    assert cut.layers[-1].name == "conv_pw_6_relu"
    assert cut.output_shape == (None, 4, 4, 128)
    assert whole.output_shape == (None, 2, 2, 256)
    assert cut.trainable_weights == []
    import keras

    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    inner = keras.Model(whole.inputs, whole.get_layer("conv_pw_6_relu").output)
    expected = run(inner, images)
    np.testing.assert_allclose(run(cut, images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_unknown_layer_offers_the_last_ones() -> None:
    with pytest.raises(BackboneError, match=r"'mobilenet_0\.25' has no layer 'nope'; its last layers are .*conv_pw_13_relu\."):
        random_build(layer="nope")


def test_size_that_is_too_small() -> None:
    with pytest.raises(BackboneError, match=r"takes pictures of at least 32 pixels; choose --size 32 or more instead of 31"):
        random_build(side=31)


def test_weights_come_from_the_file(tmp_path: Path) -> None:
    """Both the format that ffe names and the one that Keras downloads; with one seed they would equal the random ones."""
    model = random_build()
    fill_randomly(model, seed=5)
    expected = run(model, IMAGES)
    old = saved(model, tmp_path / "mobilenet_2_5_224_tf_no_top.h5")
    model.save_weights(tmp_path / "mine.weights.h5")
    new = Weights("file", file_digest(tmp_path / "mine.weights.h5"), tmp_path / "mine.weights.h5")
    for weights in (old, new):
        loaded = build(spec_of("mobilenet_0.25", weights), weights)
        np.testing.assert_array_equal(run(loaded, IMAGES), expected)


def test_weights_of_another_network(tmp_path: Path) -> None:
    weights = saved(random_build(), tmp_path / "other.h5")
    sentence = (
        r"The weights file '.*other\.h5' does not fit the backbone 'mobilenet_0\.5' without its top \(.+\); "
        r"give one that keras\.applications\.MobileNet\(include_top=False\) can load\."
    )
    with pytest.raises(WeightsError, match=sentence) as caught:
        build(spec_of("mobilenet_0.5", weights), weights)
    assert "\n" not in str(caught.value)


def test_weights_file_that_is_no_weights_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.weights.h5"
    path.write_text("not weights")
    weights = Weights("file", file_digest(path), path)
    with pytest.raises(WeightsError, match=r"notes\.weights\.h5' does not fit the backbone 'mobilenet_0\.25' without its top"):
        build(spec_of("mobilenet_0.25", weights), weights)


def test_precision_is_the_models_and_nobody_elses() -> None:
    import keras

    before = keras.config.dtype_policy().name
    weights = random_weights()
    model = build(replace(spec_of("mobilenet_0.25", weights), precision="mixed_bfloat16"), weights)
    assert model.get_layer("conv1").dtype_policy.name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == before


def test_saved_backbone_gives_the_same_features(tmp_path: Path) -> None:
    model = random_build(layer="conv_pw_3_relu")
    model.save(tmp_path / "backbone.keras")
    loaded = load_model(tmp_path / "backbone.keras")
    np.testing.assert_array_equal(run(loaded, IMAGES), run(model, IMAGES))


@pytest.mark.slow
def test_efficientnet_from_a_file_equals_keras_own_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras adds a scaling layer for weights="imagenet" only; tolerance: 1e-4 of the largest feature, as float32 rounds."""
    import keras
    from keras.src.utils import file_utils

    model = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    fill_randomly(model, seed=3)
    normalisation = next(layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    normalisation.adapt_mean.assign(np.asarray([0.485, 0.456, 0.406], np.float32))
    normalisation.adapt_variance.assign(np.asarray([0.229, 0.224, 0.225], np.float32))
    weights = saved(model, tmp_path / "efficientnetb0_notop.h5")
    monkeypatch.setattr(file_utils, "get_file", lambda *rest, **options: str(weights.path))
    theirs = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    images = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    expected = run(theirs, images)
    ours = run(build(spec_of("efficientnetb0", weights), weights), images)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4 * scale)

    plain = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    plain.load_weights(str(weights.path))
    assert np.abs(run(plain, images) - expected).max() > 0.01 * scale  # without the layer they do differ


def test_exact_mobilenet_weights_are_read(shared: Path) -> None:
    """The real file of the smallest MobileNet loads, and its features are not those of random weights."""
    path = shared / "weights" / "mobilenet_0.25_imagenet_no_top.weights.h5"
    weights = Weights("file", file_digest(path), path)
    features = run(build(spec_of("mobilenet_0.25", weights), weights), IMAGES)
    assert features.shape == (3, 1, 1, 256)
    assert 0 <= features.min() < features.max() <= 6  # the last layer is a ReLU6
    assert np.abs(features - run(random_build(), IMAGES)).max() > 0.1
