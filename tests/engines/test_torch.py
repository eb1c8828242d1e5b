"""The engine for backbones of timm and Hugging Face on a GPU, here on the processor."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.backbones.registry import Network, TorchSource, source_of
from ffe.backbones.resolve import make_spec
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.base.openvino_ir import IrModel
from ffe.commands.verify import verify
from ffe.engines import factory
from ffe.engines.base import Engine
from ffe.engines.factory import check_backbone, open_engine
from ffe.errors import EngineError
from ffe.extraction.run import extract
from ffe.images.preprocess import preprocess
from ffe.specs import BackboneSpec, Channels, ExtractSpec, Precision, PreprocessMode, PreprocessSpec
from ffe.testing import EngineContract

torch = pytest.importorskip("torch", reason="PyTorch is not installed; pip install -e '.[torch]'")

from ffe.engines.torch import TorchEngine, compiled, rows_module  # noqa: E402

pytestmark = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")

SIZE = (64, 96)
SMALL = "timm:mobilenetv4_conv_small_035"
TOKENS = "timm:vit_tiny_patch16_224"
LAYERS = "blocks.1,blocks.3"
TOLERANCE = 1e-4  # of the largest feature, to OpenVINO


@functools.cache
def network() -> tuple[ExtractSpec, Network]:
    spec, weights = make_spec(SMALL, SIZE, "random")
    source = source_of(SMALL)
    assert isinstance(source, TorchSource)
    return spec, source.to_torch(spec.backbone, SIZE, weights)


@functools.cache
def engine_of(batch_size: int) -> TorchEngine:
    return TorchEngine(network()[1], network()[0], batch_size)


class TestTorchEngine(EngineContract):
    size = SIZE

    def make(self, batch_size: int) -> Engine:
        return engine_of(batch_size)

    def spatial(self, images: np.ndarray) -> np.ndarray:
        """The plain network on pixels that numpy scaled."""
        spec = network()[0].preprocess
        scaled = preprocess(images, spec.mode, mean=spec.mean, std=spec.std)
        with torch.no_grad():
            (grid,) = network()[1].model(torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy()))
        return grid.permute(0, 2, 3, 1).numpy()


def test_grid_is_not_square() -> None:
    """So that the contract's order test can fail."""
    assert engine_of(4).layout.grid == (2, 3, 336)


def test_one_photo_is_not_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, asked = engine_of(4), list[int]()
    run = engine._module
    monkeypatch.setattr(engine, "_module", lambda images: (asked.append(len(images)), run(images))[1])
    for count in (1, 4, 3):
        engine.extract(np.zeros((count, *SIZE, 3), np.uint8))
    assert asked == [1, 4, 3]


@pytest.mark.parametrize(("name", "size", "layer"), [(SMALL, SIZE, None), (TOKENS, (32, 48), None), (SMALL, 64, LAYERS)])
def test_openvino_gives_the_same(name: str, size: Any, layer: str | None) -> None:
    spec, weights = make_spec(name, size, "random", layer)
    images = np.random.default_rng(0).integers(0, 256, (3, *spec.preprocess.size, 3), np.uint8)
    expected = open_engine(spec, weights, name="openvino")
    engine = open_engine(spec, weights, name="torch", batch_size=4)
    assert engine.name == "torch"
    assert engine.on_cpu
    assert engine.layout == expected.layout
    rows, others = engine.extract(images), expected.extract(images)
    assert np.abs(rows - others).max() <= TOLERANCE * np.abs(others).max()
    assert others.std() > 0
    assert engine.seconds > 0


def test_a_model_of_hugging_face_gives_the_same(tmp_path: Path) -> None:
    """Its position embedding is resized, once on each device."""
    from ffe.backbones.torch_library import import_library

    transformers = import_library("hf:x", "transformers")
    config = transformers.Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14)
    transformers.Dinov2Model(config).save_pretrained(tmp_path)
    transformers.BitImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}).save_pretrained(tmp_path)
    spec, weights = make_spec(f"hf:{tmp_path}", 28, "random")
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3), np.uint8)
    engine = open_engine(spec, weights, name="torch")
    rows, others = engine.extract(images), open_engine(spec, weights, name="openvino").extract(images)
    assert engine.layout == FeatureLayout((Part(2, 2, 24, 1),))
    assert np.abs(rows - others).max() <= TOLERANCE * np.abs(others).max()


