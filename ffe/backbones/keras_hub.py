"""The backbones of keras-hub: ``keras-hub:PRESET``, or ``keras-hub:FOLDER`` that ``save_to_preset`` wrote. https://keras.io/keras_hub"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffe.backbones.file_network import PictureInput, check_batches, check_layers, cut, ends_of, network_of
from ffe.backbones.float32 import whole_float32
from ffe.backbones.keras_build import fill_randomly
from ffe.backbones.keras_convert import convert_keras
from ffe.backbones.model_file import preprocess_of
from ffe.backbones.network_parts import has_class_token
from ffe.backbones.registry import Network, Wish, layers_of
from ffe.backbones.safe_load import foreign_names
from ffe.backbones.weights import IMAGENET, RANDOM, Weights, fetched, needed_file, random_weights
from ffe.base.digests import bytes_digest
from ffe.base.file_access import unopened
from ffe.base.file_stat import remembered_digest
from ffe.base.forks import check_tensorflow
from ffe.base.hdf5_checks import check_contents, names_of_datasets
from ffe.base.openvino_ir import import_openvino
from ffe.base.text import did_you_mean
from ffe.errors import BackboneError, EngineError, WeightsError, missing, one_line
from ffe.specs import BackboneSpec, PreprocessSpec

_CONFIG, _WEIGHTS, _CONVERTER = "config.json", "model.weights.h5", "image_converter.json"
_DIGITS = 12  # of a digest, in the name of a folder
_DEPTH = 24  # of groups in the weights
_TOLERANCE = 1e-3  # of the largest feature: how far OpenVINO's may be from Keras's
_CLASSES = re.compile(r"keras_hub\.src\.(models|layers)(\.\w+)*\.[A-Z]\w*", re.ASCII)
_ANOTHER = "another backbone"


def resolve(wish: Wish) -> tuple[BackboneSpec, PreprocessSpec, Weights]:
    """Find what a user asks for; see ``ffe.backbones.registry.Source``."""
    if importlib.util.find_spec("keras_hub") is None:
        raise BackboneError(missing(f"The backbone '{wish.name}'", "keras-hub"))
    preset = wish.name.partition(":")[2]
    folder = _folder(preset, download=wish.download)
    if wish.weights not in {IMAGENET, RANDOM}:
        raise WeightsError(f"The preset '{preset}' has its own weights; leave --weights {wish.weights} out.")
    sides = _config(folder)["config"].get("image_shape") or (None, None, 3)
    weights = _weights(folder, random=wish.weights == RANDOM)
    found = PictureInput("NHWC", 3, (sides[0], sides[1]), None, False)
    preprocess = preprocess_of(folder, found, _preparation(folder), wish)
    if wish.layer is not None:
        _cut(_build(folder, preprocess.size), folder, wish.layer)
    known = weights.sha256[:_DIGITS] if Path(preset).is_dir() else preset
    return BackboneSpec(f"keras-hub:{known}", weights.kind, weights.sha256, wish.layer), preprocess, weights


def find_weights(spec: BackboneSpec, weights: str, *, download: bool) -> Weights:
    """Find a preset again; without it, only a model that ffe has converted serves."""
    random, preset = spec.weights == RANDOM, spec.name.partition(":")[2]
    if weights not in {IMAGENET, RANDOM}:
        return _weights(_folder(f"{weights}{os.sep}", download=False), random=random)
    try:
        return _weights(_folder(preset, download=download and importlib.util.find_spec("keras_hub") is not None), random=random)
    except BackboneError:
        return Weights(spec.weights, spec.weights_sha256)


def to_openvino(backbone: BackboneSpec, size: tuple[int, int], weights: Weights) -> Network:
    """Build a network, convert it, and compare what both give; see ``ffe.backbones.registry.Source``."""
    if weights.path is None:
        raise needed_file(backbone.name)
    folder = weights.path
    model = _build(folder, size)
    if weights.kind == RANDOM:
        _fill(model)
    else:
        _load_weights(model, folder)
    sized = _cut(model, folder, backbone.layer)
    converted = convert_keras(sized, backbone.name, _ANOTHER)
    found = PictureInput("NHWC", 3, size, None, False)
    alone = converted.clone()
    told = {"has_class_token": has_class_token(weight.name for weight in model.weights)}
    network = network_of(cut(converted, folder, found, size, ends_of(converted)), folder, found, size, told)
    check_batches(network.model, cut(alone, folder, found, size, ends_of(alone), 1), folder, found, size)
    _compare(sized, network.model, backbone.name, size)
    return network


def _fill(model: Any) -> None:
    """Give a network seeded random weights, those that are no kernels included, such as positions of tokens."""
    import keras

    fill_randomly(model)
    for position, weight in enumerate(model.weights):
        if not weight.name.endswith("kernel") and np.ptp(keras.ops.convert_to_numpy(weight)) > 0:
            weight.assign(np.random.default_rng([0, position]).standard_normal(tuple(weight.shape), np.float32) * 0.02)


def _compare(model: Any, converted: Any, name: str, size: tuple[int, int]) -> None:
    """Make sure that OpenVINO gives what Keras does, for two pictures of noise."""
    import keras

    ov = import_openvino()
    images = np.random.default_rng(0).standard_normal((2, *size, 3)).astype(np.float32)
    with whole_float32():
        expected = [keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(model(images, training=False))]
    found = ov.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": ov.Type.f32})(images).values()
    for ours, theirs in zip(found, expected, strict=True):
        if ours.shape != theirs.shape or not np.abs(ours - theirs).max() <= _TOLERANCE * np.abs(theirs).max():
            raise EngineError(f"OpenVINO converts the backbone '{name}' wrongly; use {_ANOTHER}.")


def _folder(preset: str, *, download: bool) -> Path:
    """Return the folder of a preset: one of the user's, that in the cache of kagglehub, or that which it fetches."""
    path = Path(preset)
    if path.is_dir():
        return path
    if path.name != preset:
        raise BackboneError(f"There is no folder '{path}' with a preset of keras-hub; check the path.")
    if importlib.util.find_spec("keras_hub") is None:
        raise BackboneError(missing(f"The backbone 'keras-hub:{preset}'", "keras-hub"))
    check_tensorflow()
    import keras_hub

    presets = keras_hub.models.Backbone.presets
    if preset not in presets:
        near = did_you_mean(preset, presets).replace("'", "'keras-hub:", 1)
        raise BackboneError(f"keras-hub has no preset '{preset}'; https://keras.io/keras_hub/presets lists them.{near}")
    handle = str(presets[preset]["kaggle_handle"]).partition("://")[2]
    cached = Path(os.environ.get("KAGGLEHUB_CACHE") or os.path.expanduser("~/.cache/kagglehub")) / "models" / handle
    if (cached / _CONFIG).is_file() and (cached / _WEIGHTS).is_file():
        return cached
    why, places = "it is not to be fetched now", list[str]()
    if download:

        def fetch() -> None:
            import kagglehub

            places.append(kagglehub.model_download(handle))

        why = fetched("https://www.kaggle.com", fetch)
    if places:
        return Path(places[0])
    raise WeightsError(
        f"The preset '{preset}' of keras-hub is not on this machine ({why}); run the command once with a network, or give a "
        "folder that save_to_preset wrote, as in --backbone keras-hub:FOLDER."
    )


