"""The engine for CPUs: the contract for float32 and int8, parity with Keras, and what is particular to it."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.backbones.keras_build import build
from ffe.backbones.weights import random_weights
from ffe.base.openvino_ir import IrModel, import_openvino, write_ir
from ffe.engines.base import Engine
from ffe.engines.keras import KerasEngine
from ffe.engines.openvino import OpenVinoEngine
from ffe.engines.openvino_convert import _with_scaling, convert, quantize, to_ir
from ffe.images.preprocess import preprocess
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessMode, PreprocessSpec
from ffe.testing import EngineContract

LAYER = "conv_pw_6_relu"  # its output is a grid that is not square
SIZE = (32, 64)

SPEC = ExtractSpec(BackboneSpec("mobilenet_0.25", "random", random_weights().sha256, LAYER), PreprocessSpec(SIZE, "tf"))


@functools.cache
def keras_model() -> Any:
    return build(SPEC, random_weights())


@functools.cache
def float_ir() -> IrModel:
    return convert(SPEC, random_weights())


@functools.cache
def int8_ir() -> IrModel:
    return quantize(float_ir(), np.random.default_rng(7).integers(0, 256, (12, *SIZE, 3), np.uint8), {})


@functools.cache
def engine_of(precision: str, batch_size: int) -> OpenVinoEngine:
    return OpenVinoEngine(float_ir() if precision == "float32" else int8_ir(), batch_size)


@pytest.mark.portable
class TestOpenVinoEngine(EngineContract):
    size = SIZE
    tolerance = 1e-4

    def make(self, batch_size: int) -> Engine:
        return engine_of("float32", batch_size)

    def spatial(self, images: np.ndarray) -> np.ndarray:
        """The plain Keras model on pixels that numpy scaled."""
        return np.asarray(keras_model()(preprocess(images, "tf"), training=False))


@pytest.mark.portable
class TestInt8Engine(EngineContract):
    size = SIZE
    tolerance = 0.0

    def make(self, batch_size: int) -> Engine:
        return engine_of("int8", batch_size)

    def spatial(self, images: np.ndarray) -> np.ndarray:
        """The quantised model through OpenVINO's plain call, an image at a time."""
        ov = import_openvino()
        model = ov.Core().read_model(int8_ir().xml.decode(), ov.Tensor(int8_ir().weights))
        model.reshape([1, *SIZE, 3])
        compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return np.concatenate([compiled([image[None]])[0] for image in images])


