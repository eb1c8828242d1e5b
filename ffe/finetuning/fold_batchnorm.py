"""The same function with less work: frozen batch norms inside the layer before them, 1x1 convolutions as products."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ffe.finetuning.graph import inputs_of

if TYPE_CHECKING:
    import keras


def fold_batchnorms(model: keras.Model) -> keras.Model:
    """Return a model of the same function, with the same variables, that is quicker to train; results differ by rounding.

    Behind a convolution without an activation, the factors of a frozen batch normalisation go into its kernel, which is far
    smaller than what flows, and the sums into its bias. The kernel itself stays the variable that learns, so that an optimizer
    takes the same steps as without. A convolution with a 1x1 kernel is a matrix product, which is quicker as such.
    """
    import keras

    replaced: dict[int, Any] = {}
    inputs = inputs_of(model)
    consumers = Counter(id(tensor) for tensors in inputs.values() for tensor in tensors)
    for operation in model.operations:
        if type(operation) is keras.layers.BatchNormalization and not operation.trainable:
            (tensor,) = inputs[id(operation)]
            before = tensor._keras_history.operation
            if _is_plain_convolution(before) and before.activation is keras.activations.linear and consumers[id(tensor)] == 1:
                replaced[id(before)] = _folded(before, operation)
                replaced[id(operation)] = _identity(operation)
    for operation in model.operations:
        if id(operation) not in replaced and _is_product(operation):
            replaced[id(operation)] = _folded(operation, None)
    if not replaced:
        return model
    return keras.models.clone_model(model, clone_function=lambda layer: replaced.get(id(layer), layer))


def _is_plain_convolution(operation: Any) -> bool:
    import keras

    plain = type(operation) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    return plain and operation.data_format == "channels_last" and getattr(operation, "groups", 1) == 1


def _is_product(operation: Any) -> bool:
    import keras

    plain = type(operation) is keras.layers.Conv2D and _is_plain_convolution(operation)
    return plain and tuple(operation.kernel_size) == tuple(operation.strides) == (1, 1)


def _identity(norm: keras.layers.Layer) -> keras.layers.Layer:
    import keras

    class Identity(keras.layers.Layer):  # that of Keras takes no mask, which a batch norm is called with
        def call(self, x, mask=None):  # type: ignore[no-untyped-def]
            return x

    return Identity(name=norm.name)


def _folded(convolution: keras.layers.Layer, norm: keras.layers.Layer | None) -> keras.layers.Layer:
    """Return a layer that does what a convolution and the frozen batch norm behind it do."""
    import keras

    ops = keras.ops
    scale, shift = (None, None) if norm is None else _constants(norm)
    depthwise, product = isinstance(convolution, keras.layers.DepthwiseConv2D), _is_product(convolution)

    class Folded(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name=convolution.name)
            self.convolution = convolution
            self.built = True

        def call(self, x):  # type: ignore[no-untyped-def]
            kernel = convolution.kernel
            if product:
                kernel = ops.reshape(kernel, kernel.shape[2:])
            if scale is not None:
                kernel = ops.multiply(kernel, scale[:, None] if depthwise else scale)
            if product:
                x = ops.matmul(x, kernel)
            else:
                names = ("strides", "padding", "data_format", "dilation_rate")
                convolve = ops.depthwise_conv if depthwise else ops.conv
                x = convolve(x, kernel, **{name: getattr(convolution, name) for name in names})
            if convolution.use_bias:
                x = ops.add(x, convolution.bias if scale is None else ops.multiply(convolution.bias, scale))
            if shift is not None:
                x = ops.add(x, shift)
            return convolution.activation(x)

        def compute_output_shape(self, shape):  # type: ignore[no-untyped-def]
            return convolution.compute_output_shape(shape)

    return Folded()


def _constants(norm: keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return factors and summands float32 (C,) of a frozen batch normalisation."""
    import keras

    def value(variable: Any) -> np.ndarray:
        return keras.ops.convert_to_numpy(variable).astype(np.float64)

    scale = 1 / np.sqrt(value(norm.moving_variance) + norm.epsilon)
    if norm.scale:
        scale = scale * value(norm.gamma)
    shift = -value(norm.moving_mean) * scale
    if norm.center:
        shift = shift + value(norm.beta)
    return scale.astype(np.float32), shift.astype(np.float32)
