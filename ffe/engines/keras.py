"""The reference engine: Keras 3, on whichever backend and device it is set up with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from ffe.base.feature_layout import FeatureLayout
from ffe.base.forks import check_same_process
from ffe.engines.base import Engine, padded
from ffe.engines.devices import keras_gpus, predicted
from ffe.images.preprocess import scaling_of
from ffe.specs import ExtractSpec, PreprocessMode

if TYPE_CHECKING:
    import keras


class KerasEngine(Engine):
    """Runs a Keras model from float32 (N, H, W, 3), scaled, to features of any rank; uint8 is scaled on the device.

    It is not ``exact``: on processors without AVX-512, TensorFlow's rows differed in their last bit (1e-7) with the fill of
    the batch and with their neighbours. Two graphs are traced, of ``batch_size`` images and of one: on a CPU, images that do
    not fill a batch are computed one by one. On a GPU they are padded, which costs less there than another graph. ``float32``
    stays float32 there (no TF32).
    """

    name = "keras"
    exact = False
    in_flight = 2  # one at work, and the next one ready, so that the device does not wait for the caller

    def __init__(self, model: keras.Model, spec: ExtractSpec, batch_size: int) -> None:
        import keras

        self.backbone = model
        self.batch_size = batch_size
        self.seconds = 0.0
        self.layout = FeatureLayout.of_shapes(output.shape[1:] for output in model.outputs)
        pixels = keras.Input((*spec.preprocess.size, 3), dtype="uint8")
        scaled = _scaling_layer(spec.preprocess.mode)(pixels)
        outputs = model(scaled, training=False)
        flat = [keras.layers.Flatten(dtype="float32")(each) for each in (outputs if isinstance(outputs, list) else [outputs])]
        self._model = keras.Model(pixels, flat[0] if len(flat) == 1 else keras.layers.Concatenate(dtype="float32")(flat))
        # On TensorFlow's CPU, XLA is slower than the graph (8 against 91 images a second for MobileNet).
        has_gpu = keras_gpus() > 0
        self._model.compile(jit_compile="auto" if has_gpu or keras.config.backend() != "tensorflow" else False)
        self.on_cpu = not has_gpu
        # On a GPU larger batches can pay, and rows depend on more than the batch size anyway.
        self.sizes = tuple(batch_size * n for n in (1, 2, 4, 8)) if has_gpu else (batch_size,)
        self._device = ThreadPoolExecutor(1, thread_name_prefix="ffe-keras")
        self._process = os.getpid()

    def start(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """Hand a batch to the thread that feeds the device; see ``ffe.engines.base.Engine.start``."""
        check_same_process(self._process, "The engine keras")
        return self._device.submit(self._run, images, self.batch_size).result

    def _run(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        started = time.perf_counter()
        one_by_one = self.on_cpu and len(images) < batch_size
        calls = images[:, None] if one_by_one else [padded(images, batch_size)]
        features = np.concatenate([predicted(self._model, call) for call in calls])[: len(images)]
        self.seconds += time.perf_counter() - started
        return features


def _scaling_layer(mode: PreprocessMode) -> keras.layers.Layer:
    """Return a layer that does on the device what ``ffe.images.preprocess`` does in numpy."""
    import keras

    scaling = scaling_of(mode)

    class Scaling(keras.layers.Layer):
        def call(self, images):  # type: ignore[no-untyped-def]
            x = keras.ops.cast(images, "float32")
            return scaling.scaled(keras.ops.flip(x, axis=-1) if scaling.channels == "bgr" else x, keras.ops)

    return Scaling(dtype="float32")
