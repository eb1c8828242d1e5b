"""Pictures are prepared as timm and transformers do it: pixels, and the floats that the network is given."""

from __future__ import annotations

import functools
import importlib.util
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ffe.backbones.registry import Network
from ffe.backbones.torch_library import import_library
from ffe.backbones.weights import Weights
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.base.openvino_ir import import_openvino
from ffe.engines import openvino_convert
from ffe.engines.openvino import OpenVinoEngine
from ffe.images.decode import decode
from ffe.images.drawings import draw
from ffe.images.preprocess import preprocess
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("timm", "transformers", "torchvision"))),
    reason="timm or transformers is not installed",
)

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
SHAPES = [(1, 500), (500, 1), (333, 217), (224, 224), (37, 1200), (20, 30), (257, 225), (480, 643)]
ONE = 1 / 255


@functools.cache
def photo(height: int, width: int) -> Image.Image:
    picture = np.asarray(draw("dog", 5, (max(height, 8), max(width, 8))), np.float64)[:height, :width]
    noise = np.random.default_rng(0).normal(0, 12, picture.shape)
    return Image.fromarray(np.clip(picture + noise, 0, 255).astype(np.uint8))


def prepared(picture: Image.Image, spec: PreprocessSpec) -> np.ndarray:
    """What ffe makes of a file with the picture."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return decode(buffer.getvalue(), spec)


@functools.cache
def graph(spec: PreprocessSpec, layout: Any = "NCHW") -> OpenVinoEngine:
    """An engine that gives what a network would be given: a network that does nothing, converted as others are."""
    ov = import_openvino()
    from openvino import opset13 as ops

    channels = 1 if spec.channels == "gray" else 3
    size = spec.size
    given = ops.parameter([-1, channels, *size] if layout == "NCHW" else [-1, *size, channels], np.float32)
    nothing = ov.Model([ops.multiply(given, np.float32(1))], [given])
    network = Network(nothing, layout, (layout,), FeatureLayout((Part(*size, channels),)))
    source = SimpleNamespace(to_openvino=lambda *rest: network)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openvino_convert, "source_of", lambda name: source)
        backbone = BackboneSpec("onnx:0123456789ab", "file", "")
        return OpenVinoEngine(openvino_convert.convert(ExtractSpec(backbone, spec), Weights("file", "", None)), 1)


def given(pixels: np.ndarray, spec: PreprocessSpec, layout: Any = "NCHW") -> np.ndarray:
    """float32 (H, W, C): what the engine hands to the network."""
    return graph(spec, layout).extract(pixels[None]).reshape(*spec.size, -1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize(
    ("size", "crop"), [((224, 224), 0.875), ((224, 224), 1.0), ((96, 160), 0.95), ((225, 225), 0.9)], ids=str
)
def test_pixels_of_timm(size: tuple[int, int], crop: float, crop_mode: str, interpolation: str, shape: tuple[int, int]) -> None:
    import_library("timm:", "timm")
    from timm.data import create_transform

    resize: Any = {"center": "shortest", "squash": "stretch", "border": "longest"}[crop_mode]
    spec = PreprocessSpec(size, "normalize", interpolation=interpolation, mean=CLIP_MEAN, std=CLIP_STD, resize=resize, crop=crop)  # type: ignore[arg-type]
    options = {"input_size": (3, *size), "interpolation": interpolation, "crop_pct": crop, "crop_mode": crop_mode}
    transform = create_transform(**options, mean=CLIP_MEAN, std=CLIP_STD, is_training=False)
    picture = photo(*shape)
    if resize == "longest" and min(shape) == 1 and crop != 0.875:  # of that, 256 of 500 is one pixel
        with pytest.raises(ValueError, match="height and width must be > 0"):  # timm makes nothing of a line, and stops
            transform(picture)
        assert prepared(picture, spec).shape == (*size, 3)
        return
    theirs = transform(picture).numpy().transpose(1, 2, 0)
    ours = prepared(picture, spec)
    scaled = preprocess(ours[None], spec.mode, mean=spec.mean, std=spec.std)[0]
    off = np.abs(scaled - theirs) * np.asarray(CLIP_STD)  # in shares of 255
    if min(shape) > 1 and max(shape) < 1000:
        assert off.max() < 1e-6  # the very pixels
    elif interpolation == "nearest":  # a strip: at a tie the neighbour may be taken
        assert (off > 1e-6).mean() < 0.01
    else:  # of a strip, only what is shown is computed
        assert off.max() < 1.01 * ONE
        assert (off > 1e-6).mean() < 0.01
    if interpolation == "bicubic":
        np.testing.assert_allclose(given(ours, spec), scaled, atol=2e-6)


def test_pixels_by_the_configuration_of_models() -> None:
    """What ffe makes of a model's configuration is what timm makes of it: one of each way of cropping, and of each filter."""
    timm = import_library("timm:", "timm")
    from ffe.backbones.resolve import make_spec

    names = (
        "vit_small_patch14_dinov2.lvd142m",
        "vit_base_patch16_siglip_224.webli",
        "vit_base_patch16_clip_224.openai",
        "convnext_tiny.fb_in22k",
        "mobilenetv4_conv_small.e2400_r224_in1k",
        "swin_tiny_patch4_window7_224.ms_in1k",
    )
    for name in names:
        spec, _ = make_spec(f"timm:{name}", weights="random")
        config = timm.data.resolve_data_config(pretrained_cfg=timm.models.get_pretrained_cfg(name).to_dict())
        transform = timm.data.create_transform(**config, is_training=False)
        for shape in ((333, 217), (37, 300)):
            theirs = transform(photo(*shape)).numpy().transpose(1, 2, 0)
            ours = given(prepared(photo(*shape), spec.preprocess), spec.preprocess)
            np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=name)