@pytest.mark.parametrize(
    ("mode", "channels", "layout"),
    [
        ("tf", None, "NHWC"),
        ("caffe", None, "NCHW"),
        ("torch", None, "NCHW"),
        ("none", None, "NCHW"),
        ("normalize", None, "NCHW"),
        ("normalize", "bgr", "NCHW"),
        ("normalize", "gray", "NCHW"),
    ],
)
def test_every_mode_is_scaled_like_the_reference(mode: PreprocessMode, channels: Channels | None, layout: Any) -> None:
    """A network that gives what it is given, so that the difference is that of the scaling alone."""
    count = 1 if channels == "gray" else 3
    numbers: dict[str, Any] = {"mean": (0.3, 0.5, 0.7)[:count], "std": (0.1, 0.2, 0.4)[:count]} if mode == "normalize" else {}

    class Given(torch.nn.Module):  # type: ignore[misc]
        def forward(self, batch: Any) -> tuple[Any, ...]:
            return (batch, batch.flatten(1)[:, :2])

    given = Network(Given(), layout, (layout, "NC"), FeatureLayout((Part(8, 12, count), Part(1, 1, 2))))
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
    with torch.no_grad():
        rows = rows_module(given, PreprocessSpec((8, 12), mode, channels=channels, **numbers))(torch.from_numpy(images)).numpy()
    expected = preprocess(images, mode, channels=channels, **numbers)
    assert rows.dtype == np.float32
    assert rows.shape == (2, given.layout.dims)
    np.testing.assert_allclose(rows[:, :-2].reshape(expected.shape), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("precision", "apart"), [("mixed_float16", 0.02), ("mixed_bfloat16", 0.1)])
def test_half_precision_is_near(precision: Precision, apart: float) -> None:
    """Not equal, or it would not be in use."""
    images = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), np.uint8)
    spec, weights = make_spec(SMALL, SIZE, "random", precision=precision)
    engine = open_engine(spec, weights, batch_size=4)
    assert engine.name == "torch"
    rows, whole = engine.extract(images), engine_of(4).extract(images)
    assert rows.dtype == np.float32
    assert 0 < np.abs(rows - whole).max() <= apart * np.abs(whole).max()


def test_what_cannot_be_compiled_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    said: list[str] = []

    def breaks(batch: Any) -> Any:
        calls.append(batch)
        raise RuntimeError("no compiler\nanywhere")

    monkeypatch.setattr("ffe.engines.torch.log.warning", lambda text, *values: said.append(text % values))
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: breaks)
    run = compiled(lambda batch: batch + 1)
    assert [run(1), run(2)] == [2, 3]
    assert calls == [1]
    assert said == [
        "PyTorch cannot compile the backbone (RuntimeError: no compiler anywhere), so it runs as it is, which is slower."
    ]


def test_networks_are_compiled_however_many_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch gives up, with a warning of its own, at the ninth variant of one piece of code."""
    seen = []

    def backend(graph: Any, _: Any) -> Any:
        seen.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    for number in range(10):
        run = compiled(_Plus(number))
        assert run(torch.zeros(1)).item() == run(torch.zeros(1)).item() == number
    assert len(seen) == 10


class _Plus(torch.nn.Module):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, batch: Any) -> Any:
        return batch + self.number


def test_nothing_is_said_of_bits_that_could_be_given_up() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        compiled(_Plus(0))
        warnings.warn("TensorFloat32 tensor cores for float32 matrix multiplication available but not enabled.", stacklevel=1)
    assert not [each for each in said if "TensorFloat32" in str(each.message)]


def test_want_of_memory_is_no_failure_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the batch is halved, and the network compiled for it."""

    def full(batch: int) -> int:
        if batch > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return -batch

    monkeypatch.setattr(torch, "compile", lambda module, dynamic: full)
    run = compiled(lambda batch: batch + 1)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run(2)
    assert run(1) == -1


@pytest.mark.parametrize(
    ("backbone", "name", "precision", "installed", "sentence"),
    [
        (
            "efficientnetlite0",
            "torch",
            "float32",
            True,
            "The engine torch runs the backbones of timm and Hugging Face, and 'efficientnetlite0' is none of them; "
            "use --engine auto.",
        ),
        (
            "onnx:0123456789ab",
            "torch",
            "float32",
            True,
            "The engine torch runs the backbones of timm and Hugging Face, and 'onnx:0123456789ab' is none of them; "
            "use --engine auto.",
        ),
        (SMALL, "torch", "int8", True, "The engine torch has no precision int8; use --engine openvino, or --precision float32."),
        (
            SMALL,
            "openvino",
            "mixed_float16",
            True,
            "The engine openvino has no precision mixed_float16; use --engine torch, or --precision float32.",
        ),
        (
            "onnx:0123456789ab",
            "auto",
            "mixed_float16",
            True,
            "The engine openvino has no precision mixed_float16; use --precision float32.",
        ),
        *(
            (
                SMALL,
                name,
                precision,
                False,
                "The engine torch needs the package torch, which is not installed; install it with 'pip install torch', "
                "or use --engine openvino and --precision float32.",
            )
            for name, precision in (("torch", "float32"), ("auto", "mixed_bfloat16"))
        ),
        (
            SMALL,
            "keras",
            "float32",
            True,
            f"The backbone '{SMALL}' is none of Keras's, so the engine keras cannot run it; use --engine openvino.",
        ),
    ],
)
def test_what_cannot_be_is_said(
    monkeypatch: pytest.MonkeyPatch, backbone: str, name: str, precision: Precision, installed: bool, sentence: str
) -> None:
    monkeypatch.setattr(factory, "has_torch", lambda: installed)
    with pytest.raises(EngineError) as caught:
        check_backbone(backbone, name, precision)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("backbone", "name", "precision", "instead"),
    [
        (SMALL, "openvino", "float32", ", or use --engine torch and --precision float32."),
        (SMALL, "auto", "int8", ", or use --engine torch and --precision float32."),
        ("onnx:0123456789ab", "auto", "float32", "."),
    ],
)
def test_what_to_take_without_openvino_can_run_the_backbone(
    monkeypatch: pytest.MonkeyPatch, backbone: str, name: str, precision: Precision, instead: str
) -> None:
    monkeypatch.setattr(factory, "has_openvino", lambda: False)
    with pytest.raises(EngineError) as caught:
        check_backbone(backbone, name, precision)
    packages = "openvino nncf" if precision == "int8" else "openvino"
    assert str(caught.value).endswith(f" with 'pip install {packages}'{instead}")


