"""The graphics processors that Keras and PyTorch can use here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ffe.backbones.float32 import whole_float32

if TYPE_CHECKING:
    import keras


def torch_device() -> str:
    """Return where PyTorch runs fastest: ``cuda`` (NVIDIA and AMD), ``mps`` (Apple) or ``cpu``; PyTorch is loaded."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def keras_gpus() -> int:
    """Return how many GPUs Keras can use, on whichever backend it runs; Keras is loaded.

    Keras can list the devices of TensorFlow and JAX alone, and JAX raises where it is asked for GPUs and has none.
    """
    import keras

    backend = keras.config.backend()
    if backend == "torch":
        import torch

        return torch.cuda.device_count() or int(torch_device() != "cpu")
    if backend not in {"tensorflow", "jax"}:
        return 0
    return sum(device.startswith(("gpu", "cuda", "rocm")) for device in keras.distribution.list_devices())


def predicted(model: keras.Model, batch: np.ndarray) -> np.ndarray:
    """Return what a compiled model gives for a batch, float32 (N, ...), computed in ``whole_float32``."""
    with whole_float32():
        return np.asarray(model.predict_on_batch(batch), np.float32)