# class of transformers, its options, and the fields of the spec that say the same
PROCESSORS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("ViTImageProcessor", {}, {"mean": HALF, "std": HALF}),
    ("ViTImageProcessor", {"resample": 0}, {"mean": HALF, "std": HALF, "interpolation": "nearest"}),
    ("ViTImageProcessor", {"resample": 1}, {"mean": HALF, "std": HALF, "interpolation": "lanczos"}),
    ("CLIPImageProcessor", {}, {"mean": CLIP_MEAN, "std": CLIP_STD, "interpolation": "bicubic", "resize": "shortest"}),
    ("SiglipImageProcessor", {}, {"mean": HALF, "std": HALF, "interpolation": "bicubic"}),
    (
        "BitImageProcessor",  # as DINOv2 has it
        {"size": {"shortest_edge": 256}},
        {"mean": CLIP_MEAN, "std": CLIP_STD, "interpolation": "bicubic", "resize": "shortest", "crop": 0.875},
    ),
    ("DeiTImageProcessor", {}, {"mean": HALF, "std": HALF, "interpolation": "bicubic", "crop": 0.875}),
    (
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 224}},
        {"mean": HALF, "std": HALF, "interpolation": "bicubic", "resize": "shortest", "crop": 0.875},
    ),
    ("ConvNextImageProcessor", {}, {"size": (384, 384), "mean": HALF, "std": HALF, "interpolation": "bicubic"}),
    (
        "EfficientNetImageProcessor",  # normalised twice, the second time by the deviation alone
        {},
        {"size": (346, 346), "mean": HALF, "std": (0.25, 0.25, 0.25), "interpolation": "bicubic"},
    ),
    (
        "MobileNetV2ImageProcessor",
        {},
        {"mean": HALF, "std": HALF, "resize": "shortest", "crop": 0.875},
    ),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("processor", "options", "fields"), PROCESSORS)
def test_pixels_of_transformers(processor: str, options: dict[str, Any], fields: dict[str, Any], shape: tuple[int, int]) -> None:
    """The very pixels of its processors that use Pillow; the others resize by torchvision, which comes near to Pillow."""
    transformers = import_library("hf:", "transformers")
    fields = {"size": (224, 224), "mode": "normalize", "placement": "huggingface", **fields}
    spec, picture = PreprocessSpec(**fields), photo(*shape)
    ours = prepared(picture, spec)
    scaled = preprocess(ours[None], spec.mode, mean=spec.mean, std=spec.std)[0]

    def off(name: str) -> np.ndarray:
        made = getattr(transformers, name)(**options)
        theirs = np.asarray(made(picture, return_tensors="np")["pixel_values"])[0].transpose(1, 2, 0)
        return np.asarray(np.abs(scaled - theirs) * np.asarray(spec.std) / ONE)

    assert off(f"{processor}Pil").max() < 1e-3
    assert off(processor).mean() < 0.3
    assert (off(processor) > 1.01).mean() < 0.002
    np.testing.assert_allclose(given(ours, spec), scaled, atol=2e-5)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    "fields",
    [
        {"mode": "normalize", "mean": (0.4,), "std": (0.3,), "channels": "gray"},
        {"mode": "none", "channels": "gray"},
        {"mode": "tf", "channels": "gray"},
        {"mode": "normalize", "mean": CLIP_MEAN, "std": CLIP_STD, "channels": "bgr"},
        {"mode": "none", "channels": "bgr"},
    ],
    ids=str,
)
def test_other_channels_in_the_graph(layout: str, fields: dict[str, Any]) -> None:
    """The graph turns them, or makes one of them; grey is Pillow's to half a level, which it rounds away."""
    spec = PreprocessSpec((33, 21), **fields)
    pixels = prepared(photo(333, 217), spec)
    found = given(pixels, spec, layout)
    expected = preprocess(pixels[None], spec.mode, mean=spec.mean, std=spec.std, channels=spec.channels)[0]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    if spec.channels == "bgr":
        turned = preprocess(pixels[None, ..., ::-1], spec.mode, mean=spec.mean, std=spec.std)[0]
        np.testing.assert_array_equal(expected, turned)
    elif spec.mode == "none":
        grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)
        assert np.abs(found[..., 0] - grey).max() < 0.51