@pytest.mark.parametrize("name", ["auto", "openvino"])
def test_a_saved_backbone_runs_on_openvino_whatever_precision_made_its_features(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spec = ExtractSpec(BackboneSpec(SMALL, "random", "0" * 64), PreprocessSpec((8, 8), "none"), "mixed_float16")
    ir = IrModel(b"", np.zeros(0, np.uint8))
    monkeypatch.setattr(factory, "_on_cpu", lambda spec, model, name, batch_size: model)
    assert factory.open_saved_engine(spec, ir=ir, keras_file=nullcontext, name=name) is ir
    monkeypatch.setattr(factory, "has_openvino", lambda: False)
    with pytest.raises(EngineError, match=r"install it with 'pip install openvino'\.$"):
        factory.open_saved_engine(spec, ir=ir, keras_file=nullcontext, name=name)


@pytest.mark.parametrize(
    ("openvino", "gpu", "name", "precision", "expected"),
    [
        (True, False, "auto", "float32", "openvino"),
        (True, True, "auto", "float32", "torch"),
        (False, False, "auto", "float32", "torch"),
        (True, True, "auto", "int8", "openvino"),
        (True, True, "openvino", "float32", "openvino"),
        (True, False, "auto", "mixed_float16", "torch"),
    ],
)
def test_who_runs_what(
    monkeypatch: pytest.MonkeyPatch, openvino: bool, gpu: bool, name: str, precision: Precision, expected: str
) -> None:
    monkeypatch.setattr(factory, "may_have_gpu", lambda: gpu)
    monkeypatch.setattr(factory, "torch_device", lambda: "cuda")
    monkeypatch.setattr(factory, "has_openvino", lambda: openvino)
    monkeypatch.setattr(factory, "_on_torch", lambda *arguments: "torch")
    monkeypatch.setattr(factory, "_on_cpu", lambda *arguments: "openvino")
    monkeypatch.setattr(factory, "float_model", lambda *arguments: None)
    spec, weights = make_spec(SMALL, SIZE, "random")
    assert open_engine(replace(spec, precision=precision), weights, name=name) == expected  # type: ignore[comparison-overlap]


def test_features_can_be_recomputed_by_either_engine(pictures: Path, tmp_path: Path) -> None:
    made = extract(pictures, tmp_path / "f.h5", backbone=SMALL, size=64, weights="random", engine="torch", batch_size=8)
    assert made.engine == "torch"
    for engine in ("torch", "openvino"):
        found = verify(tmp_path / "f.h5", source=pictures, recompute=5, engine=engine, weights="random")
        assert found.recomputed == 5
        assert found.ok, found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
def test_a_forked_process_is_told_to_begin_anew() -> None:
    """PyTorch's threads do not come along: it would wait for them for ever."""
    code = f"""
import os
import numpy as np
from ffe.backbones.resolve import make_spec
from ffe.engines.factory import open_engine
from ffe.errors import EngineError
spec, weights = make_spec("{SMALL}", 64, "random")
engine = open_engine(spec, weights, name="torch", batch_size=2)
images = np.zeros((2, 64, 64, 3), np.uint8)
engine.extract(images)
if (child := os.fork()) == 0:
    for use in (lambda: engine.extract(images), lambda: open_engine(spec, weights, name="torch")):
        try:
            use()
        except EngineError as error:
            print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
engine.extract(images)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300)
    said = (
        "PyTorch cannot go on in a forked process; begin anew in each process, or start processes with "
        "multiprocessing.get_context('spawn')."
    )
    assert (done.stdout.splitlines(), done.returncode) == ([said, said], 0), done.stderr
