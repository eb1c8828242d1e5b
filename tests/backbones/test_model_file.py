"""A file as a backbone: what is read from it, what is asked for, what is refused; and that it gives what it gave before."""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.backbones.keras_build import build
from ffe.backbones.resolve import make_spec, weights_of
from ffe.backbones.torch_library import import_library
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.base.openvino_ir import import_openvino
from ffe.engines.factory import check_model, float_model, open_engine
from ffe.engines.openvino import OpenVinoEngine
from ffe.engines.openvino_convert import convert_here
from ffe.errors import BackboneError, EngineError, SpecError, WeightsError
from ffe.images.preprocess import preprocess
from ffe.specs import BackboneSpec

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
PIXELS = np.random.default_rng(7).integers(0, 256, (5, 64, 64, 3), np.uint8)


def features(path: Path, images: np.ndarray = PIXELS, **wish: Any) -> np.ndarray:
    """Return what a file gives as a backbone, float32 (N, D)."""
    return open_engine(*make_spec(str(path), **wish)).extract(images)


def assert_near(found: np.ndarray, expected: np.ndarray, share: float = 1e-4) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= share * np.abs(expected).max()


def write_onnx(
    path: Path,
    nodes: Callable[[Any], list[Any]],
    *,
    inputs: Mapping[str, tuple[str, list[Any]]] | None = None,
    outputs: tuple[str, ...] = ("y",),
    constants: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a small ONNX file; ``nodes`` gets ``onnx.helper.make_node``."""
    onnx = pytest.importorskip("onnx")
    helper, types = onnx.helper, onnx.TensorProto
    tensors = [
        value if isinstance(value, types) else onnx.numpy_helper.from_array(np.asarray(value), name)
        for name, value in (constants or {}).items()
    ]
    takes = inputs or {"x": ("FLOAT", ["n", 3, 32, 32])}
    graph = helper.make_graph(
        nodes(helper.make_node),
        "g",
        [helper.make_tensor_value_info(name, getattr(types, kind), shape) for name, (kind, shape) in takes.items()],
        [helper.make_tensor_value_info(name, types.FLOAT, None) for name in outputs],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("other", 1)], ir_version=8)
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())
    return path


def relu(node: Callable[..., Any]) -> list[Any]:
    return [node("Relu", ["x"], ["y"])]


def write_ir(path: Path, shape: list[int], kind: str = "f32", layout: str = "", **metadata: Any) -> Path:
    """Write an IR model that gives its input, plus one."""
    ov = import_openvino()
    from openvino import opset13 as ops

    source = ops.parameter(shape, getattr(ov.Type, kind), "x")
    if layout:
        source.set_layout(ov.Layout(layout))
    model = ov.Model([ops.relu(ops.add(ops.convert(source, "f32"), np.float32(1)), name="y")], [source], "g")
    for key, value in metadata.items():
        model.set_rt_info(value, key.split("__"))
    ov.save_model(model, path, compress_to_fp16=False)
    return path


# -- the features of the original --


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A folder with a network of Keras as ``.keras`` and IR, both NHWC, and the features of ffe's own; treat it as read-only.

    Its own is converted through TensorFlow, as these files are; the usual way differs in the last bits, see the parity tests.
    """
    ov, folder = import_openvino(), tmp_path_factory.mktemp("mobilenet")
    spec, weights = make_spec("mobilenet_0.25", 64, weights="random")
    model = build(spec, weights)
    model.save(folder / "m.keras")
    ov.save_model(ov.convert_model(model), folder / "m.xml", compress_to_fp16=False)
    return folder, OpenVinoEngine(convert_here(spec, weights)).extract(PIXELS)


@pytest.mark.parametrize("name", ["m.keras", "m.xml"])
def test_an_nhwc_file_gives_the_very_features_of_ffes_own_backbone(mobilenet: tuple[Path, np.ndarray], name: str) -> None:
    folder, expected = mobilenet
    np.testing.assert_array_equal(features(folder / name, changes=HALF), expected)
    spec, weights = make_spec(str(folder / name), changes=HALF)
    assert float_model(spec, weights).record["layout"] == [2, 2, 256]
    kind = {"m.keras": "keras", "m.xml": "openvino"}[name]
    assert spec.backbone == BackboneSpec(f"{kind}:{weights.sha256[:12]}", "file", weights.sha256)


def test_an_nhwc_onnx_gives_the_features_of_ffes_own_backbone(mobilenet: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """The very bits on some processors; where OpenVINO chooses other kernels for the other graph, they are rounded otherwise."""
    pytest.importorskip("tf2onnx")
    from ffe.backbones.safe_load import load_model

    model = load_model(mobilenet[0] / "m.keras")
    model(np.zeros((1, 64, 64, 3), np.float32))  # Keras exports what was called before
    model.export(tmp_path / "m.onnx", format="onnx", verbose=False)
    assert_near(features(tmp_path / "m.onnx", changes=HALF), mobilenet[1], 1e-5)


def test_nchw_files_give_the_features_of_the_network_of_pytorch(tmp_path: Path) -> None:
    """Grids lie channels last in a row, whatever the file has."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    ov, nn = import_openvino(), torch.nn
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1, groups=8), nn.GELU()]
    network = nn.Sequential(*layers).eval()
    batch = {"input_names": ["pixels"], "output_names": ["grid"], "dynamic_axes": {"pixels": {0: "n"}}, "dynamo": False}
    torch.onnx.export(network, torch.randn(1, 3, 64, 64), str(tmp_path / "free.onnx"), **batch)
    batch["dynamic_axes"] = {}
    torch.onnx.export(network, torch.randn(1, 3, 64, 64), str(tmp_path / "one.onnx"), **batch)
    ov.save_model(ov.Core().read_model(tmp_path / "free.onnx"), tmp_path / "free.xml", compress_to_fp16=False)
    scaled = preprocess(PIXELS, "normalize", **HALF)
    with torch.no_grad():
        grid = network(torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy())).numpy()
    expected = grid.transpose(0, 2, 3, 1).reshape(5, -1)
    for name in ("free.onnx", "one.onnx", "free.xml"):
        assert_near(features(tmp_path / name, changes=HALF), expected)
        assert float_model(*make_spec(str(tmp_path / name), changes=HALF)).record["layout"] == [16, 16, 16]


def write_tokens(path: Path, **metadata: str) -> Path:
    """Write a network of patches of 8x8 pixels, averaged, with one token before them."""

    def nodes(node: Callable[..., Any]) -> list[Any]:
        return [
            node("AveragePool", ["x"], ["grid"], kernel_shape=[8, 8], strides=[8, 8]),
            node("Reshape", ["grid", "flat"], ["channels"]),
            node("Transpose", ["channels"], ["patches"], perm=[0, 2, 1]),
            node("ReduceMean", ["patches"], ["class"], axes=[1], keepdims=1),
            node("Concat", ["class", "patches"], ["y"], axis=1),
        ]

    return write_onnx(path, nodes, constants={"flat": np.array([0, 3, -1])}, metadata=metadata)


def test_tokens_lie_behind_their_class_token(tmp_path: Path) -> None:
    path = write_tokens(tmp_path / "t.onnx", has_class_token="true")
    images = PIXELS[:, :32, :32]
    model = float_model(*make_spec(str(path), changes=HALF))
    assert model.record["layout"] == [[4, 4, 3, 1]]
    cells = preprocess(images, "normalize", **HALF).reshape(5, 4, 8, 4, 8, 3).mean(axis=(2, 4)).reshape(5, 16, 3)
    tokens = np.concatenate([cells.mean(axis=1, keepdims=True), cells], axis=1)
    assert_near(OpenVinoEngine(model).extract(images), tokens.reshape(5, -1))


@pytest.mark.parametrize(
    ("metadata", "layout", "warned"),
    [
        ({}, [[4, 4, 3, 1, 0]], True),
        ({"num_prefix_tokens": "1"}, [[4, 4, 3, 1, 0]], True),
        ({"num_prefix_tokens": "1", "num_reg_tokens": "1"}, [[4, 4, 3, 1, 0]], False),
        ({"num_prefix_tokens": "1", "num_reg_tokens": "0"}, [[4, 4, 3, 1]], False),
        ({"has_class_token": "False"}, [[4, 4, 3, 1, 0]], False),
    ],
)
def test_a_token_is_the_class_token_only_where_that_is_told(
    metadata: dict[str, str], layout: list[list[int]], warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_tokens(tmp_path / "t.onnx", **metadata)
    caplog.set_level(logging.WARNING, "ffe")
    assert float_model(*make_spec(str(path), changes=HALF)).record["layout"] == layout
    said = (
        f"the network in '{path}' puts 1 token before its grid, and nothing says whether the first is a class token: none is "
        "taken for it, so no head looks at it; if it is one, write has_class_token=true into the metadata of the file"
    )
    assert [record.getMessage() for record in caplog.records] == [said] * warned


@pytest.mark.filterwarnings("ignore:Converting a tensor")
@pytest.mark.parametrize(("name", "class_token"), [("test_vit", True), ("test_vit2", False)])
@pytest.mark.parametrize("kind", ["m.onnx", "m.xml"])
def test_an_export_of_a_transformer_is_read_as_the_transformer_itself(
    name: str, class_token: bool, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The second has one register and no class token; the names of what was learnt tell them apart."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed")
    pytest.importorskip("onnx")
    timm = import_library("timm:x", "timm")
    import torch

    ov = import_openvino()
    model = timm.create_model(name, img_size=64, dynamic_img_size=False, depth=1).eval()
    model.forward = model.forward_features
    picture = torch.zeros(1, 3, 64, 64)
    if kind == "m.onnx":
        axes = {"x": {0: "n"}, "y": {0: "n"}}
        torch.onnx.export(
            model, picture, str(tmp_path / kind), input_names=["x"], output_names=["y"], dynamic_axes=axes, dynamo=False
        )
    else:
        ov.save_model(ov.convert_model(model, example_input=picture, input=[-1, 3, 64, 64]), tmp_path / kind)
    caplog.set_level(logging.WARNING, "ffe")
    layout = float_model(*make_spec(str(tmp_path / kind), changes=HALF)).record["layout"]
    assert layout == FeatureLayout((Part(4, 4, 64, 1, class_token),)).to_json()
    assert not caplog.records


@pytest.mark.parametrize(
    ("last", "name", "count", "said"),
    [
        ("Softmax", "y", 5, "(it ends in a softmax), and what comes before those makes better features; name an earlier layer"),
        (None, "class_logits", 5, "(its output is named 'logits'), and what comes before"),
        (None, "y", 1000, "the 1,000 values that the network in '{}' gives look like scores of classes (ImageNet has as"),
        (None, "embedding", 5, None),
    ],
)
def test_scores_of_classes_are_not_taken_for_features_without_a_word(
    last: str | None, name: str, count: int, said: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def nodes(node: Callable[..., Any]) -> list[Any]:
        return [
            node("GlobalAveragePool", ["x"], ["pooled"]),
            node("Flatten", ["pooled"], ["vector"]),
            node("Gemm", ["vector", "weight", "bias"], ["top" if last else name]),
            *([node(last, ["top"], [name])] if last else []),
        ]

    values = {"weight": np.ones((3, count), np.float32), "bias": np.ones(count, np.float32)}
    path = write_onnx(tmp_path / "m.onnx", nodes, outputs=(name,), constants=values)
    caplog.set_level(logging.WARNING, "ffe")
    float_model(*make_spec(str(path), changes=HALF))
    assert len(caplog.records) == (said is not None)
    for record in caplog.records:
        assert str(said).format(path) in record.getMessage()
        assert record.getMessage().endswith("name an earlier layer with --layer, such as vector")
    caplog.clear()
    assert float_model(*make_spec(str(path), changes=HALF, layer="vector")).record["layout"] == [1, 1, 3]
    assert not caplog.records


def test_several_outputs_stand_side_by_side_as_they_are_named(tmp_path: Path) -> None:
    def nodes(node: Callable[..., Any]) -> list[Any]:
        return [
            node("Relu", ["x"], ["inner"]),
            node("GlobalAveragePool", ["inner"], ["pooled"]),
            node("Flatten", ["pooled"], ["vector"]),
            node("AveragePool", ["inner"], ["grid"], kernel_shape=[16, 16], strides=[16, 16]),
        ]

    path = write_onnx(tmp_path / "s.onnx", nodes, outputs=("grid", "vector"))
    images = PIXELS[:, :32, :32]
    with pytest.raises(BackboneError) as error:
        make_spec(str(path), changes=HALF)
    assert str(error.value) == f"The network in '{path}' has 2 outputs; name those to take with --layer: grid, vector."
    vector, grid = (features(path, images, changes=HALF, layer=name) for name in ("vector", "grid"))
    assert (vector.shape, grid.shape) == ((5, 3), (5, 12))
    np.testing.assert_array_equal(features(path, images, changes=HALF, layer="vector, grid"), np.hstack([vector, grid]))
    inner = features(path, images, changes=HALF, layer="inner")  # no output of the file, but a tensor in it
    assert_near(inner.reshape(5, 2, 16, 2, 16, 3).mean(axis=(2, 4)).reshape(5, -1), grid)
    for layer, sentence in (
        ("grid,grid", "The layer 'grid' is named twice; name each once."),
        ("gird", f"The network in '{path}' has no layer 'gird'; its last ones are grid, vector. Did you mean 'grid'?"),
    ):
        with pytest.raises(BackboneError) as error:
            make_spec(str(path), changes=HALF, layer=layer)
        assert str(error.value) == sentence


def test_a_keras_file_is_cut_at_its_layers(mobilenet: tuple[Path, np.ndarray]) -> None:
    from ffe.backbones.safe_load import load_model

    path = mobilenet[0] / "m.keras"
    first, second = "conv_pw_1_relu", "conv_pw_5_relu"
    import keras

    model = load_model(path)
    outputs = keras.Model(model.input, [model.get_layer(name).output for name in (second, first)])
    expected = [value.numpy().reshape(5, -1) for value in outputs(preprocess(PIXELS, "tf"))]
    assert_near(features(path, changes=HALF, layer=f"{second},{first}"), np.hstack(expected))
    with pytest.raises(BackboneError, match=r"has no layer 'conv_pw_1_rel'; its last ones are .*Did you mean 'conv_pw_1_relu'"):
        make_spec(str(path), changes=HALF, layer="conv_pw_1_rel")


def test_a_keras_file_that_was_compiled_with_a_top_of_classes_is_taken_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import keras

    layers = [
        keras.Input((None, None, 3)),
        keras.layers.Conv2D(4, 3),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(5),
    ]
    model = keras.Sequential([*layers, keras.layers.Softmax()])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.save(tmp_path / "top.keras")
    caplog.set_level(logging.WARNING, "ffe")
    assert_near(features(tmp_path / "top.keras", size=64, changes=HALF), model(preprocess(PIXELS, "tf")).numpy())
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.endswith(
        "(it ends in a softmax), and what comes before those makes better features; name an earlier layer with --layer"
    )


# -- what is read from a file --


def test_a_network_that_takes_bytes_scales_itself(tmp_path: Path) -> None:
    path = write_ir(tmp_path / "b.xml", [-1, 8, 8, 3], "u8")
    spec, _ = make_spec(str(path))
    assert (spec.preprocess.mode, spec.preprocess.mean) == ("none", None)
    images = PIXELS[:, :8, :8]
    np.testing.assert_array_equal(features(path, images), images.reshape(5, -1).astype(np.float32) + 1)
    with pytest.raises(BackboneError) as error:
        make_spec(str(path), changes=HALF)
    assert str(error.value) == f"The network in '{path}' takes uint8 and scales it itself; leave --mean and --std out."


@pytest.mark.parametrize("kind", ["f16", "f64"])
def test_other_floats_are_turned_into_what_the_network_takes(tmp_path: Path, kind: str) -> None:
    path = write_ir(tmp_path / "f.xml", [-1, 3, 8, 8], kind)
    images = PIXELS[:, :8, :8]
    expected = np.maximum(preprocess(images, "normalize", **HALF) + 1, 0).reshape(5, -1)
    assert_near(features(path, images, changes=HALF), expected)


def test_one_channel_is_grey(tmp_path: Path) -> None:
    path = write_ir(tmp_path / "g.xml", [-1, 1, 8, 8])
    with pytest.raises(BackboneError, match=r"name --mean and --std, for example --mean 0.5 --std 0.25 \("):
        make_spec(str(path))
    changes = {"mean": (0.5,), "std": (0.25,)}
    spec, _ = make_spec(str(path), changes=changes)
    assert spec.preprocess.channels == "gray"
    images = PIXELS[:, :8, :8]
    scaled = preprocess(images, "normalize", mean=(0.5,), std=(0.25,), channels="gray")
    assert_near(features(path, images, changes=changes), np.maximum(scaled + 1, 0).reshape(5, -1))
    with pytest.raises(BackboneError) as error:
        make_spec(str(path), changes={**changes, "channels": "bgr"})
    assert str(error.value) == f"The network in '{path}' takes one channel; leave --channels bgr out."
    three = write_ir(tmp_path / "c.xml", [-1, 3, 8, 8])
    with pytest.raises(BackboneError) as error:
        make_spec(str(three), changes={**HALF, "channels": "gray"})
    assert str(error.value) == f"The network in '{three}' takes three channels, not one; leave --channels gray out."


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"mean": "0.5,0.4,0.3", "std": "[0.2, 0.2, 0.1]"}, {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.1)}),
        ({"mean": "0.5", "std": "0.25"}, {"mean": (0.5,) * 3, "std": (0.25,) * 3}),
        ({"mean": "127.5 127.5 127.5", "std": "255 255 255"}, {"mean": (0.5,) * 3, "std": (1.0,) * 3}),
        ({"mode": "torch", "resize": "shortest", "crop": "0.875"}, {"mode": "torch", "resize": "shortest", "crop": 0.875}),
        (
            {"pretrained_cfg": json.dumps({**HALF, "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center"})},
            {**HALF, "interpolation": "bicubic", "crop": 0.9, "resize": "shortest"},
        ),
        (
            {
                "preprocessor_config": json.dumps(
                    {
                        **{"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3, "rescale_factor": 1 / 255},
                        **{"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True},
                    }
                )
            },
            {**HALF, "interpolation": "bicubic", "resize": "shortest", "crop": 32 / 36},
        ),
        (
            {
                "image_mean": "[0.5]",
                "image_std": "[0.5]",
                "rescale_factor": str(1 / 127.5),
                "size": '{"height": 32, "width": 32}',
            },
            {"mean": (0.25,) * 3, "std": (0.25,) * 3, "resize": None},
        ),
        (
            {"mean_values": "127.5 127.5 127.5", "scale_values": "51 51 51", "reverse_input_channels": "YES"},
            {"mean": (0.5,) * 3, "std": (0.2,) * 3, "channels": "bgr"},
        ),
    ],
)
def test_metadata_of_an_onnx_say_how_pictures_are_prepared(
    tmp_path: Path, metadata: dict[str, str], expected: dict[str, Any]
) -> None:
    spec, _ = make_spec(str(write_onnx(tmp_path / "m.onnx", relu, metadata=metadata)))
    found = {name: getattr(spec.preprocess, name) for name in expected}
    for name, value in expected.items():
        assert found[name] == (pytest.approx(value) if name in {"mean", "std", "crop"} and value else value)
    assert spec.preprocess.mode == expected.get("mode", "normalize")


def test_metadata_of_an_ir_do_too_and_what_the_user_names_wins(tmp_path: Path) -> None:
    path = write_ir(tmp_path / "m.xml", [-1, 3, -1, -1], model_info__mean_values="0 0 0", model_info__scale_values="255 255 255")
    with pytest.raises(BackboneError) as error:
        make_spec(str(path))
    assert str(error.value) == (
        f"The file '{path}' does not say how its network wants pictures: name --size, for example --size 224 "
        "(mean and deviation are of values from 0 to 1), "
        "or write it into the file's metadata, as 'ffe bakeoff' wants it."
    )
    preprocess = make_spec(str(path), (24, 40))[0].preprocess
    assert (preprocess.size, preprocess.mean, preprocess.std) == ((24, 40), (0,) * 3, (1,) * 3)
    named = make_spec(str(path), 32, changes={"mean": (0.1, 0.2, 0.3), "interpolation": "bicubic"})[0].preprocess
    assert (named.size, named.mean, named.std, named.interpolation) == ((32, 32), (0.1, 0.2, 0.3), (1,) * 3, "bicubic")
    sized = write_ir(tmp_path / "s.xml", [-1, 3, -1, -1], mode="tf", input_size="3,48,64")
    assert make_spec(str(sized))[0].preprocess.size == (48, 64)
    assert features(sized, PIXELS[:, :48]).shape == (5, 48 * 64 * 3)


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"resample": "[3]"}, "TypeError: "),
        ({"mean": "[0.5, 0.5, 0.5]", "rescale_factor": "0"}, "ZeroDivisionError: "),
        (
            {"size": '{"shortest_edge": 256.5}', "crop_size": "224"},
            "ValueError: shortest_edge is 256.5, and no whole number above 0",
        ),
        ({"size": '{"shortest_edge": 256}', "crop_size": "0.5"}, "ValueError: crop_size is 0.5, and no whole numbers above 0"),
    ],
)
def test_metadata_that_make_no_sense_are_named_and_the_user_can_say_it_all(
    tmp_path: Path, metadata: dict[str, str], why: str
) -> None:
    path = write_onnx(tmp_path / "m.onnx", relu, metadata=metadata)
    with pytest.raises(BackboneError) as error:
        make_spec(str(path), changes=HALF)
    assert str(error.value).startswith(f"What the metadata of '{path}' say of pictures makes no sense ({why}")
    assert str(error.value).endswith("); name --interpolation, --resize, --crop yourself.")
    named = {**HALF, "interpolation": "bicubic", "resize": "shortest", "crop": 0.9}
    preprocess = make_spec(str(path), changes=named)[0].preprocess
    assert (preprocess.mean, preprocess.interpolation, preprocess.crop) == ((0.5,) * 3, "bicubic", 0.9)


def test_numbers_that_no_float_holds_are_none(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", relu, metadata={"mean": "9" * 400, "std": "0.5", "num_prefix_tokens": "9" * 400})
    with pytest.raises(BackboneError, match=r"does not say how its network wants pictures: name --mean, for example"):
        make_spec(str(path))
    assert make_spec(str(path), changes={"mean": (0.5,) * 3})[0].preprocess.std == (0.5,) * 3


def test_what_metadata_say_wrongly_names_the_file_and_the_option(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx", relu, metadata={"crop": "224", "mean": "0.5,0.5", "std": "0.5"})
    for changes, sentence in (
        ({}, "crop is 224.0, but must be a share from 0.01 to 1; name --crop."),
        ({"crop": 0.9}, "mean is 0.5,0.5, but must be 3 numbers, one for each channel; name --mean."),
    ):
        with pytest.raises(BackboneError) as error:
            make_spec(str(path), changes=changes)
        assert str(error.value) == f"The metadata of '{path}' cannot be used: {sentence}"
    with pytest.raises(SpecError) as of_the_user:
        make_spec(str(path), changes={"crop": 7})
    assert str(of_the_user.value) == "crop is 7, but must be a share from 0.01 to 1."
    assert make_spec(str(path), changes={"crop": 0.9, "mean": (0.5,) * 3})[0].preprocess.crop == 0.9


def test_what_nobody_says_is_asked_for(tmp_path: Path) -> None:
    path = write_ir(tmp_path / "m.xml", [-1, -1, -1, 3])
    with pytest.raises(BackboneError) as error:
        make_spec(str(path))
    assert str(error.value) == (
        f"The file '{path}' does not say how its network wants pictures: name --mean, --std and --size, for example "
        "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --size 224 (mean and deviation are of values from 0 to 1), "
        "or write it into the file's metadata, as 'ffe bakeoff' wants it."
    )


def test_an_axis_of_three_cells_is_told_by_the_layout(tmp_path: Path) -> None:
    sentence = "is ?x3x3x3, which does not show one axis of 3 channels, or of 1, second or last; export it so."
    with pytest.raises(BackboneError) as error:
        make_spec(str(write_ir(tmp_path / "a.xml", [-1, 3, 3, 3])), changes=HALF)
    assert str(error.value) == f"The input of the network in '{tmp_path / 'a.xml'}' {sentence}"
    path = write_ir(tmp_path / "b.xml", [-1, 3, 3, 3], layout="NCHW")
    images = PIXELS[:, :3, :3]
    expected = np.maximum(preprocess(images, "normalize", **HALF) + 1, 0)
    assert_near(features(path, images, changes=HALF), expected.reshape(5, -1))


# -- what is refused --


def two_inputs(folder: Path) -> Path:
    shape = ("FLOAT", ["n", 3, 32, 32])
    return write_onnx(folder / "m.onnx", lambda node: [node("Add", ["x", "z"], ["y"])], inputs={"x": shape, "z": shape})


def text_model(folder: Path) -> Path:
    return write_onnx(folder / "m.onnx", lambda n: [n("Cast", ["x"], ["y"], to=1)], inputs={"x": ("INT64", ["n", "words"])})


def four_channels(folder: Path) -> Path:
    return write_onnx(folder / "m.onnx", relu, inputs={"x": ("FLOAT", ["n", 4, 32, 32])})


def sound(folder: Path) -> Path:
    return write_onnx(folder / "m.onnx", relu, inputs={"x": ("FLOAT", ["n", 16000])})


def whole_numbers(folder: Path) -> Path:
    return write_onnx(folder / "m.onnx", lambda n: [n("Cast", ["x"], ["y"], to=1)], inputs={"x": ("INT8", ["n", 3, 32, 32])})


def one_class(folder: Path) -> Path:
    nodes = lambda node: [node("Flatten", ["x"], ["f"]), node("ArgMax", ["f"], ["y"], axis=1)]  # noqa: E731
    return write_onnx(folder / "m.onnx", nodes)


def no_grid(folder: Path) -> Path:
    return write_onnx(folder / "m.onnx", lambda n: [n("Reshape", ["x", "s"], ["y"])], constants={"s": np.array([0, 96, 4, 8])})


def one_picture(folder: Path) -> Path:
    shape = {"x": ("FLOAT", [1, 3, 32, 32])}
    return write_onnx(
        folder / "m.onnx", lambda n: [n("Reshape", ["x", "s"], ["y"])], inputs=shape, constants={"s": np.array([1, 3072])}
    )


def branches(folder: Path) -> Path:
    helper = pytest.importorskip("onnx").helper
    ends = [
        helper.make_graph([helper.make_node(kind, ["x"], ["a"])], kind, [], [helper.make_tensor_value_info("a", 1, None)])
        for kind in ("Relu", "Neg")
    ]
    return write_onnx(
        folder / "m.onnx",
        lambda node: [node("If", ["c"], ["y"], then_branch=ends[0], else_branch=ends[1])],
        constants={"c": np.array(True)},
    )


def of_another_library(folder: Path) -> Path:
    return write_onnx(folder / "m.onnx", lambda node: [node("Strange", ["x"], ["y"], domain="other")])


def huge(folder: Path) -> Path:
    shape = {"s": np.array([1, 3, 1 << 17, 1 << 17])}
    return write_onnx(
        folder / "m.onnx",
        lambda n: [n("ConstantOfShape", ["s"], ["k"]), n("ReduceMean", ["k"], ["m"], axes=[2, 3]), n("Add", ["x", "m"], ["y"])],
        constants=shape,
    )


def damaged(folder: Path) -> Path:
    path = write_onnx(folder / "m.onnx", relu)
    path.write_bytes(path.read_bytes()[:-5])
    return path


def empty(folder: Path) -> Path:
    (folder / "m.onnx").touch()
    return folder / "m.onnx"


def beyond_the_constants(folder: Path) -> Path:
    path = write_ir(folder / "m.xml", [-1, 3, 8, 8])
    path.with_suffix(".bin").write_bytes(b"\0\0")
    return path


def of_an_extension(folder: Path) -> Path:
    path = write_ir(folder / "m.xml", [-1, 3, 8, 8])
    path.write_text(path.read_text().replace('type="ReLU" version="opset1"', 'type="ReLU" version="mine"'))
    return path


def without_constants(folder: Path) -> Path:
    path = write_ir(folder / "m.xml", [-1, 3, 8, 8])
    path.with_suffix(".bin").unlink()
    return path


def a_folder(folder: Path) -> Path:
    (folder / "m.onnx").mkdir()
    return folder / "m.onnx"


def misspelt(folder: Path) -> Path:
    write_onnx(folder / "model.onnx", relu)
    return folder / "modell.onnx"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            two_inputs,
            "The network in '{}' has 2 inputs ('x' and 'z'), and a backbone has one, for pictures; "
            "export the part that takes pictures.",
        ),
        (text_model, "The network in '{}' takes text (i64 of two axes), not pictures; give the one for pictures."),
        (
            four_channels,
            "The input of the network in '{}' is ?x4x32x32, which does not show one axis of 3 channels, or of 1, "
            "second or last; export it so.",
        ),
        (sound, "The network in '{}' takes no pictures: its input has 2 axes, and pictures have 4."),
        (whole_numbers, "The network in '{}' takes numbers of type i8; export it for float32 or uint8."),
        (
            one_class,
            "The output 'y' of the network in '{}' (i64, ?x1) holds no features: no vector, no grid and no tokens that cover "
            "the picture; name another layer with --layer.",
        ),
        (
            no_grid,
            "The output 'y' of the network in '{}' (f32, ?x96x4x8) holds no features: no vector, no grid and no tokens that "
            "cover the picture; name another layer with --layer.",
        ),
        (
            one_picture,
            "The network in '{}' takes one picture at a time: its output 'y' is 1x3072; export it with a free batch axis.",
        ),
        (
            branches,
            "'{}' is damaged, or no network that OpenVINO can read (its graph has the operation 'If', which ffe does not run); "
            "export it again.",
        ),
        (
            of_another_library,
            "'{}' is damaged, or no network that OpenVINO can read (OpenVINO does not know the operations other.Strange); "
            "export it again.",
        ),
        (
            huge,
            "The network in '{}' makes an array of 1x3x131072x131072 numbers for one picture, which no machine holds; "
            "give another file.",
        ),
        (damaged, "'{}' is damaged or no ONNX file; export it again."),
        (empty, "'{}' is damaged or no ONNX file; export it again."),
        (beyond_the_constants, "its graph asks for constants that it does not hold"),
        (of_an_extension, "its graph has the operation 'ReLU', which ffe does not run"),
        (without_constants, "Beside '{}' there is no 'm.bin' with its weights; put both files into one folder."),
        (a_folder, "'{}' is a folder; give the file of the network."),
        (misspelt, "There is no file '{}'; check the path. Did you mean '"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_no_backbone_is_refused_in_a_sentence(tmp_path: Path, make: Callable[[Path], Path], sentence: str) -> None:
    path = make(tmp_path)
    with pytest.raises(BackboneError) as error:
        make_spec(str(path), changes=HALF)
    assert sentence.format(path) in str(error.value)
    if sentence.endswith("."):
        assert str(error.value) == sentence.format(path)


def test_a_size_that_the_network_does_not_take_is_refused(tmp_path: Path) -> None:
    path = write_ir(tmp_path / "m.xml", [-1, 3, 8, 8])
    with pytest.raises(BackboneError) as error:
        make_spec(str(path), 16, changes=HALF)
    assert str(error.value) == (
        f"The network in '{path}' takes pictures of 8x8 pixels and no others; leave --size out, or export it with free sides."
    )
    assert make_spec(str(path), 8, changes=HALF)[0].preprocess.size == (8, 8)

    def nodes(node: Callable[..., Any]) -> list[Any]:
        return [node("Flatten", ["x"], ["f"]), node("MatMul", ["f", "w"], ["y"])]

    free = {"x": ("FLOAT", ["n", 3, "h", "w"])}
    path = write_onnx(tmp_path / "m.onnx", nodes, inputs=free, constants={"w": np.ones((192, 4), np.float32)})
    assert make_spec(str(path), 8, changes=HALF)[0].preprocess.size == (8, 8)
    with pytest.raises(BackboneError) as error:
        make_spec(str(path), 16, changes=HALF)
    assert str(error.value).startswith(f"The network in '{path}' cannot take pictures of 16x16 pixels (")
    assert str(error.value).endswith("; name another --size.")


def test_a_network_that_mixes_the_pictures_of_a_batch_is_refused(tmp_path: Path) -> None:
    nodes = lambda node: [node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1), node("Sub", ["x", "m"], ["y"])]  # noqa: E731
    path = write_onnx(tmp_path / "m.onnx", nodes)
    with pytest.raises(BackboneError) as error:
        float_model(*make_spec(str(path), changes=HALF))
    assert str(error.value) == (
        f"The network in '{path}' takes one picture at a time: pictures in a batch give other features than alone; "
        "export it with a free batch axis."
    )


def test_weights_alone_folders_and_urls_are_no_backbones(tmp_path: Path) -> None:
    for name in ("w.pth", "w.pt", "w.safetensors"):
        with pytest.raises(BackboneError) as error:
            make_spec(name)
        assert str(error.value) == (
            f"'{name}' holds weights alone, and does not say of which network; "
            f"name that, as in --backbone timm:NAME --weights {name}."
        )
    with pytest.raises(BackboneError) as error:
        make_spec(str(tmp_path))
    assert str(error.value) == (
        f"'{tmp_path}' is a folder; give the file of a network, such as model.onnx, model.xml, model.keras."
    )
    for url in ("https://example.org/m.onnx", "https://example.org/m"):
        with pytest.raises(BackboneError, match=f"'{re.escape(url)}' is a URL, and ffe works with files on this machine only"):
            make_spec(url)


def test_a_keras_file_of_strange_layers_or_with_two_inputs_is_refused(tmp_path: Path) -> None:
    import keras

    source, other = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    keras.Model(source, keras.layers.Lambda(lambda x: x)(source)).save(tmp_path / "l.keras")
    with pytest.raises(BackboneError) as error:
        make_spec(str(tmp_path / "l.keras"), changes=HALF)
    assert str(error.value) == (
        "The saved backbone cannot be used: it names __lambda__, of which no backbone is made; "
        "export it as ONNX, and give that file."
    )
    keras.Model([source, other], keras.layers.Add()([source, other])).save(tmp_path / "t.keras")
    with pytest.raises(BackboneError, match=r"has 2 inputs, and a backbone has one, for pictures; export it as ONNX"):
        make_spec(str(tmp_path / "t.keras"), changes=HALF)
    keras.Model(source, keras.layers.ReLU()(source)).save(tmp_path / "s.keras")
    with pytest.raises(BackboneError, match="takes pictures of 8x8 pixels and no others"):
        make_spec(str(tmp_path / "s.keras"), 16, changes=HALF)


def test_the_outputs_of_a_keras_file_may_have_names(tmp_path: Path) -> None:
    import keras

    source = keras.Input((8, 8, 3))
    first, second = keras.layers.ReLU(name="first")(source), keras.layers.ReLU(max_value=0.5, name="second")(source)
    keras.Model(source, {"a": first, "b": second}).save(tmp_path / "two.keras")
    with pytest.raises(BackboneError, match=r"has 2 outputs; name those to take with --layer: first, second\."):
        make_spec(str(tmp_path / "two.keras"), changes=HALF)
    images = PIXELS[:, :8, :8]
    expected = np.maximum(preprocess(images, "tf"), 0).reshape(5, -1)
    assert_near(features(tmp_path / "two.keras", images, changes=HALF, layer="first"), expected)
    keras.Model(source, {"a": first}).save(tmp_path / "one.keras")
    assert_near(features(tmp_path / "one.keras", images, changes=HALF), expected)


def test_a_keras_file_with_one_fixed_side_takes_the_other(tmp_path: Path) -> None:
    import keras

    source = keras.Input((32, None, 3))
    keras.Model(source, keras.layers.ReLU()(source)).save(tmp_path / "w.keras")
    images = PIXELS[:, :32, :48]
    expected = np.maximum(preprocess(images, "tf"), 0).reshape(5, -1)
    assert_near(features(tmp_path / "w.keras", images, size=(32, 48), changes=HALF), expected)


@pytest.mark.parametrize(
    "description",
    [
        [],
        {"config": None},
        {"config": {"layers": 5}},
        {"config": {"layers": [1]}},
        {"config": {"layers": [{"config": None}]}},
        {"config": {"layers": [{"config": {"batch_shape": 3}}]}},
        {"config": {"layers": [{"config": {"batch_shape": [None, "x", 3, 3]}}]}},
        {"config": {"layers": [{"config": {"batch_shape": [None, 8, 8, 3]}}], "output_layers": 7}},
    ],
)
def test_a_description_of_a_keras_file_that_makes_no_sense_is_refused(
    mobilenet: tuple[Path, np.ndarray], tmp_path: Path, description: Any
) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(mobilenet[0] / "m.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, json.dumps(description) if name == "config.json" else old.read(name))
    with pytest.raises(BackboneError) as error:
        make_spec(str(path), changes=HALF)
    assert str(error.value).startswith("The saved backbone cannot be used: its description makes no sense (")
    assert str(error.value).endswith("); export it as ONNX, and give that file.")


# -- weights beside an ONNX file --


def write_external(folder: Path, place: str, **more: int) -> Path:
    """Write an ONNX file whose one constant lies in another file."""
    types = pytest.importorskip("onnx").TensorProto
    tensor = types(name="w", data_type=types.FLOAT, dims=[3, 1, 1], data_location=types.EXTERNAL)
    for key, value in {"location": place, **more}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return write_onnx(folder / "m.onnx", lambda node: [node("Add", ["x", "w"], ["y"])], constants={"w": tensor})


def test_weights_outside_of_an_onnx_belong_to_its_digest(tmp_path: Path) -> None:
    path, data = write_external(tmp_path, "w.bin"), tmp_path / "w.bin"
    with pytest.raises(BackboneError) as error:
        make_spec(str(path), changes=HALF)
    assert str(error.value) == (
        f"'{path}' keeps weights in 'w.bin', which is not beside it; put all files of the export into one folder."
    )
    digests = []
    for value in (1, 2):
        data.write_bytes(np.full(3, value, np.float32).tobytes())
        digests.append(make_spec(str(path), changes=HALF)[1].sha256)
        images = PIXELS[:, :32, :32]
        assert_near(features(path, images, changes=HALF), (preprocess(images, "tf") + value).reshape(5, -1))
    assert len(set(digests)) == 2


@pytest.mark.parametrize("place", ["../w.bin", "/etc/hostname", "inner/../../w.bin"])
def test_weights_outside_of_the_folder_are_not_looked_at(tmp_path: Path, place: str) -> None:
    (tmp_path / "w.bin").write_bytes(b"\0" * 12)
    (folder := tmp_path / "model").mkdir()
    path = write_external(folder, place)
    with pytest.raises(BackboneError) as error:
        make_spec(str(path), changes=HALF)
    assert str(error.value) == (
        f"'{path}' wants weights from '{place}', outside of its folder; export it with weights beside it."
    )


def test_a_link_out_of_the_folder_and_a_name_that_no_file_has(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"\0" * 12)
    (folder := tmp_path / "model").mkdir()
    (folder / "w.bin").symlink_to(tmp_path / "blob")
    path = write_external(folder, "w.bin")
    with pytest.raises(BackboneError) as error:
        make_spec(str(path), changes=HALF)
    assert str(error.value) == f"'{path}' wants weights from 'w.bin', a link to another folder; copy the files into one folder."
    write_external(folder, "w\0.bin")
    with pytest.raises(BackboneError) as error:
        make_spec(str(path), changes=HALF)
    assert str(error.value) == f"'{path}' is damaged or no ONNX file; export it again."


def test_weights_beyond_the_end_of_their_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"\0" * 12)
    with pytest.raises(BackboneError, match=r"is damaged, or no network that OpenVINO can read \(.*w.bin.*\); export it again\."):
        make_spec(str(write_external(tmp_path, "w.bin", offset=8, length=12)), changes=HALF)


# -- the file again, or without it --


def test_without_the_file_the_converted_model_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFE_CACHE_DIR", str(tmp_path / "cache"))
    path = write_ir(tmp_path / "m.xml", [-1, 3, 8, 8])
    images = PIXELS[:, :8, :8]
    spec, _ = make_spec(str(path), changes=HALF)
    sentence = (
        f"The backbone '{spec.backbone.name}' came as a file, which is needed again; pass the file with --weights model.xml."
    )
    found = weights_of(spec)
    for use in (check_model, open_engine):
        with pytest.raises(WeightsError) as error:
            use(spec, found)
        assert str(error.value) == sentence
    expected = open_engine(spec, weights_of(spec, str(path))).extract(images)
    path.unlink()
    check_model(spec, found)
    np.testing.assert_array_equal(open_engine(spec, found).extract(images), expected)
    with pytest.raises(BackboneError, match=r"There is no file '.*m\.xml'"):
        weights_of(spec, str(path))
    with pytest.raises(WeightsError) as error:
        weights_of(spec, "random")
    assert str(error.value) == sentence


def test_another_file_is_not_the_one_that_made_the_features(tmp_path: Path) -> None:
    spec, _ = make_spec(str(write_ir(tmp_path / "m.xml", [-1, 3, 8, 8])), changes=HALF)
    other = write_ir(tmp_path / "n.xml", [-1, 3, 8, 8], note="other")
    with pytest.raises(
        WeightsError, match=r"are not those that made the features \(.*\); pass the right file with --weights PATH"
    ):
        weights_of(spec, str(other))
    named = make_spec(spec.backbone.name, weights=str(tmp_path / "m.xml"), changes=HALF)[0]
    assert named == spec
    with pytest.raises(WeightsError) as error:
        make_spec(str(other), weights=str(tmp_path / "m.xml"), changes=HALF)
    assert str(error.value) == f"The file '{other}' holds its own weights; leave --weights {tmp_path / 'm.xml'} out."


def test_a_file_cannot_be_trained_and_needs_openvino(tmp_path: Path) -> None:
    spec, weights = make_spec(str(write_ir(tmp_path / "m.xml", [-1, 3, 8, 8])), changes=HALF)
    with pytest.raises(BackboneError, match=r"so it cannot be trained; take one that 'ffe backbones' lists\."):
        build(spec, weights)
    with pytest.raises(EngineError, match=r"so the engine keras cannot run it; use --engine openvino\."):
        open_engine(spec, weights, name="keras")
