"""The engine ncnn: the contract, and every operation against OpenVINO."""

from __future__ import annotations

import functools
import re
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_network import SIZE, constant, model, network

from ffe.base.digests import bytes_digest, canonical_json
from ffe.base.openvino_ir import IrModel, import_openvino
from ffe.engines.base import Engine
from ffe.engines.ncnn import BATCH_SIZE, NcnnEngine, _computed, _loaded, read_graph
from ffe.engines.ncnn_convert import CONVERTER, convert, gains
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


WIDTHS = (340, 352, 352, 0, 336)  # 0 = a pooling


def chain(size: tuple[int, int], widths: tuple[int, ...] = WIDTHS) -> IrModel:
    """Convolutions of large kernels on small grids, with a pooling between them, as at the end of VGG."""
    ov = import_openvino()
    op = ov.opset13
    image = op.parameter([-1, *size, 3], ov.Type.u8)
    x = op.transpose(op.divide(op.convert(image, "f32"), np.float32([[[[60]]]])), [0, 3, 1, 2])
    read, step = 3, 2
    for made in widths:
        if made:
            x = op.convolution(x, constant(made, read, 3, 3), [step] * 2, [1, 1], [1, 1], [1, 1])
            x = op.relu(op.add(x, constant(1, made, 1, 1, seed=1)))
            read, step = made, 1
        else:
            x = op.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2], "floor", "explicit").output(0)
    return to_ir(ov.Model([op.transpose(x, [0, 2, 3, 1])], [image]), {})


@pytest.mark.parametrize(("size", "tile"), [((20, 36), 4), ((36, 20), 4), ((36, 72), 6), ((64, 34), 6)])
def test_images_that_share_weights_have_the_bits_of_each_alone(
    size: tuple[int, int], tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast path of full batches against one image after another, at every place beside others, and against OpenVINO."""
    monkeypatch.setattr("ffe.engines.ncnn.cores", lambda: 2)  # of more, each image would have its own
    network = chain(size)
    parts = convert(read_graph(network))
    assert [part.together for part in parts] == [False, True, True, False, True]
    assert [part.tile for part in parts] == [4, tile, tile, 4, 4]
    images = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, *size, 3), np.uint8)
    engine = NcnnEngine(network)
    alone = np.concatenate([engine.extract(image[None]) for image in images])
    for turn in range(4):
        np.testing.assert_array_equal(engine.extract(np.roll(images, turn, axis=0)), np.roll(alone, turn, axis=0))
    for count in (3, 5):
        np.testing.assert_array_equal(engine.extract(images[:count]), alone[:count])
    expected = OpenVinoEngine(network).extract(images)
    np.testing.assert_allclose(alone, expected, rtol=0, atol=5e-4 * np.abs(expected).max())


def test_large_tiles_are_for_large_grids() -> None:
    """A chain is cut where they end; they round otherwise, within the bound."""
    network = chain((38, 70), (24, 64, 64, 0, 64))
    parts = convert(read_graph(network))
    assert [(part.tile, part.together) for part in parts] == [(6, False), (4, False)]
    images = np.random.default_rng(0).integers(0, 256, (3, 38, 70, 3), np.uint8)
    rows, expected = NcnnEngine(network).extract(images), OpenVinoEngine(network).extract(images)
    np.testing.assert_allclose(rows, expected, rtol=0, atol=5e-4 * np.abs(expected).max())
    unknown = replace(parts[0], param=re.sub(" -23330=.*", "", parts[0].param))  # the shapes, without which ncnn has tiles of 2
    grid = np.ascontiguousarray(images[0].transpose(2, 0, 1), np.float32)
    large, small = (_computed(part, _loaded(part), grid) for part in (parts[0], unknown))
    assert not np.array_equal(large, small)
    assert convert(read_graph(model()))[0].tile == 4  # no chain


def test_networks_that_are_written_otherwise_are_known_by_another_number() -> None:
    """Where this fails, ``CONVERTER`` goes up, so that ``auto`` measures again."""
    parts = [part for size in ((36, 72), (20, 36)) for part in convert(read_graph(chain(size)))]
    written = canonical_json([[part.param, len(part.weights), part.together, part.tile] for part in parts])
    assert (CONVERTER, bytes_digest(written)[:16]) == (1, "b7776657566ed5d7")


def test_a_call_alone_takes_all_cores_and_others_behind_it_share_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.engines.ncnn.cores", lambda: BATCH_SIZE)
    engine, counts, begin = NcnnEngine(chain((20, 36))), list[int](), threading.Event()

    def rows_of(images: np.ndarray, rows_of: Any = engine._rows) -> list[np.ndarray]:
        counts.append(len(images))
        begin.wait()
        return rows_of(images)  # type: ignore[no-any-return]

    monkeypatch.setattr(engine, "_rows", rows_of)
    images = np.random.default_rng(0).integers(0, 256, (BATCH_SIZE, 20, 36, 3), np.uint8)
    alone, behind = engine.start(images), engine.start(images)
    begin.set()
    np.testing.assert_array_equal(alone(), behind())
    assert sorted(counts) == [*[1] * BATCH_SIZE, 4, 4]
    assert len(engine.extract(images)) == BATCH_SIZE
    assert sorted(counts) == [*[1] * 2 * BATCH_SIZE, 4, 4]


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