@pytest.mark.parametrize(
    ("name", "size", "mode"),
    [
        ("vgg19", 48, "caffe"),
        ("mobilenet", 64, "tf"),
        pytest.param("mobilenetv2", 64, "tf", marks=pytest.mark.slow),
        ("efficientnetb0", 64, "none"),
        pytest.param("resnet50", 64, "caffe", marks=pytest.mark.slow),
    ],
)
def test_float32_equals_keras(name: str, size: int, mode: PreprocessMode) -> None:
    """Tolerance: 1e-4 of the largest feature."""
    spec = ExtractSpec(BackboneSpec(name, "random", random_weights().sha256), PreprocessSpec((size, size), mode))
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    expected = KerasEngine(build(spec, random_weights()), spec, 3).extract(images)
    engine = OpenVinoEngine(convert(spec, random_weights()), 3)
    assert engine.size == (size, size)
    np.testing.assert_allclose(engine.extract(images), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert expected.std() > 0


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch", "none"])
def test_every_mode_is_scaled_like_the_reference(mode: PreprocessMode) -> None:
    """A network of one average, so that the difference is that of the scaling alone."""
    ov = import_openvino()
    pixels = ov.opset13.parameter([-1, 32, 32, 3], ov.Type.f32)
    pooled = ov.opset13.reduce_mean(pixels, np.asarray([1, 2]), keep_dims=True)
    engine = OpenVinoEngine(to_ir(_with_scaling(ov.Model([pooled], [pixels]), "NHWC", PreprocessSpec((32, 32), mode)), {}), 4)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    assert engine.layout.grid == (1, 1, 3)
    np.testing.assert_allclose(engine.extract(images), preprocess(images, mode).mean(axis=(1, 2)), rtol=0, atol=2e-4)


@pytest.mark.portable
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_batches_that_are_not_full_are_computed_image_by_image_to_the_bit(precision: str) -> None:
    """From the second one on, where no other batch is on its way."""
    images = np.random.default_rng(0).integers(0, 256, (8, *SIZE, 3), np.uint8)
    engine = OpenVinoEngine(float_ir() if precision == "float32" else int8_ir(), 8)
    full = engine.extract(images)
    np.testing.assert_array_equal(engine.extract(images[:3]), full[:3])
    first, last = engine.start(images), engine.start(images[:5])
    np.testing.assert_array_equal(last(), full[:5])
    np.testing.assert_array_equal(first(), full)
    assert engine._alone is None  # a long run and its end need no other graph
    results = [engine.start(images[begin:end]) for begin, end in ((0, 1), (2, 5), (1, 8))]
    assert engine._alone is not None
    np.testing.assert_array_equal(engine.extract(images), full)
    for result, (begin, end) in zip(reversed(results), ((1, 8), (2, 5), (0, 1)), strict=True):
        np.testing.assert_array_equal(result(), full[begin:end])
        np.testing.assert_array_equal(result(), full[begin:end])


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_batch_sizes_agree_to_the_bit(precision: str) -> None:
    """So that the batch may shrink in the middle of a run and its file stays the same."""
    images = np.random.default_rng(0).integers(0, 256, (8, *SIZE, 3), np.uint8)
    full = engine_of(precision, 8).extract(images)
    for size in (1, 2, 4):
        rows = [engine_of(precision, size).extract(images[i : i + size]) for i in range(0, 8, size)]
        np.testing.assert_array_equal(np.concatenate(rows), full)


def test_more_calls_than_streams_and_results_in_any_order() -> None:
    engine = OpenVinoEngine(float_ir(), 2)
    images = np.random.default_rng(0).integers(0, 256, (20, *SIZE, 3), np.uint8)
    expected = [engine.extract(images[i : i + 2]) for i in range(0, 20, 2)]
    calls = [engine.start(images[i : i + 2]) for i in range(0, 20, 2)]
    for i in (9, 0, 5, 5, 1, 2, 3, 4, 6, 7, 8):
        np.testing.assert_array_equal(calls[i](), expected[i])
    assert engine.seconds > 0


class Failing:
    """A request that has ended, for want of memory."""

    def __init__(self, request: Any) -> None:
        request.wait()

    def wait(self) -> None:
        raise MemoryError("no room")


def test_every_call_has_its_own_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches on their way run out of memory: each says so, once and again, and the engine goes on."""
    engine = OpenVinoEngine(float_ir(), 2)
    images = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8)
    expected = engine.extract(images)
    calls = [engine.start(images) for _ in range(2)]
    for batch in engine._running:
        monkeypatch.setattr(batch, "request", Failing(batch.request))
    engine.batch_size = 1  # the smaller one waits for both
    engine._end(engine._running[0])
    engine._end(engine._running[0])
    for call in (*calls, *calls):
        with pytest.raises(MemoryError, match="no room"):
            call()
    np.testing.assert_array_equal(engine.extract(images[:1]), expected[:1])


def test_threads_may_share_an_engine() -> None:
    from concurrent.futures import ThreadPoolExecutor

    engine = OpenVinoEngine(float_ir(), 2)
    images = np.random.default_rng(0).integers(0, 256, (40, *SIZE, 3), np.uint8)
    expected = [engine.extract(images[i : i + 2]) for i in range(0, 40, 2)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: engine.extract(images[i : i + 2]), range(0, 40, 2)))
    np.testing.assert_array_equal(np.stack(found), np.stack(expected))


def test_an_engine_may_be_let_go_while_it_computes(tmp_path: Path) -> None:
    """As after Ctrl-C. OpenVINO reads biases where they lie, here in a file that was mapped, and is no longer then."""
    ov, generator = import_openvino(), np.random.default_rng(0)
    ops = ov.opset13
    pixels = ops.parameter([-1, 64, 64, 3], np.uint8)
    grid = ops.transpose(ops.convert(pixels, np.float32), ops.constant([0, 3, 1, 2]))
    for _ in range(40):
        weights, bias = (generator.standard_normal(shape, np.float32) for shape in ((3, 1, 1, 3, 3), (1, 3, 1, 1)))
        grid = ops.group_convolution(grid, ops.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1])
        grid = ops.relu(ops.add(grid, ops.constant(bias)))
    write_ir(tmp_path / "model.zip", to_ir(ov.Model([ops.reduce_mean(grid, ops.constant([2, 3]))], [pixels], "backbone"), {}))
    code = """
import gc, sys
from pathlib import Path
import numpy as np
from ffe.base.openvino_ir import read_ir
from ffe.engines.openvino import OpenVinoEngine
for circle in (False, True):  # those are let go by the collector of garbage
    engine = OpenVinoEngine(read_ir(Path(sys.argv[1])), 256)
    waiting = [engine.start(np.zeros((256, *engine.size, 3), np.uint8)) for _ in range(engine.in_flight)]
    if circle:
        engine.itself = engine
    del engine, waiting
    gc.collect()
print("gone")
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "model.zip"], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.returncode) == ("gone\n", 0), done.stderr


def test_batch_size_may_change_between_calls() -> None:
    engine = OpenVinoEngine(float_ir(), 8)
    images = np.random.default_rng(0).integers(0, 256, (8, *SIZE, 3), np.uint8)
    before = engine.start(images)
    engine.batch_size = 3
    after = engine.start(images[:3])
    np.testing.assert_array_equal(after(), before()[:3])


def test_one_image_gets_all_cores() -> None:
    assert OpenVinoEngine(float_ir(), 1).in_flight == 1


def test_conversion_and_quantisation_give_the_same_bytes_again() -> None:
    images = np.random.default_rng(7).integers(0, 256, (12, *SIZE, 3), np.uint8)
    again = convert(SPEC, random_weights())
    assert again.sha256 == float_ir().sha256
    assert quantize(again, images, {}).sha256 == int8_ir().sha256 != float_ir().sha256
    assert quantize(again, images[::-1] // 2, {}).sha256 != int8_ir().sha256


def test_int8_is_near_to_float32() -> None:
    images = np.random.default_rng(1).integers(0, 256, (8, *SIZE, 3), np.uint8)
    a, b = engine_of("float32", 8).extract(images), engine_of("int8", 8).extract(images)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert 0.98 < cosines.min() <= cosines.max() < 1


def test_quantisation_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to results."""
    quantize(float_ir(), np.zeros((2, *SIZE, 3), np.uint8), {})
    assert capsys.readouterr().out == ""


def test_nothing_reports_home() -> None:
    """Neither OpenVINO's converter nor NNCF finds the package that sends usage reports."""
    code = (
        "import sys\nfrom ffe.base.openvino_ir import import_openvino\nimport_openvino()\n"
        "import openvino.tools.ovc.telemetry_utils as utils\nassert utils.tm.__name__.endswith('telemetry_stub'), utils.tm\n"
        "import nncf.telemetry.wrapper as wrapper\nassert 'Mock' in type(wrapper.telemetry).__name__\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
