"""The engine for convolutions on CPUs without much arithmetic: ncnn, whose Winograd convolutions take fewer products."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ffe.base.feature_layout import FeatureLayout
from ffe.base.openvino_ir import IrModel, check_graph, import_openvino
from ffe.base.system import cores
from ffe.engines.base import Engine
from ffe.engines.ncnn_convert import NcnnModel, convert
from ffe.errors import EngineError, one_line

BATCH_SIZE = 8
_BESIDE = 4  # images that share the weights of a convolution; of more, the products are the limit again


class NcnnEngine(Engine):
    """Runs a float32 IR model, written anew for ncnn, on the CPU: every image on one core, a full batch behind another in fours.

    Winograd convolutions (Lavin and Gray, https://arxiv.org/abs/1509.09308) of 4 and 6 outputs round otherwise than direct ones.
    ``size`` is the (height, width) that the model takes.
    """

    name = "ncnn"
    on_cpu = True
    exact = True

    def __init__(self, model: IrModel, batch_size: int = BATCH_SIZE) -> None:
        graph = read_graph(model)
        _, height, width, _ = graph.input(0).get_shape()
        self.size = (height, width)
        self.layout = FeatureLayout.of_shape(list(graph.output(0).get_shape())[1:])
        self._parts = [(replace(part, weights=b""), _loaded(part)) for part in convert(graph)]
        self.batch_size, self.sizes = batch_size, (batch_size,)
        self.seconds = 0.0
        self._begin()

    def _begin(self) -> None:
        self._process, self._lock, self._cores = os.getpid(), threading.Lock(), cores()
        self.in_flight = max(2, -(-2 * self._cores * _BESIDE // self.batch_size))  # no core waits for those of an earlier batch
        self._pool = ThreadPoolExecutor(self._cores, thread_name_prefix="ffe-ncnn")
        self._latest: list[Future[list[np.ndarray]]] = []  # of the call before

    def start(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """Hand the images to the cores; see ``ffe.engines.base.Engine.start``."""
        if self._process != os.getpid():  # a fork takes no threads along, and a lock as it was
            self._begin()
        idle = all(rows.done() for rows in self._latest)  # sharing weights would leave cores without work
        each = min(_BESIDE, -(-len(images) // self._cores)) if idle or len(images) < BATCH_SIZE else _BESIDE
        self._latest = some = [self._pool.submit(self._rows, images[i : i + each]) for i in range(0, len(images), each)]
        return lambda: np.stack([row for rows in some for row in rows.result()])

    def _rows(self, images: np.ndarray) -> list[np.ndarray]:
        """Return the row of each image; where they share weights, the bits are those of each alone."""
        started = time.perf_counter()
        grids = [np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) for image in images]
        for part, net in self._parts:
            if part.together:
                beside, places = _beside(grids, part.tile)
                found = _computed(part, net, beside)
                grids = [found[place] for place in places]
            else:
                grids = [_computed(part, net, grid) for grid in grids]
        rows = [(grid.transpose(1, 2, 0) if grid.ndim == 3 else grid).reshape(-1) for grid in grids]
        with self._lock:
            self.seconds += (time.perf_counter() - started) / self._cores
        return rows


def _beside(grids: Sequence[np.ndarray], tile: int) -> tuple[np.ndarray, list[tuple[slice, ...]]]:
    """Return float32 grids (c, h, w) as one, and where each lies in it: all begin with a tile, and zeros are between them.

    They lie along their longer side: by the shorter one ncnn may choose how to compute.
    """
    shape = list(grids[0].shape)
    axis = 1 if shape[1] > shape[2] else 2
    long = shape[axis]
    pitch = (long // tile + 1) * tile
    places = [(slice(None),) * axis + (slice(i * pitch, i * pitch + long),) for i in range(len(grids))]
    shape[axis] = places[-1][axis].stop
    beside = np.zeros(shape, np.float32)
    for place, grid in zip(places, grids, strict=True):
        beside[place] = grid
    return beside, places


def _computed(part: NcnnModel, net: Any, grid: np.ndarray) -> np.ndarray:
    import ncnn

    grid = np.ascontiguousarray(grid)  # named, for a Mat does not hold it
    run = net.create_extractor()
    run.input(part.source, ncnn.Mat(grid).clone())  # a layer may compute in place
    code, found = run.extract(part.result)
    if code:
        raise EngineError(f"ncnn could not compute an image (code {code}); use --engine openvino.")
    return np.array(found)


def read_graph(model: IrModel) -> Any:
    """Return an IR model as an ``openvino.Model`` of one image."""
    ov = import_openvino()
    try:
        check_graph(model)
        graph = ov.Core().read_model(model.xml.decode(), ov.Tensor(np.require(model.weights, requirements="W")))
        graph.reshape([1, *list(graph.input(0).partial_shape)[1:]])
    except (ValueError, RuntimeError) as error:
        raise EngineError(
            f"The backbone is no network that can be written for ncnn ({one_line(error)}); make it again."
        ) from error
    return graph


def _loaded(part: NcnnModel) -> Any:
    """Return a network that computes in float32, each image in the thread that asks."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_winograd23_convolution = net.opt.use_winograd43_convolution = part.tile == 4  # or ncnn never takes 6
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage", "vulkan_compute"):
        if hasattr(net.opt, f"use_{name}"):
            setattr(net.opt, f"use_{name}", False)
    with TemporaryDirectory(prefix="ffe-ncnn-") as name:  # from memory ncnn would not copy the weights
        folder = Path(name)
        (folder / "param").write_text(part.param, "utf-8")
        (folder / "weights").write_bytes(part.weights)
        if net.load_param(str(folder / "param")) or net.load_model(str(folder / "weights")):
            raise EngineError("ncnn cannot load the backbone; use --engine openvino.")
    return net
