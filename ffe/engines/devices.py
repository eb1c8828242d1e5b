"""The graphics processors that Keras and PyTorch can use here."""

from __future__ import annotations


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
