"""The engine for CPUs: OpenVINO, with several batches in flight."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ffe.base.openvino_ir import OTHER_ENGINES, IrModel, check_graph, import_openvino, layout_of
from ffe.base.system import cores
from ffe.engines.base import Engine, padded
from ffe.errors import EngineError, one_line

if TYPE_CHECKING:
    import openvino

BATCH_SIZE = 8

_engines: weakref.WeakSet[OpenVinoEngine] = weakref.WeakSet()


class OpenVinoEngine(Engine):
    """Runs an IR model, float32 or int8, on the CPU; the scaling of the pixels is part of the model.

    As many batches, each padded to ``batch_size``, are in flight as OpenVINO has streams, so that no core waits for
    the slowest layer of another's batch. With a batch size of 1 all cores work on the one image instead: a single
    photo is answered soonest so. Where no other batch is on its way, such a graph takes one that is not full, image by
    image; from the second one on, for a single one may be the end of a run. ``size`` is the (height, width) that the
    model takes.
    """

    name = "openvino"
    on_cpu = True
    exact = True

    def __init__(self, model: IrModel, batch_size: int = BATCH_SIZE) -> None:
        self._ov = import_openvino()
        self._weights = np.require(model.weights, requirements="W")  # OpenVINO insists, and reads only
        try:
            check_graph(model)
            self._model = self._ov.Core().read_model(model.xml.decode(), self._ov.Tensor(self._weights, shared_memory=True))
            self._shape = [n.get_length() for n in list(self._model.output(0).partial_shape)[1:]]
            self.layout = layout_of(model, self._shape)
            _, height, width, _ = self._model.input(0).partial_shape
            self.size = (height.get_length(), width.get_length())
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"The backbone is no network that OpenVINO reads ({one_line(error)}); make it again.") from error
        self.seconds = 0.0
        self._compiled_for = 0
        self.batch_size = batch_size
        self.sizes = (*(n for n in (1, 2, 4, 8) if n < batch_size), batch_size)
        try:
            self._compile()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot run the backbone ({one_line(error)}); {OTHER_ENGINES}.") from error

    def _compile(self) -> None:
        self._process, self._lock = os.getpid(), threading.RLock()
        _engines.add(self)
        compiled = self._graph(self.batch_size)
        self.in_flight = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._free = [compiled.create_infer_request() for _ in range(self.in_flight)]
        self._running: deque[_Batch] = deque()
        self._compiled_for = self.batch_size
        self._not_full = 0  # batches so far that were not, and came alone
        self._alone: openvino.InferRequest | None = None  # of the graph of one image

    def _graph(self, batch_size: int) -> openvino.CompiledModel:
        self._model.reshape([batch_size, *self.size, 3])
        settings = {
            "PERFORMANCE_HINT": "THROUGHPUT" if batch_size > 1 else "LATENCY",
            "INFERENCE_NUM_THREADS": cores(),
            "ENABLE_CPU_PINNING": False,  # decoding works on the same cores: a stream goes where there is room
            # newer CPUs would take bfloat16 otherwise, and give other features
            "INFERENCE_PRECISION_HINT": self._ov.Type.f32,
        }
        return self._ov.Core().compile_model(self._model, "CPU", settings)

    def start(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """Start a batch on a free stream; see ``ffe.engines.base.Engine.start``."""
        if self._process != os.getpid():  # a fork takes no threads along, and a lock as it was
            self._compile()
        with self._lock:
            if self.batch_size != self._compiled_for:
                while self._running:
                    self._end(self._running[0])
                self._compile()
            if len(images) < self.batch_size and not self._running:
                self._not_full += 1
                if self._not_full > 1:
                    return self._one_by_one(images)
            if not self._free:
                self._end(self._running[0])
            pixels = np.require(padded(images, self.batch_size), requirements=("C", "W"))
            rows = np.empty((self.batch_size, *self._shape), np.float32)
            batch = _Batch(self._free.pop(), pixels, self._weights, rows, len(images))
            self._running.append(batch)
            batch.request.set_input_tensor(self._ov.Tensor(batch.images, shared_memory=True))
            batch.request.set_output_tensor(self._ov.Tensor(batch.rows, shared_memory=True))
            batch.request.start_async()
        return lambda: self._result(batch)

    def _one_by_one(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """Return a function that computes the images, each with all cores."""
        if self._alone is None:
            self._alone = self._graph(1).create_infer_request()
        request, rows = self._alone, list[np.ndarray]()

        def wait() -> np.ndarray:
            with self._lock:
                for image in images[len(rows) :]:
                    pixels = np.require(image[None], requirements=("C", "W"))
                    request.set_input_tensor(self._ov.Tensor(pixels, shared_memory=True))
                    request.infer()
                    rows.append(np.array(request.get_output_tensor().data, np.float32).reshape(-1))
                    self.seconds += request.latency / 1000
            return np.stack(rows)

        return wait

    def _result(self, batch: _Batch) -> np.ndarray:
        with self._lock:
            self._end(batch)
        if batch.error is not None:
            raise batch.error
        assert batch.features is not None
        return batch.features

    def _end(self, batch: _Batch) -> None:
        """Wait for a batch, keep what it computed or how it failed, and free its stream; once."""
        if batch not in self._running:
            return
        try:
            batch.request.wait()
            batch.features = batch.rows[: batch.count].reshape(batch.count, -1)
            self.seconds += batch.request.latency / 1000 / self.in_flight
        except Exception as error:  # it belongs to whoever asks for this batch's result
            batch.error = error
        self._running.remove(batch)
        self._free.append(batch.request)


def _keep_for_ever() -> None:
    """Let no object that OpenVINO made before a fork end in the child: it would wait for threads that are not there."""
    import ctypes

    for engine in _engines:
        for request in (*engine._free, *(call.request for call in engine._running), *filter(None, [engine._alone])):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(request))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_for_ever)


@dataclass(eq=False)
class _Batch:
    """A batch on its way: the first ``count`` of its images are asked for.

    It may be let go before it has ended, with its engine, after an error or Ctrl-C. The request, which goes first, waits until
    nothing is computed any more; what it reads goes after it.
    """

    request: openvino.InferRequest
    images: np.ndarray
    weights: np.ndarray
    rows: np.ndarray  # that it writes
    count: int
    features: np.ndarray | None = None
    error: Exception | None = None
