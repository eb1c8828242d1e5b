"""Backbone and head as one Keras model, and the part of it above a cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ffe.finetuning.fold_batchnorm import fold_batchnorms
from ffe.finetuning.graph import tensor_of
from ffe.finetuning.head_layers import WarmStart
from ffe.heads.mlp import Layers
from ffe.heads.mlp_keras import map_features

if TYPE_CHECKING:
    import keras


class JoinedModel:
    """A backbone, from scaled float32 (N, H, W, 3) to features of any rank, whose own layers learn; and a head's layers on it."""

    def __init__(self, backbone: keras.Model, start: WarmStart, seed: int = 0) -> None:
        import keras

        self.backbone = backbone
        self._dense: list[keras.layers.Dense] = []
        x = map_features(keras.layers.Flatten(name="features")(backbone.outputs[0]), start.map)
        if start.dropout and start.drop_features:
            x = keras.layers.Dropout(start.dropout, seed=seed)(x)
        for i, (kernel, bias) in enumerate(start.layers):
            last = i == len(start.layers) - 1
            if last and start.dropout and not start.drop_features:
                x = keras.layers.Dropout(start.dropout, seed=seed)(x)
            layer = keras.layers.Dense(kernel.shape[1], activation=None if last else "relu", name=f"head{i}")
            x = layer(x)
            layer.set_weights([kernel, bias])
            self._dense.append(layer)
        self._logits = x

    def head_layers(self) -> Layers:
        """Return (kernel, bias) float32 of the head's layers as they are now."""
        return [(np.array(kernel), np.array(bias)) for kernel, bias in (layer.get_weights() for layer in self._dense)]

    def above(self, layer: str) -> keras.Model:
        """Return the part from a layer's output (not included; empty = the input) to the logits, made quick to train."""
        import keras

        return fold_batchnorms(keras.Model(tensor_of(self.backbone, layer), self._logits))


def features_above(backbone: keras.Model, layer: str) -> keras.Model | None:
    """Return the part from a layer's output (not included; empty = the input) to the features, float32 (N, D); None = nothing.

    It has the backbone's own variables; batch norms that are frozen keep the statistics that they have now.
    """
    import keras

    start, end = tensor_of(backbone, layer), backbone.outputs[0]
    return None if start is end else fold_batchnorms(keras.Model(start, keras.layers.Flatten()(end)))
