"""The engine ncnn: the contract, and every operation against OpenVINO."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from small_network import SIZE, constant, model, network

from ffe.engines.base import Engine
from ffe.engines.ncnn import NcnnEngine, read_graph
from ffe.engines.ncnn_convert import gains
from ffe.engines.openvino import OpenVinoEngine
from ffe.errors import EngineError
from ffe.testing import EngineContract


@functools.cache
def engine_of(batch_size: int) -> NcnnEngine:
    return NcnnEngine(model(), batch_size)


class TestNcnnEngine(EngineContract):
    size = SIZE
    tolerance = 5e-4  # of Winograd convolutions

    def make(self, batch_size: int) -> Engine:
        return engine_of(batch_size)

    def spatial(self, images: np.ndarray) -> np.ndarray:
        """The model through OpenVINO's plain call."""
        rows = OpenVinoEngine(model(), len(images)).extract(images)
        return rows.reshape(len(images), *self.make(4).layout.grid)


def test_what_is_not_written_is_refused() -> None:
    text = r"^The engine ncnn does not know the operation Sigmoid of this backbone; use --engine openvino\.$"
    with pytest.raises(EngineError, match=text):
        NcnnEngine(network(lambda op, x: op.sigmoid(x)))


def test_only_networks_of_3x3_convolutions_gain() -> None:
    def pointwise(op: Any, x: Any) -> Any:
        return op.convolution(x, constant(512, 24, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1])

    assert gains(read_graph(model()))
    assert not gains(
        read_graph(
            network(lambda op, x: op.convolution(pointwise(op, x), constant(512, 512, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1]))
        )
    )
