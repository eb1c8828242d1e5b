"""Spec -> frozen Keras model. Written against Keras 3 alone, so any of its backends will do."""

from __future__ import annotations

import contextlib
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffe.backbones import lite0
from ffe.backbones.catalog import FAKE, LITE0, Backbone, check_size, find
from ffe.backbones.registry import check_of_keras, layers_of
from ffe.backbones.trained import MODEL_SUFFIX, load_backbone
from ffe.backbones.weights import IMAGENET, TORCH_SUFFIX, Weights
from ffe.base.file_access import unopened
from ffe.base.forks import check_tensorflow
from ffe.base.text import did_you_mean
from ffe.errors import BackboneError, WeightsError
from ffe.specs import ExtractSpec

if TYPE_CHECKING:
    import keras

# EfficientNet B0 to B7 were trained on (x - mean) / std ** 1.5, not / std: see keras-team/keras
# applications/efficientnet.py and https://github.com/tensorflow/tensorflow/issues/49930.
_EFFICIENTNET_STD = (0.229, 0.224, 0.225)
_PLAIN = {"bias": 0, "beta": 0, "moving_mean": 0, "moving_variance": 1}


def build(spec: ExtractSpec, weights: Weights) -> keras.Model:
    """Build the frozen backbone of a spec: from float32 (N, H, W, 3), scaled by its mode, to float32 of any rank.

    It has an output for each layer of the spec.
    A size that is too small, or a layer that is not there, is a BackboneError; weights that do not fit are a WeightsError.
    """
    check_tensorflow()
    import keras

    name = spec.backbone.name
    check_of_keras(name, "it cannot be trained")
    row = find(name)
    check_size(row, spec.preprocess.size)
    keras.config.set_image_data_format("channels_last")
    model = load_backbone(weights) if _is_whole(weights) else _with_weights(row, spec, weights)
    if spec.backbone.layer is not None:
        model = _cut(model, row, spec.backbone.layer)
    model.trainable = False
    return model


def _is_whole(weights: Weights) -> bool:
    """Return whether the file holds a whole backbone, not weights alone."""
    return weights.path is not None and weights.path.suffix in {".keras", MODEL_SUFFIX}


def _with_weights(row: Backbone, spec: ExtractSpec, weights: Weights) -> keras.Model:
    """Build the network of a backbone, and give it its weights."""
    import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(spec.precision)
    try:
        model = _application(row, spec.preprocess.size, weights=None)
    finally:
        keras.config.set_dtype_policy(policy)
    if weights.path is None:
        fill_randomly(model)
    elif weights.path.suffix == TORCH_SUFFIX:
        lite0.load_weights(model, weights.path)
    else:
        try:
            _load_weights(model, weights.path)
        except Exception as error:  # h5py and Keras raise many kinds on a file of another network
            if isinstance(error, OSError) and error.errno:  # else HDF5 does not understand it
                raise WeightsError(unopened(weights.path, error)) from error
            made_by = (
                f"keras.applications.{row.application}(include_top=False)" if row.application else f"the network of {row.name}"
            )
            raise WeightsError(
                f"The weights file '{weights.path}' does not fit the backbone '{row.name}' without its top "
                f"({' '.join(str(error).split())[:200]}); give one that {made_by} can load."
            ) from error
        if row.application.startswith("EfficientNetB"):
            _correct_efficientnet_input(model)
    return model


def _load_weights(model: keras.Model, path: Path) -> None:
    """Let Keras load weights; without a lock where the disk has none, which Keras has no option for."""
    try:
        model.load_weights(str(path))
    except BlockingIOError:  # another program changes it
        raise
    except OSError as error:
        if "lock" not in str(error):
            raise
        from unittest import mock

        import h5py

        class Unlocked(h5py.File):
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options, locking=False)

        with mock.patch.object(h5py, "File", Unlocked):
            model.load_weights(str(path))


def check_layer(spec: ExtractSpec, weights: Weights) -> None:
    """Make sure that a backbone has the layer of a spec; no weights are read, but those of a network that ffe has trained."""
    row, layer = find(spec.backbone.name), spec.backbone.layer
    if layer is None or row.name == FAKE:
        return
    check_tensorflow()
    _cut(load_backbone(weights) if _is_whole(weights) else _application(row, spec.preprocess.size, weights=None), row, layer)


def download(row: Backbone, size: tuple[int, int]) -> None:
    """Let Keras fetch the ImageNet weights into its own cache, with its own checks."""
    with contextlib.redirect_stdout(sys.stderr):  # Keras prints its progress bar to standard output
        _application(row, size, weights=IMAGENET)


def _application(row: Backbone, size: tuple[int, int], weights: str | None) -> keras.Model:
    import keras

    if row.name == LITE0:
        return lite0.architecture(size)
    options: dict[str, Any] = {} if row.alpha is None else {"alpha": row.alpha}
    factory = getattr(keras.applications, row.application)
    return factory(include_top=False, weights=weights, input_shape=(*size, 3), **options)


def _cut(model: keras.Model, row: Backbone, layer: str) -> keras.Model:
    """Return the network up to a layer, or to several, as outputs in the order of their names."""
    import keras

    names, layers = [item.name for item in model.layers], layers_of(layer)
    for layer in layers:
        if layer in names:
            continue
        raise BackboneError(
            f"The backbone '{row.name}' has no layer '{layer}'; its last layers are {', '.join(names[-8:])}."
            f"{did_you_mean(layer, names)}"
        )
    outputs = [model.get_layer(layer).output for layer in layers]
    return keras.Model(model.input, outputs if len(outputs) > 1 else outputs[0])


def _correct_efficientnet_input(model: keras.Model) -> None:
    """Scale the input as ``keras.applications`` does for ``weights="imagenet"`` alone, where the same weights come from a file.

    The stored variance takes the factor in: x / sqrt(var) / sqrt(std) = x / sqrt(var * std).
    """
    import keras

    layer = next(item for item in model.layers if isinstance(item, keras.layers.Normalization))
    variance = keras.ops.convert_to_numpy(layer.adapt_variance)
    layer.adapt_variance.assign(variance * np.asarray(_EFFICIENTNET_STD, variance.dtype))
    layer.finalize_state()


def fill_randomly(model: keras.Model, seed: int = 0) -> None:
    """Give every kernel seeded He-normal values (He et al. 2015, https://arxiv.org/abs/1502.01852), equal on every Keras backend.

    They are drawn with numpy, and keyed by the position of the weight; all else keeps its constant start.
    """
    import keras

    depthwise = {layer.kernel.path for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)}
    for position, weight in enumerate(model.weights):
        if not weight.name.endswith("kernel"):
            if weight.name in _PLAIN:  # as it is, but a constant: Keras on OpenVINO would compute each anew
                weight.assign(np.full(weight.shape, _PLAIN[weight.name], np.float32))
            continue
        shape = tuple(weight.shape)
        by_channel = weight.path in depthwise or "depthwise" in weight.name
        fan_in = int(np.prod(shape[:2] if by_channel else shape[:-1]))
        generator = np.random.default_rng([seed, position, zlib.crc32(weight.name.encode())])
        weight.assign(generator.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan_in)))
