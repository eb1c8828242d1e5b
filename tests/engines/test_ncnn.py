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
from ffe.engines.openvino_convert import to_ir
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


def test_a_grid_of_one_place_may_be_reshaped_at_the_end() -> None:
    """As OpenVINO makes it of the transposition, in VGG for pictures of less than 64 pixels."""
    from openvino._offline_transformations import apply_moc_transformations

    def pooled(op: Any, x: Any) -> Any:
        sides = [side.get_length() for side in list(x.output(0).get_partial_shape())[2:]]
        return op.avg_pool(x, [1, 1], [0, 0], [0, 0], sides, True, "floor", "explicit")

    plain = network(pooled)
    graph = read_graph(plain)
    apply_moc_transformations(graph, cf=True)
    kinds = [node.get_type_name() for node in graph.get_ordered_ops()]
    assert kinds[-2:] == ["Reshape", "Result"]
    images = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8)
    rows, expected = NcnnEngine(to_ir(graph, {})).extract(images), OpenVinoEngine(plain).extract(images)
    np.testing.assert_allclose(rows, expected, rtol=0, atol=5e-4 * np.abs(expected).max())


def test_only_networks_of_3x3_convolutions_gain() -> None:
    def pointwise(op: Any, x: Any) -> Any:
        return op.convolution(x, constant(512, 24, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1])

    assert gains(read_graph(model()))
    assert not gains(
        read_graph(
            network(lambda op, x: op.convolution(pointwise(op, x), constant(512, 512, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1]))
        )
    )
