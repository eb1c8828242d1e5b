"""The engine winograd: the contract, every operation against OpenVINO, and the same bits at every place of a batch."""

from __future__ import annotations

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from small_network import SIZE, constant, model, network
from threadpoolctl import threadpool_info

from ffe.base.feature_layout import FeatureLayout
from ffe.base.openvino_ir import IrModel, import_openvino
from ffe.engines.base import Engine
from ffe.engines.openvino import OpenVinoEngine
from ffe.engines.openvino_convert import to_ir
from ffe.engines.winograd import BATCH_SIZE, WinogradEngine, read_graph
from ffe.engines.winograd_convert import TOGETHER, gains
from ffe.engines.winograd_convolution import Convolution
from ffe.errors import EngineError
from ffe.testing import EngineContract

BOUND = 5e-4  # of the largest feature: what Winograd's algorithm rounds otherwise


@functools.cache
def engine_of(batch_size: int) -> WinogradEngine:
    return WinogradEngine(model(), batch_size)


class TestWinogradEngine(EngineContract):
    size = SIZE
    tolerance = BOUND

    def make(self, batch_size: int) -> Engine:
        return engine_of(batch_size)

    def spatial(self, images: np.ndarray) -> np.ndarray:
        """The model through OpenVINO's plain call."""
        rows = OpenVinoEngine(model(), len(images)).extract(images)
        return rows.reshape(len(images), *self.make(4).layout.grid)


def chain(size: tuple[int, int], widths: tuple[int, ...], tail: Any = None) -> IrModel:
    """Convolutions of so many channels and rectifiers, one after another, as in VGG; 0 = a pooling."""
    ov = import_openvino()
    op = ov.opset13
    image = op.parameter([-1, *size, 3], ov.Type.u8)
    x = op.transpose(op.divide(op.convert(image, "f32"), np.float32([[[[60]]]])), [0, 3, 1, 2])
    read = 3
    for made in widths:
        if made:
            x = op.convolution(x, constant(made, read, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1])
            x = op.relu(op.add(x, constant(1, made, 1, 1, seed=1)))
            read = made
        else:
            x = op.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2], "floor", "explicit").output(0)
    x = op.transpose(x, [0, 2, 3, 1])
    return to_ir(ov.Model([x if tail is None else tail(op, x)], [image]), {})


def pictures(count: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)


def blas_threads() -> list[int]:
    """Return how many threads NumPy's products take; empty where threadpoolctl does not know its library."""
    return [library["num_threads"] for library in threadpool_info() if "numpy" in library["filepath"]]


