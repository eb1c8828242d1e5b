"""A network in a ``.keras`` file: what it takes, from its description alone; and itself, through TensorFlow."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffe.backbones.file_network import PictureInput, check_layers, names_of, picture_input, several_outputs, wrong_size
from ffe.backbones.keras_convert import convert_keras
from ffe.backbones.safe_load import check_keras_file, load_model
from ffe.errors import BackboneError
from ffe.specs import BackboneSpec

_ANOTHER_EXPORT = "export it as ONNX, and give that file"


def _keras_config(path: Path) -> dict[str, Any]:
    """Return the description of the network in a ``.keras`` file; what is no network of known layers is a BackboneError."""
    check_keras_file(path, _ANOTHER_EXPORT)
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json")).get("config")
    return config if isinstance(config, dict) else {}


def keras_input(path: Path, layer: str | None) -> PictureInput:
    """Return what a Keras network takes, from its description alone, and make sure that it has the layers."""
    config = _keras_config(path)
    layers = [item.get("config", {}) for item in config.get("layers", ())]
    inputs = [item for item in layers if "batch_shape" in item]
    names = [str(item.get("name")) for item in layers if item not in inputs]
    if len(inputs) != 1:
        raise BackboneError(
            f"The network in '{path}' has {len(inputs)} inputs, and a backbone has one, for pictures; {_ANOTHER_EXPORT}."
        )
    if layer is not None:
        check_layers(path, layer, names, names)
    elif len(ends := _ends(config)) > 1:
        raise several_outputs(path, ends)
    kind = {"float32": "f32", "uint8": "u8", "float16": "f16"}.get(str(inputs[0].get("dtype")), str(inputs[0].get("dtype")))
    return picture_input(inputs[0]["batch_shape"], kind, path)


def _ends(config: Mapping[str, Any]) -> list[str]:
    """Return the layers that give the outputs of a Keras network; none where it is a row of layers."""
    ends = config.get("output_layers", [])
    return [str(end[0]) for end in ends] if ends and isinstance(ends[0], list) else []


def read_keras(path: Path, backbone: BackboneSpec, size: tuple[int, int]) -> Any:
    """Return a Keras file for pictures of (height, width), cut at the layers of the spec: an ``openvino.Model``."""
    import keras

    model = load_model(path, _ANOTHER_EXPORT)
    if backbone.layer is not None:
        model = keras.Model(model.input, [model.get_layer(name).output for name in names_of(backbone.layer)])
    sides = iter(size)
    pictures = keras.Input([next(sides) if side is None else side for side in model.input_shape[1:]], dtype=model.inputs[0].dtype)
    try:
        sized = keras.Model(pictures, model(pictures))
    except Exception as error:  # Keras raises many kinds where a picture is too small
        raise wrong_size(path, size, error) from error
    return convert_keras(sized, backbone.name, f"a file of another kind: {_ANOTHER_EXPORT}")
