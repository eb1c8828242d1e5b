"""Keras's own training loop and model format, for GPUs, for other backends, and as the measure of ``ffe.heads.mlp_batched``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ffe.base.feature_layout import Part
from ffe.base.forks import check_tensorflow
from ffe.heads.base import FitData
from ffe.heads.mlp import Layers, Orders, initial_layers, network_of
from ffe.heads.transform import LEAST_GEM, FeatureMap, views_of

if TYPE_CHECKING:
    import keras

_STEEP = 1e-6


def train_with_keras(
    x: np.ndarray,
    data: FitData,
    parameters: Mapping[str, Any],
    held: np.ndarray | None = None,
    on_epoch: Callable[[np.ndarray], object] = lambda logits: None,
) -> Layers:
    """Train one network with ``keras.Model.fit``, from the same first weights and on the same batches as in a batch of networks.

    Takes rows float32 (N, d) and the parameters of a dense head; after each epoch ``on_epoch`` gets the logits
    float32 (m, outputs) of the rows ``held``, float32 (m, d). Returns (kernel, bias) float32 of each layer.
    """
    check_tensorflow()
    import keras

    network = network_of(parameters, data.classes)
    penalty = keras.regularizers.L2(network.l2) if network.l2 else None
    layers: list[keras.layers.Layer] = [keras.Input((x.shape[1],))]
    for units in (network.units, *([network.extra] if network.extra else [])):
        layers.append(keras.layers.Dense(units, activation="relu", kernel_regularizer=penalty))
    layers.append(keras.layers.Dropout(network.dropout, seed=data.seed))
    layers.append(keras.layers.Dense(network.outputs, kernel_regularizer=penalty))
    model = keras.Sequential(layers)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    for layer, values in zip(dense, initial_layers(network, x.shape[1], data.seed), strict=True):
        layer.set_weights(list(values))
    model.compile(
        optimizer=keras.optimizers.RMSprop(network.learning_rate),
        loss=keras.losses.BinaryCrossentropy(from_logits=True)
        if network.outputs == 1
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    targets = data.labels.astype(np.float32)[:, None] if network.outputs == 1 else data.labels
    weights, options = data.row_weights, {"batch_size": parameters["batch_size"], "shuffle": False, "verbose": 0}
    for order in itertools.islice(Orders(len(x), data.seed, data.images), parameters["epochs"]):
        model.fit(x[order], targets[order], sample_weight=weights[order], **options)
        if held is not None:
            on_epoch(model.predict(held, verbose=0))
    return [(np.array(layer.get_weights()[0]), np.array(layer.get_weights()[1])) for layer in dense]


def as_keras_model(feature_map: FeatureMap, layers: Layers) -> keras.Model:
    """Return a Keras model of features float32 (N, D) -> probabilities float32 (N, classes), the map included."""
    import keras

    inputs = keras.Input((feature_map.layout.dims,), name="features")
    x = map_features(inputs, feature_map)
    for i, (kernel, bias) in enumerate(layers):
        last = i == len(layers) - 1
        layer = keras.layers.Dense(kernel.shape[1], activation=None if last else "relu", name="scores" if last else f"dense{i}")
        x = layer(x)
        layer.set_weights([kernel, bias])
    if layers[-1][0].shape[1] == 1:
        second = keras.layers.Activation("sigmoid")(x)
        outputs = keras.layers.Concatenate(name="probabilities")([1 - second, second])
    else:
        outputs = keras.layers.Activation("softmax", name="probabilities")(x)
    return keras.Model(inputs, outputs, name="ffe_head")


def _pooled(x: keras.KerasTensor, part: Part, views: Sequence[str]) -> keras.KerasTensor:
    """Pool symbolic features (N, part.dims) as a map does."""
    import keras

    tokens = keras.layers.Reshape((-1, part.channels))(x)
    cells, found = (tokens[:, part.prefix :] if part.prefix else tokens), []
    for view in views:
        if view == "mean":
            found.append(keras.layers.GlobalAveragePooling1D()(cells))
        elif view == "max":
            found.append(keras.layers.GlobalMaxPooling1D()(cells))
        elif view == "cls":
            found.append(tokens[:, 0])
        else:
            found.append(keras.ops.mean(keras.ops.maximum(cells, LEAST_GEM) ** 3, axis=1) ** (1 / 3))
    return found[0] if len(found) == 1 else keras.layers.Concatenate()(found)


def _scaled(x: keras.KerasTensor, mean: np.ndarray, scale: np.ndarray) -> keras.KerasTensor:
    import keras

    return keras.layers.Normalization(mean=mean, variance=np.square(scale))(x)


def map_features(
    x: keras.KerasTensor,
    feature_map: FeatureMap,
    scaled: Callable[[keras.KerasTensor, np.ndarray, np.ndarray], keras.KerasTensor] = _scaled,
) -> keras.KerasTensor:
    """Do with symbolic features (N, D) what a fitted map does; what it has learnt is constant, not to be trained.

    ``scaled`` takes from x a mean (d,), and divides it by a scale (d,).
    """
    import keras

    ops = keras.ops
    parts = []
    for part, columns in feature_map.columns():
        own = x if part.dims == feature_map.layout.dims else x[:, columns]
        if feature_map.pooling != "flat":
            own = _pooled(own, part, views_of(feature_map.pooling, part))
        if feature_map.scaling == "sqrt_l2":
            size = ops.abs(own)
            steep = size < _STEEP  # no gradient there: it would be infinite at 0, which features after a ReLU often are
            root = ops.where(steep, ops.sqrt(ops.stop_gradient(size)), ops.sqrt(ops.where(steep, ops.ones_like(size), size)))
            own = ops.sign(own) * root
        if feature_map.scaling in {"l2", "sqrt_l2"}:
            own = own / ops.sqrt(ops.maximum(ops.sum(own * own, axis=1, keepdims=True), 1e-24))
            own = own * feature_map.weight if feature_map.weight < 1 else own
        parts.append(own)
    x = parts[0] if len(parts) == 1 else keras.layers.Concatenate()(parts)
    learnt = feature_map.arrays()
    if "mean" in learnt:
        x = scaled(x, learnt["mean"], learnt["scale"])
    if "axes" in learnt:
        axes = keras.layers.Dense(learnt["axes"].shape[1], trainable=False)
        x = axes(x)
        axes.set_weights([learnt["axes"], -learnt["centre"] @ learnt["axes"]])
    return x
