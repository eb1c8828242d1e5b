"""The engine ncnn: the contract, every operation against OpenVINO, and which engine is the faster."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.base.openvino_ir import IrModel, import_openvino
from ffe.engines import fastest as fastest_module
from ffe.engines.base import Engine
from ffe.engines.fastest import fastest, remembered, winner
from ffe.engines.ncnn import NcnnEngine, read_graph
from ffe.engines.ncnn_convert import gains
from ffe.engines.openvino import OpenVinoEngine
from ffe.engines.openvino_convert import to_ir
from ffe.errors import EngineError
from ffe.testing import EngineContract

SIZE = (32, 48)
KEY = "0" * 32


def constant(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)


def network(tail: Any = None) -> IrModel:
    """Every operation that is written for ncnn: scaling, convolutions of all paddings, a block with a way around it, pooling."""
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
    x = op.group_convolution(x, constant(16, 1, 1, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1], "explicit")
    x = op.multiply(x, constant(1, 16, 1, 1, seed=2))
    x = op.relu(op.add(x, around))
    x = op.clamp(op.add(convolution(x, 16, 24, "same_lower", step=2), np.float32([[[[0.5]]]])), 0.0, 4.0)
    x = op.avg_pool(x, [2, 2], [1, 1], [1, 1], [2, 2], True, "floor", "explicit")
    x = op.transpose(x if tail is None else tail(op, x), [0, 2, 3, 1])
    return to_ir(ov.Model([x], [image]), {})


@functools.cache
def model() -> IrModel:
    return network()


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


@pytest.mark.parametrize(("rates", "chosen"), [((10.0, 10.4), "openvino"), ((10.0, 10.6), "ncnn")])
def test_auto_measures_once_and_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rates: tuple[float, float], chosen: str
) -> None:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path))
    measured: list[str] = []

    def rate(engine: Engine, pixels: np.ndarray, seconds: float) -> float:
        measured.append(engine.name)
        return dict(zip(("openvino", "ncnn"), rates, strict=True))[engine.name]

    monkeypatch.setattr(fastest_module, "images_per_second", rate)
    assert fastest(KEY, model()).name == chosen
    assert measured == ["openvino", "ncnn"] * 2
    assert fastest(KEY, model()).name == chosen
    assert len(measured) == 4
    assert remembered(KEY) == dict(zip(("openvino", "ncnn"), rates, strict=True))


def test_without_a_choice_openvino_is_taken() -> None:
    assert winner({"openvino": 0.0}) == winner({}) == "openvino"


def test_a_model_that_is_sent_names_its_engine() -> None:
    assert fastest(KEY, replace(model(), record={"engine": "ncnn"})).name == "ncnn"
    assert fastest(KEY, replace(model(), record={"engine": "openvino"})).name == "openvino"