def assert_near(rows: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(rows, expected, rtol=0, atol=BOUND * np.abs(expected).max())


# 53x44: 72 tiles, 20 and 2 of the grids behind the poolings; 17x19: 12, 4 and 1
@pytest.mark.portable
@pytest.mark.parametrize("size", [(53, 44), (17, 19)])
def test_images_have_the_same_bits_at_every_place(size: tuple[int, int]) -> None:
    network = chain(size, (40, 64, 0, 130, 0, 64))
    images = pictures(BATCH_SIZE, size)
    engine = WinogradEngine(network)
    alone = np.concatenate([engine.extract(image[None]) for image in images])
    for turn in range(TOGETHER):
        np.testing.assert_array_equal(engine.extract(np.roll(images, turn, axis=0)), np.roll(alone, turn, axis=0))
    for count in (2, TOGETHER + 1, BATCH_SIZE - 1):
        np.testing.assert_array_equal(engine.extract(images[:count]), alone[:count])
    assert_near(alone, OpenVinoEngine(network, len(images)).extract(images))


@pytest.mark.portable
def test_engines_side_by_side_hold_blas_together() -> None:
    """Two at once, as several backbones are, and four callers of each: the same bits, and BLAS as before."""
    engines = [engine_of(4), WinogradEngine(chain((17, 19), (40, 64)), 4)]
    images = [pictures(12, engine.size) for engine in engines]

    def ask(number: int) -> np.ndarray:
        engine, some = engines[number % 2], images[number % 2]
        calls = [engine.start(some[i : i + 4]) for i in (0, 4, 8)]
        return np.concatenate([call() for call in calls])

    expected, before = [ask(0), ask(1)], blas_threads()
    with ThreadPoolExecutor(8) as pool:
        for number, rows in enumerate(pool.map(ask, range(16))):
            np.testing.assert_array_equal(rows, expected[number % 2])
    assert blas_threads() == before


def test_what_goes_wrong_is_told_when_all_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, images, before = WinogradEngine(model()), pictures(BATCH_SIZE, SIZE), blas_threads()
    expected = engine.extract(images)
    with monkeypatch.context() as patch:
        patch.setattr(engine._steps["1"], "compute", lambda *grids: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.extract(images)
    assert blas_threads() == before
    np.testing.assert_array_equal(engine.extract(images), expected)


@pytest.mark.portable
def test_blas_has_one_thread_while_it_computes_and_as_many_as_before_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else several threads would share each product, and add it in another order."""

    engine, seen = engine_of(4), list[list[int]]()
    step = engine._steps["1"]
    monkeypatch.setattr(step, "compute", lambda *grids, compute=step.compute: (seen.append(blas_threads()), compute(*grids)))
    before = blas_threads()
    engine.extract(pictures(4, SIZE))
    assert blas_threads() == before
    assert seen == [[1] * len(before)]


@pytest.mark.parametrize(
    ("size", "padding"),
    [
        *itertools.product([(6, 6), (5, 13), (12, 7)], [(1, 1, 1, 1), (0, 0, 0, 0), (2, 0, 0, 2), (0, 1, 2, 0)]),
        ((1, 1), (1, 1, 1, 1)),
        ((1, 1), (2, 0, 0, 2)),
    ],
)
def test_tiles_equal_windows(size: tuple[int, int], padding: tuple[int, int, int, int]) -> None:
    """The fast way against the slow one, at grids that are and that are not of whole tiles."""
    top, bottom, left, right = padding
    height, width = size[0] + top + bottom - 2, size[1] + left + right - 2
    rng = np.random.default_rng(0)
    kernel, grids = rng.normal(size=(3, 3, 16, 24)).astype(np.float32), rng.normal(size=(2, *size, 16)).astype(np.float32)
    results = []
    for by_tiles in (True, False):
        convolution = Convolution(kernel, (1, 1), (1, 1), padding, by_tiles)
        convolution.bias, convolution.low, convolution.high = np.float32(np.arange(24) / 24), -3.0, 9.0
        convolution.prepare()
        results.append(np.full((2, height, width, 24), np.nan, np.float32))
        convolution(grids, results[-1])
    tiles, windows = results
    assert_near(tiles, windows)
    assert windows.min() == -3
    assert windows.max() == 9 or min(size) == 1


def test_what_is_no_number_stays_none() -> None:
    """A rectifier must not hide weights that are broken."""
    for by_tiles in (True, False):
        convolution = Convolution(np.full((3, 3, 16, 16), np.nan, np.float32), (1, 1), (1, 1), (1, 1, 1, 1), by_tiles)
        convolution.low = 0.0
        convolution.prepare()
        found = np.zeros((1, 7, 7, 16), np.float32)
        convolution(np.ones((1, 7, 7, 16), np.float32), found)
        assert np.isnan(found).all()


def test_a_grid_may_be_flattened_at_the_end() -> None:
    """As PyTorch's networks come from their conversion."""
    network = chain((20, 14), (24, 24), lambda op, x: op.reshape(x, np.int64([0, -1]), True))
    images = pictures(3, (20, 14))
    engine, expected = WinogradEngine(network), OpenVinoEngine(network)
    assert engine.layout == expected.layout == FeatureLayout.of_shape([20 * 14 * 24])
    assert_near(engine.extract(images), expected.extract(images))


def test_what_is_not_known_is_refused() -> None:
    text = r"^The engine winograd does not know the operation {} of this backbone; use --engine openvino\.$"
    with pytest.raises(EngineError, match=text.format("Sigmoid")):
        WinogradEngine(network(lambda op, x: op.sigmoid(x)))
    columns = np.ones((1, 1, 1, 7), np.float32)  # one number for each column, not for each channel
    with pytest.raises(EngineError, match="Multiply of more than one number for each channel"):
        WinogradEngine(network(lambda op, x: op.multiply(x, columns)))
    with pytest.raises(EngineError, match=text.format("Convert")):
        WinogradEngine(network(lambda op, x: op.convert(op.convert(x, "i32"), "f32")))
    half = np.ones((1, 24, 1, 1), np.float16)
    with pytest.raises(EngineError, match=text.format("Convert")):  # of a constant
        WinogradEngine(network(lambda op, x: op.add(x, op.convert(op.constant(half), "f32"))))
    with pytest.raises(EngineError, match=text.format("Pad")):
        WinogradEngine(network(lambda op, x: op.pad(x, [0, 0, -1, 0], [0, 0, 0, 0], "constant", np.float32(0))))
    grouped = constant(24, 1, 1, 3, 3)
    with pytest.raises(EngineError, match=text.format("GroupConvolution")):
        WinogradEngine(network(lambda op, x: op.group_convolution(x, grouped, [1, 1], [1, 1], [1, 1], [1, 1], "explicit")))


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
    images = pictures(2, SIZE)
    assert_near(WinogradEngine(to_ir(graph, {})).extract(images), OpenVinoEngine(plain).extract(images))


def test_large_pictures_take_much_memory_and_gain_little() -> None:
    assert gains(read_graph(chain((280, 280), (64, 64))))
    assert not gains(read_graph(chain((300, 300), (64, 64))))


def test_only_networks_of_3x3_convolutions_gain() -> None:
    def pointwise(op: Any, x: Any) -> Any:
        return op.convolution(x, constant(512, 24, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1])

    assert gains(read_graph(model()))
    assert not gains(
        read_graph(
            network(lambda op, x: op.convolution(pointwise(op, x), constant(512, 512, 1, 1), [1, 1], [0, 0], [0, 0], [1, 1]))
        )
    )
