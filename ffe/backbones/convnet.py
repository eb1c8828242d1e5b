"""The small convolutional network that is trained from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ffe.base.arrays import check_fits
from ffe.base.forks import check_tensorflow
from ffe.errors import BackboneError

if TYPE_CHECKING:
    import keras

FILTERS = (32, 64, 128, 128)
LEAST_SIZE = 46  # of the input: one value is left behind the last pooling
UNITS = 512
DROPOUT = 0.5


def check_size(size: tuple[int, int], batch_size: int) -> None:
    """Refuse a size (height, width) that is too small for the network, or whose network surely does not fit into memory.

    Counted are the first dense layer, with its gradients and the optimizer's means, and what a batch leaves behind each layer.
    """
    if min(size) < LEAST_SIZE:
        raise BackboneError(
            f"The small network takes pictures of at least {LEAST_SIZE} pixels; "
            f"choose --size {LEAST_SIZE} or more instead of {min(size)}."
        )
    (height, width), values = size, 0
    for filters in FILTERS:
        height, width = height - 2, width - 2
        values += height * width * filters
        height, width = height // 2, width // 2
        values += height * width * filters
    weights = height * width * FILTERS[-1] * UNITS
    check_fits(
        4 * (3 * weights + batch_size * values),
        f"The small network for pictures of {size[0]}x{size[1]} pixels, in steps of {batch_size},",
        "give a smaller --size or --batch-size",
    )


def build_convnet(size: tuple[int, int], seed: int = 0) -> keras.Model:
    """Return the convolutions, untrained: uint8 values as float32 (N, H, W, 3), in [0, 255] -> (N, h, w, 128).

    Four times a 3x3 convolution with ReLU and a 2x2 max pooling, as in chapter 5.2 of Chollet 2017 (Deep Learning with
    Python); 7x7 places for an input of 150. ``size`` is (height, width); see ``check_size``. ``seed`` is that of the
    kernels (Glorot uniform).
    """
    check_tensorflow()
    import keras

    inputs = keras.Input((*size, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(inputs)
    for number, filters in enumerate(FILTERS, start=1):
        kernel = keras.initializers.GlorotUniform(seed=int(np.random.default_rng([seed, number]).integers(2**31)))
        x = keras.layers.Conv2D(filters, 3, activation="relu", kernel_initializer=kernel, name=f"conv{number}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool{number}")(x)
    return keras.Model(inputs, x, name="convnet")
