"""The reference engine: Keras 3, on whichever backend and device it is set up with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ffe.images.preprocess import CAFFE_BGR_MEAN, TORCH_RGB_MEAN, TORCH_RGB_STD
from ffe.specs import ExtractSpec, PreprocessMode

if TYPE_CHECKING:
    import keras


class KerasEngine:
    """Runs a Keras model; uint8 goes to the device and is scaled there.

    Args:
        model: from float32 (N, H, W, 3), scaled, to features of any rank.
        spec: what the model was built from.
        batch_size: every call is padded to it, so that one graph is traced and
            a row does not depend on how full its batch is.

    Attributes: see ``ffe.engines.base.Engine``; ``backbone`` is the model.
    """

    name = "keras"

    def __init__(self, model: keras.Model, spec: ExtractSpec, batch_size: int) -> None:
        import keras

        self.backbone = model
        self.batch_size = batch_size
        self.grid = grid_of(model)
        pixels = keras.Input((*spec.preprocess.size, 3), dtype="uint8")
        scaled = _scaling_layer(spec.preprocess.mode)(pixels)
        flat = keras.layers.Flatten(dtype="float32")(model(scaled, training=False))
        self._model = keras.Model(pixels, flat)
        # On TensorFlow's CPU, XLA is slower than the graph (8 against 91 images a second for MobileNet).
        on_cpu = keras.config.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")
        self._model.compile(jit_compile=False if on_cpu else "auto")

    def extract(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (N, h * w * c); see ``ffe.engines.base.Engine.extract``."""
        count = len(images)
        if count < self.batch_size:
            padded = np.zeros((self.batch_size, *images.shape[1:]), np.uint8)
            padded[:count] = images
            images = padded
        return np.asarray(self._model.predict_on_batch(images), np.float32)[:count]


def grid_of(model: keras.Model) -> tuple[int, int, int]:
    """Return (h, w, c) of a model's output; (1, 1, c) where it is a plain vector."""
    shape = [int(n) for n in model.output_shape[1:]]
    *space, channels = shape
    height = space[0] if space else 1
    return height, math.prod(space[1:]), channels


def _scaling_layer(mode: PreprocessMode) -> keras.layers.Layer:
    """Return a layer that does on the device what ``ffe.images.preprocess`` does in numpy."""
    import keras

    class Scaling(keras.layers.Layer):
        def call(self, images):  # type: ignore[no-untyped-def]
            x = keras.ops.cast(images, "float32")
            if mode == "tf":
                return x / 127.5 - 1.0
            if mode == "caffe":
                return keras.ops.flip(x, axis=-1) - np.asarray(CAFFE_BGR_MEAN, np.float32)
            if mode == "torch":
                return (x / 255.0 - np.asarray(TORCH_RGB_MEAN, np.float32)) / np.asarray(TORCH_RGB_STD, np.float32)
            return x

    return Scaling(dtype="float32")
