"""Scaling of pixel values: the numpy reference for what each engine does on its device."""

from __future__ import annotations

from collections.abc import Sequence

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
    x = images.astype(np.float32)
    if channels == "gray":
        x = x @ np.asarray(GRAY_RGB, np.float32)[:, None]
    elif channels == "bgr":
        x = x[..., ::-1]
    if mode == "tf":
        return x / np.float32(127.5) - np.float32(1)
    if mode == "caffe":
        return x[..., ::-1] - np.asarray(CAFFE_BGR_MEAN, np.float32)
    if mode == "torch":
        return (x / np.float32(255) - np.asarray(TORCH_RGB_MEAN, np.float32)) / np.asarray(TORCH_RGB_STD, np.float32)
    if mode == "normalize":
        return (x / np.float32(255) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return x
