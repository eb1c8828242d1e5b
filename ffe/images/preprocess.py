"""Scaling of pixel values: what each mode does, in one table, and the numpy reference for what each engine does on its device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ffe.specs import Channels, PreprocessMode

# ImageNet statistics, as in keras.applications.imagenet_utils
CAFFE_BGR_MEAN = (103.939, 116.779, 123.68)
TORCH_RGB_MEAN = (0.485, 0.456, 0.406)
TORCH_RGB_STD = (0.229, 0.224, 0.225)
GRAY_RGB = (0.299, 0.587, 0.114)  # as ``PIL.Image.convert("L")``

SCALING = {
    "tf": "values from -1 to 1",
    "caffe": "BGR less the mean of ImageNet",
    "torch": "standardised as ImageNet",
    "none": "values from 0 to 255",
    "normalize": "standardised by its own mean and deviation",
}  # what a network is given, in words


@dataclass(frozen=True)
class Scaling:
    """``(x / divisor - mean) / std`` of values x in [0, 255], for each channel that a network is given; None = no such step."""

    divisor: float = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: Channels = "rgb"  # that the network is given, in this order

    def scaled(self, x: Any, ops: Any = np) -> Any:
        """Scale float32 (..., C), of NumPy or, with ``ops`` its ``keras.ops``, of Keras; the channels are the network's."""
        if self.divisor != 1:
            x = ops.divide(x, np.float32(self.divisor))
        if self.mean is not None:
            x = ops.subtract(x, np.asarray(self.mean, np.float32))
        return x if self.std is None else ops.divide(x, np.asarray(self.std, np.float32))

    @property
    def bytes_mean(self) -> np.ndarray | None:
        """What is taken from the values in [0, 255]: float64 (C,); None = nothing."""
        return None if self.mean is None else np.asarray(self.mean) * self.divisor

    @property
    def bytes_std(self) -> np.ndarray | None:
        """What they are divided by after that: float64 (C,); None = nothing."""
        if self.std is not None:
            return np.asarray(self.std) * self.divisor
        return None if self.mean is None or self.divisor == 1 else np.full(len(self.mean), self.divisor)


# of the modes that have their own
_SCALINGS = {
    "tf": Scaling(127.5, (1.0, 1.0, 1.0)),
    "caffe": Scaling(mean=CAFFE_BGR_MEAN, channels="bgr"),
    "torch": Scaling(255.0, TORCH_RGB_MEAN, TORCH_RGB_STD),
    "none": Scaling(),
}


def scaling_of(
    mode: PreprocessMode,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels: Channels | None = None,
) -> Scaling:
    """Return what the fields of a ``PreprocessSpec`` of these names stand for."""
    if mode == "normalize":
        return Scaling(255.0, tuple(mean or ()), tuple(std or ()), channels or "rgb")
    own = _SCALINGS[mode]
    if channels is None:
        return own
    return replace(own, mean=own.mean and own.mean[: 1 if channels == "gray" else 3], channels=channels)


def preprocess(
    images: np.ndarray,
    mode: PreprocessMode,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    channels: Channels | None = None,
) -> np.ndarray:
    """Scale pixel values, uint8 (N, H, W, 3) in RGB, to float32 (N, H, W, C), as a network takes them (see ``PreprocessSpec``).

    C is 1 for grey, else 3. The first four as ``keras.applications.<model>.preprocess_input`` does:

    ``tf`` RGB in [-1, 1]; ``caffe`` BGR less the ImageNet means, in [-123.68, 151.061]; ``torch`` RGB, standardised, about
    [-2.2, 2.7]; ``none`` RGB in [0, 255]; ``normalize`` in [0, 1], less ``mean``, by ``std``. Grey is Pillow's:
    0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), not rounded.
    """
    scaling = scaling_of(mode, mean, std, channels)
    x = images.astype(np.float32)
    if scaling.channels == "gray":
        x = x @ np.asarray(GRAY_RGB, np.float32)[:, None]
    elif scaling.channels == "bgr":
        x = x[..., ::-1]
    return np.asarray(scaling.scaled(x))
