"""A model file -> one Keras model of pixels to calibrated probabilities, of layers and operations of Keras alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ffe.backbones.registry import source_of
from ffe.backbones.safe_load import load_model
from ffe.bundle.io import Bundle
from ffe.errors import ModelMismatchError
from ffe.exporting.head_graph import OUTPUT, head_graph
from ffe.exporting.image_input import INPUT as IMAGE
from ffe.exporting.image_input import image_graph
from ffe.images.preprocess import GRAY_RGB, scaling_of
from ffe.specs import PreprocessSpec

PIXELS = "pixels"


def pixel_inputs(specs: Sequence[PreprocessSpec]) -> tuple[dict[str, PreprocessSpec], list[str]]:
    """Return the inputs of a model by name, and for each backbone which one it takes: those of the same pixels share theirs."""
    inputs: dict[str, PreprocessSpec] = {}
    names: dict[PreprocessSpec, str] = {}
    taken = []
    for spec in specs:
        same = spec if spec.resize == "longest" else replace(spec, mode="none", mean=None, std=None, channels=None)
        name = names.setdefault(same, PIXELS if not names else f"{PIXELS}{len(names) + 1}")
        inputs.setdefault(name, spec)
        taken.append(name)
    return inputs, taken


def check_keras_backbones(bundle: Bundle, format: str) -> None:
    """Raise a ModelMismatchError unless all backbones of a model are in it as Keras has them."""
    for number, (spec, _) in enumerate(bundle.manifest.backbones):
        name = spec.backbone.name
        if spec.precision == "int8":
            raise ModelMismatchError(
                f"The backbone {name} of '{bundle.path}' is int8, and is held as an OpenVINO model; use --format openvino."
            )
        with bundle.keras_file(number) as file:
            if source_of(name) is not None or file is None:
                raise ModelMismatchError(
                    f"The backbone {name} is held as an OpenVINO model, so it cannot become {format}; use --format openvino."
                )


def keras_graph(bundle: Bundle, *, image: bool = False, dtype: str = "uint8") -> Any:
    """Return a ``keras.Model``: uint8 (N, H, W, 3) of each of ``pixel_inputs``, by name -> float32 (N, K), ``probabilities``.

    With ``image``, one photo of any size, uint8 (1, H, W, 3), ``image``. With ``dtype`` float32, pixels come as whole floats.
    """
    import keras

    manifest = bundle.manifest
    specs = [spec.preprocess for spec, _ in manifest.backbones]
    inputs, taken = pixel_inputs(specs)
    sources: dict[str, Any]
    if image:
        photo = keras.Input((None, None, 3), batch_size=1, dtype="uint8", name=IMAGE)
        resized = image_graph(list(inputs.values()))(photo)
        sources = dict(zip(inputs, resized if isinstance(resized, list) else [resized], strict=True))
        given: Any = photo
    else:
        given = [keras.Input((*spec.size, 3), dtype=dtype, name=name) for name, spec in inputs.items()]
        sources = dict(zip(inputs, given, strict=True))
    rows = []
    for number, (spec, _) in enumerate(manifest.backbones):
        with bundle.keras_file(number) as file:
            assert file is not None
            backbone = load_model(file)
        backbone.name = f"{backbone.name}_{number + 1}"  # the same one may be there twice
        backbone.trainable = False
        outputs = backbone(_scaled(sources[taken[number]], spec.preprocess), training=False)
        for output in outputs if isinstance(outputs, list) else [outputs]:
            row = keras.layers.Flatten(dtype="float32")(output)
            rows.append(row if spec.dtype == "float32" else keras.ops.cast(keras.ops.cast(row, spec.dtype), "float32"))
    features = rows[0] if len(rows) == 1 else keras.layers.Concatenate()(rows)
    answer = head_graph(bundle.head(), manifest.temperature)(features)
    return keras.Model(given, keras.layers.Identity(name=OUTPUT)(answer), name="ffe")


def _scaled(pixels: Any, spec: PreprocessSpec) -> Any:
    """Do with symbolic pixels what ``ffe.images.preprocess`` does."""
    from keras import ops

    scaling = scaling_of(spec.mode, spec.mean, spec.std, spec.channels)
    x = ops.cast(pixels, "float32")
    if scaling.channels == "gray":
        x = ops.sum(ops.multiply(x, np.asarray(GRAY_RGB, np.float32)), axis=-1, keepdims=True)
    elif scaling.channels == "bgr":
        x = ops.concatenate([x[..., 2:3], x[..., 1:2], x[..., 0:1]], axis=-1)
    return scaling.scaled(x, ops)


def facts(bundle: Bundle, inputs: Mapping[str, PreprocessSpec | None], precision: str) -> dict[str, Any]:
    """Return what travels in the metadata of every format: plain values for JSON."""
    manifest = bundle.manifest
    specs = [spec for spec, _ in manifest.backbones]
    return {
        "ffe_version": manifest.ffe_version,
        "ffe_sha256": bundle.sha256,
        "classes": list(manifest.class_names),
        "precision": precision,
        "reject": manifest.reject,
        "inputs": {
            name: {"shape": [1, "H", "W", 3]} if spec is None else {"shape": ["N", *spec.size, 3], "resize": spec.to_json()}
            for name, spec in inputs.items()
        },
        "backbones": [spec.backbone.name for spec in specs],
    }
