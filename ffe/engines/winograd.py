"""The engine for networks of 3x3 convolutions on CPUs: Winograd's algorithm, which takes fewer products."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from ffe.base.blas import one_blas_thread
from ffe.base.openvino_ir import IrModel, check_graph, import_openvino, layout_of
from ffe.base.system import cores
from ffe.engines.base import Engine, padded
from ffe.engines.winograd_convert import TOGETHER, convert
from ffe.errors import EngineError, one_line

BATCH_SIZE = 2 * TOGETHER

_engines: weakref.WeakSet[WinogradEngine] = weakref.WeakSet()


class WinogradEngine(Engine):
    """Runs a float32 IR model on the CPU, six images at a time on each core.

    Products are NumPy's, of BLAS; the rest is compiled, once on a machine (``ffe.engines.winograd_kernels``). It rounds otherwise
    than direct convolutions do. ``size`` is the (height, width) that the model takes.
    """

    name = "winograd"
    on_cpu = True
    exact = True

    def __init__(self, model: IrModel, batch_size: int = BATCH_SIZE) -> None:
        graph = read_graph(model)
        self.size = tuple(graph.input(0).get_shape()[1:3])
        self.layout = layout_of(model, list(graph.output(0).get_shape())[1:])
        self._steps = convert(graph)
        self.batch_size, self.sizes = batch_size, (batch_size,)
        self._readers = Counter(name for step in self._steps.values() for name in step.inputs)
        self.seconds = 0.0
        self._begin()

    def _begin(self) -> None:
        self._lock, self._cores = threading.Lock(), cores()
        self.in_flight = max(2, -(-2 * self._cores * TOGETHER // self.batch_size))  # no core waits for those of an earlier batch
        self._pool = ThreadPoolExecutor(self._cores, thread_name_prefix="ffe-winograd")
        self._memory = threading.local()
        _engines.add(self)

    def start(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """Hand the images to the cores; see ``ffe.engines.base.Engine.start``."""
        some = [self._pool.submit(self._rows, images[i : i + TOGETHER]) for i in range(0, len(images), TOGETHER)]

        def result() -> np.ndarray:
            wait(some)
            return np.concatenate([rows.result() for rows in some])

        return result

    def _rows(self, images: np.ndarray) -> np.ndarray:
        """Return the rows of up to ``TOGETHER`` images, computed on one core."""
        started = time.perf_counter()
        free = self._memory.__dict__.setdefault("free", list[np.ndarray]())  # of this thread: the system clears new memory first
        made, readers = dict[str, np.ndarray](), Counter(self._readers)
        with one_blas_thread():
            for name, step in self._steps.items():
                grids = made[name] = _taken(free, (TOGETHER, *step.shape))
                if step.inputs:
                    step.compute(*(made[read] for read in step.inputs), grids)
                else:
                    grids[:] = padded(images, TOGETHER)
                for read in step.inputs:
                    readers[read] -= 1
                    if not readers[read]:
                        free.append(made.pop(read).base)
        rows = grids[: len(images)].reshape(len(images), -1).copy()
        free.append(grids.base)
        with self._lock:
            self.seconds += (time.perf_counter() - started) / self._cores
        return rows


def _taken(free: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Return float32 of a shape, in the smallest memory of ``free`` that is large enough and is taken out, or in new memory."""
    size = int(np.prod(shape))
    fits = [i for i, memory in enumerate(free) if memory.size >= size]
    memory = free.pop(min(fits, key=lambda i: free[i].size)) if fits else np.empty(size, np.float32)
    return memory[:size].reshape(shape)


def _begin_anew() -> None:
    """A fork takes no threads along, and a lock as it was."""
    for engine in _engines:
        engine._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def read_graph(model: IrModel) -> Any:
    """Return an IR model as an ``openvino.Model`` of one image."""
    ov = import_openvino()
    try:
        check_graph(model)
        graph = ov.Core().read_model(model.xml.decode(), ov.Tensor(np.require(model.weights, requirements="W")))
        graph.reshape([1, *list(graph.input(0).partial_shape)[1:]])
        layout_of(model, list(graph.output(0).get_shape())[1:])  # an error where the shape is not fixed, or another
    except (ValueError, RuntimeError) as error:
        raise EngineError(f"The backbone is no network that OpenVINO reads ({one_line(error)}); make it again.") from error
    return graph
