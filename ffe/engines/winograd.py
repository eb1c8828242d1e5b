"""The engine for networks of 3x3 convolutions on CPUs: Winograd's algorithm, which takes fewer products."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from ffe.base.openvino_ir import IrModel, check_graph, import_openvino, layout_of
from ffe.base.system import cores
from ffe.engines.base import Engine, padded
from ffe.engines.winograd_convert import convert
from ffe.errors import EngineError, one_line

BATCH_SIZE = 12
TOGETHER = 6  # images that share the weights; why six, says ``ffe.engines.winograd_convolution``


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
        _, height, width, _ = graph.input(0).get_shape()
        self.size = (height, width)
        self.layout = layout_of(model, list(graph.output(0).get_shape())[1:])
        self._steps = convert(graph)
        self.batch_size, self.sizes = batch_size, (batch_size,)
        self._readers = Counter(name for step in self._steps.values() for name in step.inputs)
        self.seconds = 0.0
        self._begin()

    def _begin(self) -> None:
        self._process, self._lock, self._cores = os.getpid(), threading.Lock(), cores()
        self.in_flight = max(2, -(-2 * self._cores * TOGETHER // self.batch_size))  # no core waits for those of an earlier batch
        self._pool = ThreadPoolExecutor(self._cores, thread_name_prefix="ffe-winograd")
        self._memory = threading.local()  # of each thread, for grids: new memory would be cleared first
        self._blas, self._busy = ThreadpoolController(), 0
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="ffe-blas")  # threadpoolctl listens to one thread at a time

    def start(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """Hand the images to the cores; see ``ffe.engines.base.Engine.start``."""
        if self._process != os.getpid():  # a fork takes no threads along, and a lock as it was
            self._begin()
        some = [self._pool.submit(self._rows, images[i : i + TOGETHER]) for i in range(0, len(images), TOGETHER)]
        return lambda: np.concatenate([rows.result() for rows in some])

    def _rows(self, images: np.ndarray) -> np.ndarray:
        """Return the rows of up to ``TOGETHER`` images, computed on one core."""
        started = time.perf_counter()
        free = self._memory.__dict__.setdefault("free", defaultdict(list))
        made, readers = dict[str, np.ndarray](), Counter(self._readers)
        with self._one_thread():
            for name, step in self._steps.items():
                kept = free[step.shape]
                grids = made[name] = kept.pop() if kept else np.empty((TOGETHER, *step.shape), np.float32)
                if step.inputs:
                    step.compute(*(made[read] for read in step.inputs), grids)
                else:
                    grids[:] = padded(images, TOGETHER)
                for read in step.inputs:
                    readers[read] -= 1
                    if not readers[read]:
                        free[self._steps[read].shape].append(made.pop(read))
        rows = grids[: len(images)].reshape(len(images), -1).copy()
        free[step.shape].append(grids)
        with self._lock:
            self.seconds += (time.perf_counter() - started) / self._cores
        return rows

    @contextlib.contextmanager
    def _one_thread(self) -> Iterator[None]:
        """Hold BLAS to the thread that asks, while any images are computed: there is one for each core."""
        with self._lock:
            self._busy += 1
            if self._busy == 1:
                self._held = self._keeper.submit(lambda: self._blas.limit(limits=1, user_api="blas").__enter__()).result()
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                if not self._busy:
                    self._keeper.submit(self._held.__exit__, None, None, None).result()


def read_graph(model: IrModel) -> Any:
    """Return an IR model as an ``openvino.Model`` of one image."""
    ov = import_openvino()
    try:
        check_graph(model)
        graph = ov.Core().read_model(model.xml.decode(), ov.Tensor(np.require(model.weights, requirements="W")))
        graph.reshape([1, *list(graph.input(0).partial_shape)[1:]])
    except (ValueError, RuntimeError) as error:
        raise EngineError(f"The backbone is no network that OpenVINO reads ({one_line(error)}); make it again.") from error
    return graph
