"""Float32 that stays float32 on a GPU, where Keras's backends and PyTorch take TF32, of which 10 bits are left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


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


def torch_float32() -> contextlib.AbstractContextManager[None]:
    """Let PyTorch's convolutions compute float32 as float32 on a GPU; its products do already."""
    import torch

    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
