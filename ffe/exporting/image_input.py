"""A photo of any size -> the pixels that each backbone takes, as a graph: Pillow's resize out of products of matrices.

Pillow resizes in two passes, the width first, and rounds after each. A pass is a product with a matrix: row i has the filter's
values at the distances of all pixels from the middle of the i-th new pixel, divided by their sum. Distances are computed in whole
numbers, so that the weights are those of Pillow, whatever the format. Only plain arithmetic is used, which every format has.
https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ffe.errors import EngineError
from ffe.images.resize import fill_colour, goal
from ffe.specs import PreprocessSpec

INPUT = "image"
_DIGIT = 2048.0  # 11 bits


def check_image_input(specs: Sequence[PreprocessSpec]) -> None:
    """Raise an EngineError where a graph cannot do what ffe does with a photo."""
    for spec in specs:
        why = ""
        if spec.decode == "fast":
            why = "decodes photos fast, at a share of their size, which needs the file"
        elif spec.interpolation == "nearest":
            why = "picks single pixels (nearest), which a graph would not pick to the pixel"
        elif spec.resize == "longest" and spec.placement == "huggingface":
            why = "fits photos into its size by Hugging Face's rule, which needs numbers of 64 bits"
        if why:
            raise EngineError(f"This model {why}; leave out --image, and give the file pixels of the model's size.")


def image_graph(specs: Sequence[PreprocessSpec]) -> Any:
    """Return a ``keras.Model``: uint8 (1, H, W, 3), RGB, upright, any H and W -> for each spec uint8 (1, height, width, 3).

    The pixels are those of ``ffe.images.resize``, up to 1 of 255 where a value lies between two. The long side of a picture
    has at most 2,000 times the square root of its short side.
    """
    import keras

    check_image_input(specs)
    image = keras.Input((None, None, 3), batch_size=1, dtype="uint8", name=INPUT)
    return keras.Model(image, [_resized(image, spec) for spec in specs], name="resize")


def _resized(image: Any, spec: PreprocessSpec) -> Any:
    from keras import ops

    height, width = (_count(line) for line in (image[:, :, 0, 0], image[:, 0, :, 0]))
    tall, wide = _new_size(height, width, spec)
    planes = ops.transpose(ops.cast(image, "float32"), (0, 3, 1, 2))
    columns, has_column = _weights(image[:, 0, :, 0], width, wide, spec.size[1], spec)
    rows, has_row = _weights(image[:, :, 0, 0], height, tall, spec.size[0], spec)
    planes = _joined([ops.matmul(planes, ops.transpose(part)) for part in columns])
    planes = _joined([ops.matmul(part, planes) for part in rows])
    pixels = ops.transpose(planes, (0, 2, 3, 1))
    if spec.resize == "longest":
        shown = ops.reshape(has_row, (1, -1, 1, 1)) * ops.reshape(has_column, (1, 1, -1, 1))
        pixels = pixels * shown + ops.multiply(1.0 - shown, np.asarray(fill_colour(spec), np.float32))
    return ops.cast(pixels, "uint8")


def _joined(sums: list[Any]) -> Any:
    """Round what the parts of ``_weights`` gave to whole numbers from 0 to 255, halves up, as Pillow does after each pass."""
    from keras import ops

    value = sums[0] + 0.5 if len(sums) == 1 else (sums[0] + ops.floor(sums[1] / _DIGIT) + _DIGIT / 2) / _DIGIT
    return ops.clip(ops.floor(value), 0.0, 255.0)


def _count(line: Any) -> Any:
    """Return how many values a line (1, n) has: int32 (1, 1). Its shape is known to no graph before it runs."""
    from keras import ops

    return ops.sum(ops.ones_like(line, dtype="int32"), axis=1, keepdims=True)


def _new_size(height: Any, width: Any, spec: PreprocessSpec) -> tuple[Any, Any]:
    """Do what ``ffe.images.resize.resized_size`` does, in whole numbers: int32 (1, 1) each.

    It rounds halves to the even number; where floats miss the half by a hair, ``resized_size`` may find one pixel less or more,
    once in 40,000 shapes of photos that are not cut square.
    """
    from keras import ops

    tall, wide = goal(spec)
    if spec.resize is None:
        return ops.full_like(height, tall), ops.full_like(width, wide)
    if spec.resize == "shortest" and tall == wide:
        shorter, longer = ops.minimum(height, width), ops.maximum(height, width)
        long = ops.floor_divide(longer * tall, shorter)
        lies = ops.cast(height <= width, "int32")
        return lies * tall + (1 - lies) * long, lies * long + (1 - lies) * tall
    choose = ops.minimum if spec.resize == "shortest" else ops.maximum
    by_height = ops.cast(ops.equal(height * wide, choose(height * wide, width * tall)), "int32")
    return (
        by_height * tall + (1 - by_height) * _quotient(height * wide, width),
        by_height * _quotient(width * tall, height) + (1 - by_height) * wide,
    )


def _quotient(a: Any, b: Any) -> Any:
    """Return a / b, rounded, halves to the even number, and at least 1: int32."""
    from keras import ops

    whole = ops.floor_divide(a, b)
    twice = 2 * (a - whole * b)
    odd = whole - 2 * ops.floor_divide(whole, ops.full_like(whole, 2))
    up = ops.cast(twice > b, "int32") + ops.cast(ops.equal(twice, b), "int32") * odd
    return ops.maximum(whole + up, 1)


def _weights(line: Any, length: Any, new: Any, wanted: int, spec: PreprocessSpec) -> tuple[list[Any], Any]:
    """Return the matrix of one pass in parts, float32 (wanted, length), and which rows are shown, 0.0 or 1.0: (wanted, 1).

    ``line`` has one value for each pixel, (1, length); they are brought to ``new`` pixels, of which the middle ones count.
    """
    from keras import ops

    row = ops.add(_first(new, wanted, spec), np.arange(wanted, dtype=np.int32)[:, None])
    pixel = ops.cumsum(ops.ones_like(line, dtype="int32"), axis=1)  # from 1
    difference = ops.abs((2 * pixel - 1) * new - (2 * row + 1) * length)  # ``whole`` times the distance of the middles
    whole = 2 * ops.maximum(length, new)
    shown = ops.cast(ops.logical_and(row >= 0, row < new), "float32")
    if spec.interpolation == "bilinear":
        return _digits(ops.maximum(whole - difference, 0)), shown
    values = _filtered(ops.cast(difference, "float32") / ops.cast(whole, "float32"), spec.interpolation)
    total = ops.sum(values, axis=1, keepdims=True)
    return [values / (shown * total + (1.0 - shown))], shown


def _digits(values: Any) -> list[Any]:
    """Return the share of each value, int32, in its row as Pillow rounds it, to 22 bits: the upper 11 of them, and the lower.

    Sums of pixels times 11 bits are whole numbers that float32 holds, so that the new pixels are Pillow's to the bit.
    """
    from keras import ops

    total = ops.maximum(ops.sum(values, axis=1, keepdims=True), 1)
    bits, rest = _divided(values * 256, total)  # 8, 7 and 7 bits, so that no number leaves the 31 that there are
    for _ in range(2):
        more, rest = _divided(rest * 128, total)
        bits = bits * 128 + more
    bits = bits + ops.cast(2 * rest >= total, "int32")
    upper = ops.floor(ops.cast(bits, "float32") / _DIGIT)
    return [upper, ops.cast(bits, "float32") - upper * _DIGIT]


def _divided(a: Any, b: Any) -> tuple[Any, Any]:
    """Return quotient and rest of whole numbers, to the unit where a runtime divides them as floats too."""
    from keras import ops

    quotient = ops.floor_divide(a, b)
    quotient = quotient + ops.floor_divide(a - quotient * b, b)
    return quotient, a - quotient * b


def _first(new: Any, wanted: int, spec: PreprocessSpec) -> Any:
    """Return which of ``new`` pixels is the first that is shown, int32 (1, 1): below 0 where so many are filled before them."""
    from keras import ops

    cut, filled = ops.maximum(new - wanted, 0), ops.maximum(wanted - new, 0)
    half = _half_down(cut)
    if spec.placement != "huggingface":  # timm rounds the half of an odd rest to the even number
        half = half + (cut - 2 * half) * (half - 2 * _half_down(half))
    return half - _half_down(filled)


def _half_down(value: Any) -> Any:
    from keras import ops

    return ops.floor_divide(value, ops.full_like(value, 2))


def _filtered(x: Any, name: str) -> Any:
    """Return the values of Pillow's filter at distances x, 0 or more."""
    from keras import ops

    if name == "bilinear":
        return ops.relu(1.0 - x)
    if name == "bicubic":
        near = (1.5 * x - 2.5) * x * x + 1.0
        far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
        return ops.where(x < 1.0, near, ops.where(x < 2.0, far, ops.zeros_like(x)))
    angle = ops.maximum(x, 1e-6) * math.pi
    return ops.where(x < 3.0, 3.0 * ops.sin(angle) * ops.sin(angle / 3.0) / (angle * angle), ops.zeros_like(x))
