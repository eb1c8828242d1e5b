"""A fitted head -> the layers that training starts from, and what it came to -> a head again."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffe.backbones.convnet import UNITS
from ffe.base.feature_layout import FeatureLayout
from ffe.errors import HeadError
from ffe.evaluation.temperature import softmax, with_temperature
from ffe.heads.base import Head
from ffe.heads.dense import DenseHead
from ffe.heads.logistic import LogisticHead
from ffe.heads.mlp import Layers, Network, initial_layers
from ffe.heads.svm import SvmHead, class_scores
from ffe.heads.transform import FeatureMap

_SHAPE_OF_DENSE = ("first_dense", "extra_dense_layer", "extra_dense")
_SHAPE_OF_MAP = ("pooling", "scaling", "pca", "components")
_LINEAR_DROPOUT = 0.2


@dataclass(frozen=True, eq=False)
class WarmStart:
    """Dense layers behind a map of the features."""

    map: FeatureMap  # what happens to the features first; fitted, and constant from now on
    # (kernel, bias) float32 of each layer, ReLU between them; the last gives one logit, of class 1, for two classes, else K
    layers: Layers
    parameters: Mapping[str, Any]  # what a head that is made of it again will call its parameters
    dropout: float  # share of the values before the last layer that are silent in a step
    drop_features: bool = False  # whether ``dropout`` silences the features instead, before the first layer

    def head(self, layers: Layers) -> Head:
        """Return a head with other layers of the same shapes."""
        parameters, layout, arrays = {**self.parameters}, self.map.layout, self.map.arrays()
        if "first_dense" in parameters:
            parameters["dropout_rate"] = self.dropout
            for i, (kernel, bias) in enumerate(layers):
                arrays |= {f"kernel{i}": kernel, f"bias{i}": bias}
            return DenseHead.from_arrays(parameters, layout, arrays)
        ((weights, bias),) = layers
        return LogisticHead.from_arrays(parameters, layout, {**arrays, "weights": weights, "bias": bias.astype(np.float64)})


def can_learn(head: str, parameters: Mapping[str, Any]) -> bool:
    """Return whether heads of a name, with these parameters, consist of layers that can go on learning."""
    return head in {"dense", "logistic"} or (head == "svm" and parameters["kernel"] == "linear")


def check_head(head: Head, model: str) -> None:
    """Make sure that the head of a model consists of layers that can go on learning; the HeadError names a command."""
    if not can_learn(head.name, head.parameters):
        what = {"svm": "an RBF svm", "ensemble": "an ensemble"}.get(head.name, f"a {head.name}")
        raise HeadError(
            f"The head of '{model}' is {what}, which has no layers that could go on learning; "
            "make a model with a head that has: ffe tune FEATURES.h5 -o MODEL.ffe --heads dense,logistic."
        )


def warm_start(head: Head, factor: float, dropout: float | None = None, x: np.ndarray | None = None) -> WarmStart:
    """Return the layers of a head that ``can_learn``; its temperature goes into the last, so that they answer as the model does.

    A linear svm of more than two classes votes, which no layer can do: its layer sums the decision values of each class instead,
    scaled so that the probabilities come as near to those of the votes as one factor can bring them. Only such a one needs ``x``:
    float32 (n, d), rows as ``head.map.rowwise`` gives them. ``dropout`` None = that of a dense head, and 0.2 for the others.
    """
    arrays, rate = head.arrays(), head.parameters.get("dropout_rate", _LINEAR_DROPOUT) if dropout is None else dropout
    parameters = {name: head.parameters[name] for name in (*_SHAPE_OF_MAP, *_SHAPE_OF_DENSE) if name in head.parameters}
    if isinstance(head, DenseHead):
        count = sum(name.startswith("kernel") for name in arrays)
        layers = [(arrays[f"kernel{i}"], arrays[f"bias{i}"]) for i in range(count)]
    elif isinstance(head, SvmHead):
        layer, factor = _layer_of_svm(head, factor, x)
        layers = [layer]
    else:
        layers = [(arrays["weights"], arrays["bias"])]
    kernel, bias = layers[-1]
    layers[-1] = (kernel * np.float32(factor), bias * factor)
    layers = [(np.asarray(kernel, np.float32), np.asarray(bias, np.float32)) for kernel, bias in layers]
    return WarmStart(head.map, layers, parameters, float(rate))


def _layer_of_svm(head: SvmHead, factor: float, x: np.ndarray | None) -> tuple[tuple[np.ndarray, np.ndarray], float]:
    """Return (weights (d, K or 1), bias) of a linear svm, and the factor on both."""
    arrays = head.arrays()
    pairs, bias = arrays["pairs"], arrays["bias"]
    classes, _, own, *rest = arrays["constants"].tolist()
    count = int(classes)
    if count == 2 or rest == [1.0]:
        return (pairs, bias), own * factor
    assert x is not None
    signs = np.zeros((pairs.shape[1], count), np.float32)
    for pair, (first, second) in enumerate(itertools.combinations(range(count), 2)):
        signs[pair, first], signs[pair, second] = 1, -1
    decisions = head.map.transform_rowwise(x) @ pairs + bias
    wanted = with_temperature(softmax(own * class_scores(decisions, count)), factor)
    return (pairs @ signs, bias @ signs), _nearest_factor(decisions @ signs, wanted)


def _nearest_factor(scores: np.ndarray, wanted: np.ndarray) -> float:
    """Return the factor on scores (n, K) whose softmax has the least cross entropy to probabilities (n, K)."""
    from scipy.optimize import minimize_scalar

    def loss(log_factor: float) -> float:
        return float(-(wanted * np.log(np.maximum(softmax(scores * np.exp(log_factor)), 1e-15))).sum(axis=1).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-8.0, 8.0), method="bounded").x))


def first_head(layout: FeatureLayout, classes: int, dropout: float, seed: int = 0) -> WarmStart:
    """Return untrained layers behind convolutions: 512 units, then one logit for two classes, else one for each."""
    parameters = {"pooling": "flat", "scaling": "none", "pca": False, "first_dense": UNITS, "extra_dense_layer": False}
    network = Network(UNITS, 0, 1 if classes == 2 else classes, dropout, 1e-4, 0.0)
    layers = initial_layers(network, layout.dims, seed)
    return WarmStart(FeatureMap(parameters, layout), layers, parameters, dropout, drop_features=True)
