"""A small network in OpenVINO's representation, of most operations that the engine winograd knows."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ffe.base.openvino_ir import IrModel, import_openvino
from ffe.engines.openvino_convert import to_ir

SIZE = (32, 48)


def constant(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)


def network(tail: Any = None) -> IrModel:
    """Scaling, convolutions of all paddings, a block with a way around it, and pooling."""
    ov = import_openvino()
    op = ov.opset13
    image = op.parameter([-1, *SIZE, 3], ov.Type.u8)
    x = op.subtract(op.convert(image, "f32"), np.float32([[[[120, 110, 100]]]]))
    x = op.divide(x, np.float32([[[[60]]]]))
    x = op.transpose(x, [0, 3, 1, 2])

    def convolution(x: Any, read: int, made: int, how: str, step: int = 1) -> Any:
        return op.convolution(x, constant(made, read, 3, 3), [step, step], [0, 0], [0, 0], [1, 1], how)

    x = op.relu(op.add(convolution(x, 3, 16, "same_upper"), constant(1, 16, 1, 1, seed=1)))
    x = around = op.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2], "floor", "explicit").output(0)
    x = op.pad(x, [0, 0, 1, 1], [0, 0, 1, 1], "constant", np.float32(0))
    x = op.clamp(convolution(x, 16, 16, "valid"), 0.0, 6.0)
    x = op.multiply(x, constant(1, 16, 1, 1, seed=2))
    x = op.relu(op.add(x, around))
    x = op.clamp(op.add(convolution(x, 16, 24, "same_lower", step=2), np.float32([[[[0.5]]]])), 0.0, 4.0)
    x = op.avg_pool(x, [2, 2], [1, 1], [1, 1], [2, 2], True, "floor", "explicit")
    x = op.transpose(x if tail is None else tail(op, x), [0, 2, 3, 1])
    return to_ir(ov.Model([x], [image]), {})


@functools.cache
def model() -> IrModel:
    return network()
