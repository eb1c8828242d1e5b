"""A network in a ``.keras`` file: what it takes, from its description alone; and itself, through TensorFlow."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffe.backbones.file_network import PictureInput, check_layers, picture_input, several_outputs, wrong_size
from ffe.backbones.keras_convert import convert_keras
from ffe.backbones.registry import layers_of
from ffe.backbones.safe_load import check_keras_file, load_model
from ffe.errors import BackboneError, one_line
from ffe.specs import BackboneSpec

_ANOTHER_EXPORT = "export it as ONNX, and give that file"


def keras_input(path: Path, layer: str | None) -> PictureInput:
    """Return what a Keras network takes, from its description alone, and make sure that it has the layers."""
    check_keras_file(path, _ANOTHER_EXPORT)
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))["config"]
        return _input_of(config, path, layer)
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise BackboneError(
            f"The saved backbone cannot be used: its description makes no sense ({one_line(error)}); {_ANOTHER_EXPORT}."
        ) from error


def _input_of(config: Mapping[str, Any], path: Path, layer: str | None) -> PictureInput:
    layers = [item.get("config", {}) for item in config.get("layers", ())]
    inputs = [item for item in layers if "batch_shape" in item]
    names = [str(item.get("name")) for item in layers if item not in inputs]
    if len(inputs) != 1:
        raise BackboneError(
            f"The network in '{path}' has {len(inputs)} inputs, and a backbone has one, for pictures; {_ANOTHER_EXPORT}."
        )
    if layer is not None:
        check_layers(path, layer, names, names)
    elif len(ends := _ends(config.get("output_layers", []))) > 1:
        raise several_outputs(path, ends)
    kind = {"float32": "f32", "uint8": "u8", "float16": "f16"}.get(str(inputs[0].get("dtype")), str(inputs[0].get("dtype")))
    shape = inputs[0]["batch_shape"]
    if not all(side is None or (type(side) is int and side > 0) for side in shape):
        raise ValueError(f"its input is {shape!r}")
    return picture_input(shape, kind, path)


def _ends(ends: Any) -> list[str]:
    """Return the layers that give the outputs of a Keras network; none where it is a row of layers.

    Each is the list of a name and two numbers; several are in lists, or in objects by the names of the outputs.
    """
    inner = list(ends.values()) if isinstance(ends, dict) else ends
    if inner and isinstance(inner[0], str):
        return [inner[0]]
    return [name for end in inner for name in _ends(end)]


def read_keras(path: Path, backbone: BackboneSpec, size: tuple[int, int]) -> Any:
    """Return a Keras file for pictures of (height, width), cut at the layers of the spec: an ``openvino.Model``."""
    import keras

    model = load_model(path, _ANOTHER_EXPORT)
    if backbone.layer is not None:
        model = keras.Model(model.input, [model.get_layer(name).output for name in layers_of(backbone.layer)])
    axes, sides = picture_input(model.input_shape, "f32", path).axes, dict(zip("HW", size, strict=True))
    shape = [side or sides[axis] for axis, side in zip(axes[1:], model.input_shape[1:], strict=True)]
    pictures = keras.Input(shape, dtype=model.inputs[0].dtype)
    try:
        sized = keras.Model(pictures, model(pictures))
    except Exception as error:  # Keras raises many kinds where a picture is too small
        raise wrong_size(path, size, error) from error
    return convert_keras(sized, backbone.name, f"a file of another kind: {_ANOTHER_EXPORT}")