def _weights(folder: Path, *, random: bool) -> Weights:
    """Return the weights of a preset; their digest covers its description, which has settings that no weight shows."""
    if not random and not (folder / _WEIGHTS).is_file():
        raise WeightsError(
            f"The folder '{folder}' has no '{_WEIGHTS}', the one file of weights that ffe reads; save the preset again."
        )
    try:
        digest = random_weights().sha256 if random else remembered_digest(folder / _WEIGHTS)
        described = bytes_digest((folder / _CONFIG).read_bytes())
    except OSError as error:
        raise WeightsError(unopened(folder, error)) from error
    return Weights("random" if random else "file", bytes_digest(f"{described}{digest}".encode()), folder)


def _config(folder: Path) -> dict[str, Any]:
    """Return the description of a preset; only classes that backbones are made of may be named in it."""
    try:
        config = json.loads((folder / _CONFIG).read_bytes())
        if not str(config["registered_name"]).startswith("keras_hub>") or not isinstance(config["config"], dict):
            raise ValueError("it describes no backbone of keras-hub")
        if foreign := next(foreign_names(config, _CLASSES), None):
            raise ValueError(f"it names {foreign}, of which no backbone is made")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        text = str(error) if type(error) is ValueError else one_line(error)
        raise BackboneError(f"The preset in '{folder}' cannot be used: {text}; save it again, or take another.") from error
    return dict(config)


