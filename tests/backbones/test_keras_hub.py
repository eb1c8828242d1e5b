"""The backbones of keras-hub: what is said where it is not installed, and, where it is, that they give what Keras gives."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.backbones.keras_hub import _compare, _config, _preparation, _weights
from ffe.backbones.resolve import make_spec, weights_of
from ffe.engines.factory import float_model, open_engine
from ffe.engines.openvino import OpenVinoEngine
from ffe.errors import BackboneError, EngineError, WeightsError

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
PIXELS = np.random.default_rng(3).integers(0, 256, (5, 64, 64, 3), np.uint8)


def test_without_keras_hub_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "keras_hub" else found(name))
    with pytest.raises(BackboneError) as error:
        make_spec("keras-hub:vit_base_patch16_224_imagenet")
    assert str(error.value) == (
        "The backbone 'keras-hub:vit_base_patch16_224_imagenet' needs the package keras-hub, which is not installed; "
        "install it with 'pip install keras-hub'."
    )


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    """A folder with a small vision transformer, as keras-hub saves it."""
    hub = pytest.importorskip("keras_hub")
    size = {"image_shape": (64, 64, 3), "patch_size": (16, 16)}
    model = hub.models.ViTBackbone(**size, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64)
    model.save_to_preset(str(tmp_path / "vit"))
    return tmp_path / "vit"


def keras_features(folder: Path) -> np.ndarray:
    import keras
    import keras_hub

    model = keras_hub.models.Backbone.from_preset(str(folder))
    return np.asarray(keras.ops.convert_to_numpy(model(PIXELS.astype(np.float32) / 127.5 - 1))).reshape(5, -1)


def test_a_preset_gives_what_keras_gives(preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "cache"))
    spec, weights = make_spec(f"keras-hub:{preset}", changes=HALF)
    model = float_model(spec, weights)
    assert model.record["layout"] == [[4, 4, 32, 1]]
    expected = keras_features(preset)
    found = OpenVinoEngine(model).extract(PIXELS)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert str(preset) not in spec.backbone.name
    layers = "vit_patching_and_embedding,vit_encoder"
    both = OpenVinoEngine(float_model(*make_spec(f"keras-hub:{preset}", layer=layers, changes=HALF)))
    np.testing.assert_allclose(both.extract(PIXELS)[:, found.shape[1] :], found, atol=1e-5)
    again = weights_of(spec)  # without the folder
    np.testing.assert_array_equal(open_engine(spec, again).extract(PIXELS), found)
    assert weights_of(spec, str(preset)).path is not None
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "other"))
    with pytest.raises(WeightsError) as error:
        float_model(spec, again)
    assert str(error.value) == (
        f"The backbone '{spec.backbone.name}' came as a preset, which is needed again; pass the preset with --weights FOLDER."
    )


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_conversion_is_compared_in_whole_float32(factor: float) -> None:
    """On a GPU TensorFlow takes TF32 by itself, which may be further apart than what is asked for."""
    import keras
    from openvino import Model
    from openvino import opset13 as ops
    from tensorflow.config.experimental import tensor_float_32_execution_enabled as setting

    settings = []

    def network(images: np.ndarray, training: bool) -> Any:
        settings.append(setting())
        return keras.ops.convert_to_tensor(images * factor)

    pixels = ops.parameter([-1, 8, 8, 3], np.float32)
    converted = Model([ops.add(pixels, np.float32(0))], [pixels])
    with contextlib.nullcontext() if factor == 1 else pytest.raises(EngineError, match="converts the backbone 'a' wrongly"):
        _compare(network, converted, "a", (8, 8))
    assert (settings, setting()) == ([False], True)


def test_random_weights_are_seeded(preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for name in ("a", "b"):
        monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / name))
        digests.append(float_model(*make_spec(f"keras-hub:{preset}", weights="random", changes=HALF)).sha256)
    assert digests[0] == digests[1]


def test_how_pictures_are_prepared_is_read_or_asked_for(preset: Path) -> None:
    with pytest.raises(BackboneError, match=r"name --mean and --std, for example"):
        make_spec(f"keras-hub:{preset}")
    converter = {"image_size": [64, 64], "scale": 1 / 127.5, "offset": -1, "interpolation": "bicubic"}
    (preset / "image_converter.json").write_text(json.dumps({"config": {**converter, "crop_to_aspect_ratio": False}}))
    preprocess = make_spec(f"keras-hub:{preset}")[0].preprocess
    assert (preprocess.mean, preprocess.std) == (pytest.approx((0.5,) * 3), pytest.approx((0.5,) * 3))
    assert (preprocess.interpolation, preprocess.resize, preprocess.size) == ("bicubic", None, (64, 64))


def test_what_cannot_be_had_is_said(preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    with pytest.raises(BackboneError, match=r"keras-hub has no preset 'resnet_18_imagene'; .* Did you mean 'keras-hub:resnet_"):
        make_spec("keras-hub:resnet_18_imagene")
    with pytest.raises(WeightsError, match=r"'resnet_18_imagenet' of keras-hub is not on this machine \(it is not to be"):
        make_spec("keras-hub:resnet_18_imagenet", download=False)
    with pytest.raises(BackboneError, match="takes pictures of 64x64 pixels and no others"):
        make_spec(f"keras-hub:{preset}", 32, changes=HALF)
    with pytest.raises(BackboneError, match="has no layer 'nothing'"):
        make_spec(f"keras-hub:{preset}", layer="nothing", changes=HALF)


FOREIGN = (
    ("os", "system", None),
    ("keras.layers", "TorchModuleWrapper", None),
    ("keras.layers", "StringLookup", None),
    ("keras.src.utils.file_utils", "get_file", None),
    ("keras_hub.src.utils.preset_utils", "load_json", None),
    ("keras_hub.src.models.backbone", "load_json", None),
    ("keras_hub.src.models.vit.vit_backbone", "ViTBackbone", "somebody>ViTBackbone"),
)


@pytest.mark.parametrize(("module", "name", "registered"), FOREIGN)
def test_a_preset_names_nothing_but_what_backbones_are_made_of(
    tmp_path: Path, module: str, name: str, registered: str | None
) -> None:
    inner = {"module": module, "class_name": name, "config": {}, "registered_name": registered}
    backbone = {"module": "keras_hub.src.models.vit.vit_backbone", "class_name": "ViTBackbone"}
    description = {**backbone, "config": {"dtype": inner}, "registered_name": "keras_hub>ViTBackbone"}
    (tmp_path / "config.json").write_text(json.dumps(description))
    with pytest.raises(BackboneError) as error:
        _config(tmp_path)
    assert str(error.value) == (
        f"The preset in '{tmp_path}' cannot be used: it names {module}.{name}, of which no backbone is made; "
        "save it again, or take another."
    )
    dtype = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}
    (tmp_path / "config.json").write_text(json.dumps({**description, "config": {"dtype": dtype}}))
    assert _config(tmp_path)["config"] == {"dtype": dtype}


@pytest.mark.parametrize("random", [False, True])
def test_the_description_of_a_preset_belongs_to_its_digest(tmp_path: Path, random: bool) -> None:
    (tmp_path / "model.weights.h5").write_bytes(b"weights")
    digests = []
    for epsilon in (1e-6, 1e-6, 1.0):
        (tmp_path / "config.json").write_text(json.dumps({"layer_norm_epsilon": epsilon}))
        digests.append(_weights(tmp_path, random=random).sha256)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    "converter",
    [{"config": 3}, [], {"config": {"scale": "abc"}}, {"config": {"scale": [1, 2]}}, {"config": {"scale": 0}}],
)
def test_a_preparation_that_makes_no_sense_is_said_so(tmp_path: Path, converter: Any) -> None:
    file = tmp_path / "image_converter.json"
    file.write_text(json.dumps(converter))
    with pytest.raises(BackboneError) as error:
        _preparation(tmp_path)
    assert str(error.value).startswith(f"'{file}', which says how pictures are prepared, makes no sense (")
    assert str(error.value).endswith("); save the preset again, or take the file away and name --mean and --std.")
    file.write_text('{"config": {"scale": null, "offset": [0, 0, 0]}}')
    assert _preparation(tmp_path)["std"] == [1 / 255] * 3
    file.unlink()
    assert _preparation(tmp_path) == {}
