"""The engine for backbones of timm and Hugging Face on a GPU: PyTorch, compiled, with the next batch copied meanwhile."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ffe.backbones.float32 import torch_float32
from ffe.backbones.registry import Network
from ffe.base.forks import check_torch
from ffe.engines.base import Engine, padded
from ffe.engines.devices import torch_device
from ffe.errors import one_line
from ffe.images.preprocess import GRAY_RGB, scaling_of
from ffe.specs import ExtractSpec, PreprocessSpec

BATCH_SIZE = 32

log = logging.getLogger("ffe")


class TorchEngine(Engine):
    """Runs a network of PyTorch on a GPU, or on the CPU; uint8 is scaled on the device.

    It is not ``exact``: kernels are chosen by the size of the batch, and on a GPU rows depend on more. There every call is
    padded to ``batch_size``, so that one graph is compiled. ``float32`` stays float32 (no TF32); mixed precisions are PyTorch's
    autocast.
    """

    name = "torch"
    exact = False
    in_flight = 2  # one at work, and the next one on its way to the device

    def __init__(self, network: Network, spec: ExtractSpec, batch_size: int = BATCH_SIZE) -> None:
        import torch

        device = torch_device()
        self.layout = network.layout
        self.batch_size = batch_size
        self.seconds = 0.0
        self.on_cpu = device == "cpu"
        self.sizes = (batch_size,) if self.on_cpu else tuple(batch_size * n for n in (1, 2, 4, 8))
        self._device = torch.device(device)
        half = {"mixed_float16": torch.float16, "mixed_bfloat16": torch.bfloat16}.get(spec.precision)
        self._module = rows_module(network, spec.preprocess, half).to(self._device)
        if device == "cuda":
            self._module = compiled(self._module)
            self._copies = torch.cuda.Stream()
        # one thread alone: in each, PyTorch compiles anew
        self._launcher = ThreadPoolExecutor(1, thread_name_prefix="ffe-torch")

    def start(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """Hand a batch to the thread that feeds the device; see ``ffe.engines.base.Engine.start``."""
        check_torch()
        if self._device.type != "cuda":
            return self._launcher.submit(self._run, images).result
        launched = self._launcher.submit(self._launch_on_cuda, images, self.batch_size)
        return lambda: self._finished(*launched.result(), len(images))

    def _run(self, images: np.ndarray) -> np.ndarray:
        started = time.perf_counter()
        with self._settings():
            features = self._module(_pixels(images).to(self._device)).cpu().numpy()
        self.seconds += time.perf_counter() - started
        return np.asarray(features)

    def _launch_on_cuda(self, images: np.ndarray, batch_size: int) -> tuple[Any, Any, Any]:
        """Put a batch on its way, while the one before is at work; return where its features will be, and when it is at work."""
        import torch

        pixels = _pixels(padded(images, batch_size)).pin_memory()
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with self._settings():
            with torch.cuda.stream(self._copies):
                on_device = pixels.to(self._device, non_blocking=True)
            compute = torch.cuda.current_stream()
            compute.wait_stream(self._copies)
            on_device.record_stream(compute)
            began.record(compute)
            features = self._module(on_device)
            copy = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
            copy.copy_(features, non_blocking=True)
            ended.record(compute)
        return copy, began, ended

    def _finished(self, copy: Any, began: Any, ended: Any, count: int) -> np.ndarray:
        ended.synchronize()
        self.seconds += began.elapsed_time(ended) / 1000
        return np.array(copy.numpy()[:count])

    @contextlib.contextmanager
    def _settings(self) -> Iterator[None]:
        import torch

        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self._device.type == "cuda":
                stack.enter_context(torch_float32())
            yield


def _pixels(images: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.require(images, requirements=("C", "W")))


def compiled(module: Any) -> Any:
    """Return a ``torch.nn.Module`` that is compiled at its first call; where that fails, it runs as it is, which is said.

    PyTorch compiles one piece of code for 8 sizes and networks at the most, and the code of all engines is the same: what it
    holds of earlier ones is forgotten. One that is in use still is compiled again.
    """
    import torch

    warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")  # advice to give up bits
    torch.compiler.reset()
    fast, whole = torch.compile(module, dynamic=False), True

    def run(batch: Any) -> Any:
        nonlocal whole
        if whole:
            try:
                return fast(batch)
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as error:  # the compiler raises many kinds, and what the network raises it raises again below
                whole = False
                log.warning("PyTorch cannot compile the backbone (%s), so it runs as it is, which is slower.", one_line(error))
        return module(batch)

    return run


def rows_module(network: Network, preprocess: PreprocessSpec, half: Any = None) -> Any:
    """Return a ``torch.nn.Module`` from uint8 (N, H, W, 3), RGB, to float32 (N, D), as ``network.layout`` says.

    It scales as ``ffe.images.preprocess`` does, in float32 whatever the precision of the network: ``half`` is the
    ``torch.dtype`` of its autocast, None = there is none. It is part of what is compiled, so no other engine's is taken.
    """
    import torch

    scaling = scaling_of(preprocess.mode, preprocess.mean, preprocess.std, preprocess.channels)
    mean = np.zeros(1) if scaling.bytes_mean is None else scaling.bytes_mean
    deviation = np.ones(1) if scaling.bytes_std is None else scaling.bytes_std

    class Rows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network.model
            self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
            self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float32))
            self.register_buffer("gray", torch.tensor(GRAY_RGB, dtype=torch.float32))

        def forward(self, images: Any) -> Any:
            x = images.float()
            if scaling.channels == "gray":
                x = (x * self.gray).sum(-1, keepdim=True)
            elif scaling.channels == "bgr":
                x = x.flip(-1)
            x = (x - self.mean) / self.deviation
            rows = []
            with torch.autocast(images.device.type, half, enabled=half is not None):
                outputs = self.network(x.permute(0, 3, 1, 2) if network.input_layout == "NCHW" else x)
            for output, axes in zip(outputs, network.output_layouts, strict=True):
                rows.append((output.permute(0, 2, 3, 1) if axes == "NCHW" else output).float().flatten(1))
            return torch.cat(rows, 1)

    return Rows().eval()