def _preparation(folder: Path) -> Mapping[str, Any]:
    """Return how pictures are prepared, as a preset says it: its ``ImageConverter`` multiplies by a scale and adds an offset."""
    file = folder / _CONVERTER
    if not file.exists():
        return {}
    try:
        converter = json.loads(file.read_bytes())["config"]
        found = {"interpolation": converter.get("interpolation"), "size": converter.get("image_size")}
        found["resize"] = "shortest" if converter.get("crop_to_aspect_ratio", True) else "stretch"
        if converter.get("pad_to_aspect_ratio"):
            found["resize"] = "longest"
        said = [usual if (value := converter.get(name)) is None else value for name, usual in (("scale", 1), ("offset", 0))]
        scale, offset = (np.broadcast_to(np.asarray(value, np.float64), 3) for value in said)
        if not (np.isfinite(scale) & (scale > 0) & np.isfinite(offset)).all():
            raise ValueError(f"scale is {said[0]}, offset is {said[1]}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BackboneError(
            f"'{file}', which says how pictures are prepared, makes no sense ({one_line(error)}); save the preset again, or take "
            "the file away and name --mean and --std."
        ) from error
    std = 1 / (255 * scale)
    return {**found, "mean": (-offset * std).tolist(), "std": std.tolist()}


def _build(folder: Path, size: tuple[int, int]) -> Any:
    """Let keras-hub build the network of a preset for pictures of (height, width), without its weights."""
    check_tensorflow()
    import keras_hub

    options = {"image_shape": (*size, 3)} if "image_shape" in _config(folder)["config"] else {}
    try:
        model = keras_hub.models.Backbone.from_preset(str(folder), load_weights=False, **options)
    except Exception as error:  # Keras raises many kinds on a description that makes no sense
        raise BackboneError(f"keras-hub cannot build the preset in '{folder}' ({one_line(error)}); take another.") from error
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        takes = ", ".join(str(one.name) for one in model.inputs)
        raise BackboneError(f"The preset in '{folder}' takes {takes}, and a backbone takes pictures alone; take another.")
    return model


def _load_weights(model: Any, folder: Path) -> None:
    import h5py

    file = folder / _WEIGHTS
    try:
        with h5py.File(file) as weights:
            check_contents(weights, names_of_datasets(weights, _DEPTH), size=file.stat().st_size)
        model.load_weights(str(file))
    except Exception as error:  # h5py and Keras raise many kinds on what does not fit
        raise WeightsError(
            f"The weights '{file}' do not fit their network ({one_line(error)}); save the preset again."
        ) from error


def _cut(model: Any, folder: Path, layer: str | None) -> Any:
    """Return a ``keras.Model`` from pictures to the outputs that are asked for."""
    import keras

    if layer is not None:
        known = [item.name for item in model.layers]
        check_layers(folder, layer, known, known)
        outputs = [model.get_layer(name).output for name in layers_of(layer)]
    else:
        outputs = keras.tree.flatten(model.output)
        if len(outputs) != 1:
            last = ", ".join(item.name for item in model.layers[-8:])
            raise BackboneError(f"The preset in '{folder}' has {len(outputs)} outputs; name a layer with --layer: {last}.")
    inner = keras.Model(model.inputs[0], outputs if len(outputs) > 1 else outputs[0])
    pictures = keras.Input(model.inputs[0].shape[1:])
    return keras.Model(pictures, inner(pictures))
