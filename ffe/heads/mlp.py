"""A small dense network as values: its shape, its first weights, the order of its rows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_INITIAL, _ORDER = 1, 2  # kinds of random numbers


@dataclass(frozen=True)
class Network:
    """Dense layers with ReLU, dropout before the last one, and how they learn."""

    units: int  # of the first layer
    extra: int  # units of a second layer; 0 = there is none
    outputs: int  # 1 (sigmoid, class 1) for two classes, else one for each class
    dropout: float  # share of the last hidden units that are silent in a step, in [0, 1)
    learning_rate: float  # of RMSprop
    l2: float  # penalty on the squares of the kernels

    def shapes(self, inputs: int) -> list[tuple[int, int]]:
        """Return (inputs, units) of each layer."""
        widths = [inputs, self.units, *([self.extra] if self.extra else []), self.outputs]
        return list(itertools.pairwise(widths))

    def size_in_bytes(self, inputs: int) -> int:
        """Return the bytes of its weights."""
        return 4 * sum(a * b + b for a, b in self.shapes(inputs))


Layers = list[tuple[np.ndarray, np.ndarray]]


def network_of(parameters: Mapping[str, Any], classes: int) -> Network:
    """Return the network that the parameters of a dense head describe."""
    return Network(
        units=parameters["first_dense"],
        extra=parameters.get("extra_dense", 0),
        outputs=1 if classes == 2 else classes,
        dropout=parameters["dropout_rate"],
        learning_rate=parameters["learning_rate"],
        l2=parameters["l2"],
    )


def initial_layers(network: Network, inputs: int, seed: int) -> Layers:
    """Return (kernel (n, m), bias (m,)) float32 of each layer: Glorot uniform kernels, biases of zero."""
    generator = np.random.default_rng([seed, _INITIAL])
    layers = []
    for shape in network.shapes(inputs):
        limit = np.sqrt(6 / sum(shape))
        layers.append((generator.uniform(-limit, limit, shape).astype(np.float32), np.zeros(shape[1], np.float32)))
    return layers


class Orders:
    """The order of n rows in each epoch; the same for the same seed.

    With ``images``, int64 (n,), the image that each row is a view of, an epoch has one row of each image, drawn evenly.
    """

    def __init__(self, rows: int, seed: int, images: np.ndarray | None = None) -> None:
        self._generator = np.random.default_rng([seed, _ORDER])
        self.size = rows  # in an epoch
        self._views: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
        if images is not None:
            _, first, count = np.unique(np.sort(images), return_index=True, return_counts=True)
            self._views = (np.argsort(images, kind="stable"), first, count)
            self.size = len(first)

    def __iter__(self) -> Orders:
        return self

    def __next__(self) -> np.ndarray:
        order = self._generator.permutation(self.size)
        if self._views is None:
            return order
        rows, first, count = self._views
        return rows[first[order] + self._generator.integers(0, count[order])]
