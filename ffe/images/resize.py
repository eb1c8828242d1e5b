"""A whole picture -> the pixels that a network is given: stretched, cut or filled, as a ``PreprocessSpec`` says.

The sizes and places are those of timm and of Hugging Face (``PreprocessSpec.placement``), and the filters Pillow's, which is what
timm uses: its pixels are these. Of a strip that would become very long only what is shown is computed, so that 1x20,000 pixels
take no more memory than a photo; a value may be off by one or two of 255 then.
https://github.com/huggingface/pytorch-image-models/blob/v1.0.31/timm/data/transforms_factory.py (transforms_imagenet_eval),
https://github.com/huggingface/transformers/blob/v5.24.0/src/transformers/image_processing_backends.py
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from ffe.images.preprocess import scaling_of
from ffe.specs import PreprocessSpec

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# a picture is resized as a whole to so many pixels at most, or to so many times its size
_MOST_PIXELS = 1 << 22
_MOST_TIMES = 8
_COPY = (128, 128)  # of a picture that is not resized as a whole


def goal(spec: PreprocessSpec) -> tuple[int, int]:
    """Return the (height, width) that a picture is stretched to, has to cover, or to fit into, before the centre is cut out."""
    return math.floor(spec.size[0] / (spec.crop or 1)), math.floor(spec.size[1] / (spec.crop or 1))


def resized_size(full: tuple[int, int], spec: PreprocessSpec) -> tuple[int, int]:
    """Return the (height, width) that a whole picture of (height, width) is brought to, before anything is cut off or filled."""
    height, width = full
    tall, wide = goal(spec)
    if spec.resize is None:
        return tall, wide
    if spec.resize == "shortest" and tall == wide:
        long = int(tall * max(full) / min(full))
        return (tall, long) if height <= width else (long, tall)
    if spec.resize == "longest" and spec.placement == "huggingface":
        scale = min(tall / height, wide / width)
        return max(1, int(height * scale)), max(1, int(width * scale))
    ratio = (min if spec.resize == "shortest" else max)(height / tall, width / wide)
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def extent(full: tuple[int, int], spec: PreprocessSpec) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return where on a photo of (height, width) lies what a network is given of it: (top, bottom) and (left, right).

    In shares of the photo's height and width; what is filled lies below 0 or above 1.
    """
    ends = []
    for length, wanted in zip(resized_size(full, spec), spec.size, strict=True):
        first, _, before = _window(length, wanted, spec)
        ends.append(((first - before) / length, (first - before + wanted) / length))
    return ends[0], ends[1]


def resized(picture: Image.Image, spec: PreprocessSpec, full: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return what a network is given of a picture that stands upright, in RGB, and a smaller copy of all of it.

    Both are uint8 (h, w, 3), and the same where nothing is cut off or filled. ``full`` is the (height, width) of the picture
    in its file, if this is a smaller copy of it.
    """
    height, width = resized_size(full or (picture.height, picture.width), spec)
    top, rows, above = _window(height, spec.size[0], spec)
    left, columns, before = _window(width, spec.size[1], spec)
    filter_ = _FILTERS[spec.interpolation]
    if height * width <= max(_MOST_PIXELS, _MOST_TIMES * spec.size[0] * spec.size[1]):
        shown = whole = picture.resize((width, height), filter_)
        if (height, width) != (rows, columns):
            shown = whole.crop((left, top, left + columns, top + rows))
    else:
        across, down = picture.width / width, picture.height / height
        box = (left * across, top * down, (left + columns) * across, (top + rows) * down)
        shown = picture.resize((columns, rows), filter_, box)
        whole = picture.resize(_COPY, Image.Resampling.BILINEAR, reducing_gap=2.0)
    if (rows, columns) != spec.size:
        filled = Image.new("RGB", spec.size[::-1], fill_colour(spec))
        filled.paste(shown, (before, above))
        shown = filled
    pixels = np.asarray(shown, dtype=np.uint8)
    return pixels, pixels if shown is whole else np.asarray(whole, dtype=np.uint8)


def _window(length: int, wanted: int, spec: PreprocessSpec) -> tuple[int, int, int]:
    """Return of one side: the first pixel that is shown, how many are, and how many are filled before them."""
    rest, theirs = length - wanted, spec.placement == "huggingface"
    if rest < 0:
        return 0, length, 0 if theirs else -rest // 2
    return rest // 2 if theirs else round(rest / 2), wanted, 0


def fill_colour(spec: PreprocessSpec) -> tuple[int, int, int]:
    """Return the colour, RGB, that scaling turns into 0, as near as 8 bits come to it."""
    scaling = scaling_of(spec.mode, spec.mean, spec.std, spec.channels)
    zeros = [min(255, max(0, round(value))) for value in (0.0 if scaling.bytes_mean is None else scaling.bytes_mean) * np.ones(3)]
    red, green, blue = zeros[::-1] if scaling.channels == "bgr" else zeros
    return red, green, blue
