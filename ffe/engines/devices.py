"""The graphics processors that Keras and PyTorch can use here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

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


@contextlib.contextmanager
def whole_float32() -> Iterator[None]:
    """Let Keras compute float32 as float32 on a GPU, where each of its backends takes TF32, of which 10 bits are left."""
    import keras

    with contextlib.ExitStack() as stack:
        match keras.config.backend():
            case "torch":
                stack.enter_context(torch_float32())
            case "jax":
                import jax

                stack.enter_context(jax.default_matmul_precision("highest"))  # convolutions too
            case "tensorflow":
                from tensorflow.config import experimental as settings

                stack.callback(settings.enable_tensor_float_32_execution, settings.tensor_float_32_execution_enabled())
                settings.enable_tensor_float_32_execution(False)
        yield


def predicted(model: keras.Model, batch: np.ndarray) -> np.ndarray:
    """Return what a compiled model gives for a batch, float32 (N, ...), computed in ``whole_float32``."""
    with whole_float32():
        return np.asarray(model.predict_on_batch(batch), np.float32)


def torch_float32() -> contextlib.AbstractContextManager[None]:
    """Let PyTorch's convolutions compute float32 as float32 on a GPU; its products do already."""
    import torch

    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
