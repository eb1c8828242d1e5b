"""A fitted head -> a Keras model of features to calibrated probabilities, made of layers and operations of Keras alone.

A new head is one more function here, from mapped features to scores whose softmax are its probabilities. What is constant lies in
weights of layers: captured tensors become inputs in ONNX files.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ffe.base.text import counted
from ffe.errors import EngineError
from ffe.evaluation.temperature import LEAST
from ffe.heads.base import Head
from ffe.heads.ensemble import EnsembleHead
from ffe.heads.mlp_keras import map_features
from ffe.heads.svm import LEAD, ONE_AGAINST_REST, VOTES_OF_PAIRS

OUTPUT = "probabilities"
MOST_NODES = 1 << 24  # float32 holds their numbers exactly


def head_graph(head: Head, temperature: float) -> Any:
    """Return a ``keras.Model``: float32 (N, D), features as they are stored -> float32 (N, K), calibrated, rows summing to 1."""
    import keras

    features = keras.Input((head.map.layout.dims,), name="features")
    scores = _scores(head, features) * temperature
    return keras.Model(features, keras.layers.Softmax(name=OUTPUT)(scores), name="head")


def _scores(head: Head, features: Any) -> Any:
    if isinstance(head, EnsembleHead):
        import keras

        members = [
            keras.ops.softmax(_scores(member, features) * about["temperature"])
            for member, about in zip(head.members, head.parameters["members"], strict=True)
        ]
        return _logarithm(sum(members[1:], members[0]) / len(members))
    mapped = map_features(features, head.map, _scaled)
    return _GRAPHS[head.name](mapped, head.arrays())


def _logarithm(probabilities: Any) -> Any:
    from keras import ops

    return ops.log(ops.maximum(probabilities, LEAST))


def _scaled(x: Any, mean: np.ndarray, scale: np.ndarray) -> Any:
    import keras

    layer = keras.layers.BatchNormalization(center=False, scale=False, epsilon=0.0, trainable=False)
    x = layer(x)
    layer.set_weights([mean, np.square(scale)])
    return x


def _product(x: Any, kernel: np.ndarray, bias: np.ndarray | None = None) -> Any:
    """Return x (N, d) times a matrix (d, m), plus a bias (m,)."""
    import keras

    layer = keras.layers.Dense(kernel.shape[1], use_bias=bias is not None)
    result = layer(x)
    layer.set_weights([np.asarray(array, np.float32) for array in (kernel, bias) if array is not None])
    return result


def _two_columns(score: Any) -> Any:
    """Return scores (N, 2), the first 0, of the score (N, 1) of class 1."""
    from keras import ops

    return ops.concatenate([ops.zeros_like(score), score], axis=1)


def _logistic(x: Any, arrays: dict[str, np.ndarray]) -> Any:
    scores = _product(x, arrays["weights"], arrays["bias"])
    return scores if arrays["weights"].shape[1] > 1 else _two_columns(scores)


def _dense(x: Any, arrays: dict[str, np.ndarray]) -> Any:
    from keras import ops

    count = sum(name.startswith("kernel") for name in arrays)
    for i in range(count):
        x = _product(x, arrays[f"kernel{i}"], arrays[f"bias{i}"])
        x = ops.relu(x) if i < count - 1 else x
    return x if arrays[f"kernel{count - 1}"].shape[1] > 1 else _two_columns(x)


def _svm(x: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return the scores of ``ffe.heads.svm.SvmHead``, exact or from landmarks."""
    from keras import ops

    vectors = arrays["vectors"].astype(np.float64)
    classes, gamma, temperature, *rest = arrays["constants"].tolist()
    scoring = int(rest[0]) if rest else VOTES_OF_PAIRS
    if len(vectors):
        middle = vectors.mean(axis=0).astype(np.float32)  # distances are the same from there, and their terms smaller
        x, vectors = ops.subtract(x, middle), vectors - middle
        x2 = ops.sum(x * x, axis=1, keepdims=True)
        products = _product(x, 2 * gamma * vectors.T, -gamma * np.square(vectors).sum(axis=1))
        x = ops.exp(ops.minimum(products - gamma * x2, 0.0))
    decisions = _product(x, arrays["pairs"], arrays["bias"])
    if scoring != ONE_AGAINST_REST:
        decisions = _of_machines(decisions, int(classes), scoring)
    return decisions * temperature


def _of_machines(decisions: Any, classes: int, scoring: int) -> Any:
    """Turn decision values (N, P) of pairs into scores (N, K), as ``class_scores`` and ``votes_of_pairs`` do."""
    from keras import ops

    if classes == 2:
        return _two_columns(decisions)
    signs = np.zeros((decisions.shape[1], classes), np.float32)
    for pair, (first, second) in enumerate(itertools.combinations(range(classes), 2)):
        signs[pair, first], signs[pair, second] = 1, -1
    sums = _product(decisions, signs)
    votes = _product(ops.cast(decisions >= 0, "float32") - 0.5, signs) + (classes - 1) / 2
    votes = votes + sums / (3 * (ops.abs(sums) + 1))
    if scoring == VOTES_OF_PAIRS:
        return votes
    best = ops.cast(votes >= ops.max(votes, axis=1, keepdims=True), "float32")  # argmax is known to no converter
    span = ops.max(sums, axis=1, keepdims=True) - ops.min(sums, axis=1, keepdims=True) + 1  # no more: int8 has 256 values for it
    others = ops.max(sums - best * span, axis=1, keepdims=True)
    return best * ops.maximum(sums, others + LEAD) + (1 - best) * sums


def _forest(x: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Walk down all trees at once; nodes and shares are rows of tables."""
    import keras
    from keras import ops

    threshold = arrays["threshold"].astype(np.float32)
    above = threshold > arrays["threshold"]  # rounded down, a float32 is above it in the same cases
    threshold[above] = np.nextafter(threshold[above], np.float32(-np.inf))
    rows = np.column_stack([arrays["feature"], threshold, arrays["children"]]).astype(np.float32)
    if len(rows) > MOST_NODES:
        have = counted(len(rows), "node")
        raise EngineError(f"The forest has {have}, and an exported one can have {MOST_NODES:,}; train one with fewer trees.")
    nodes, shares = (keras.layers.Embedding(*table.shape, trainable=False) for table in (rows, arrays["shares"]))
    node = ops.add(ops.cast(ops.sum(x, axis=1, keepdims=True) * 0, "int32"), arrays["roots"][None].astype(np.int32))
    for _ in range(int(arrays["depth"])):
        row = nodes(node)
        value = ops.take_along_axis(x, ops.cast(row[..., 0], "int32"), axis=1)
        node = ops.cast(ops.where(value > row[..., 1], row[..., 3], row[..., 2]), "int32")
    mean = ops.mean(shares(node), axis=1)
    for layer, table in ((nodes, rows), (shares, arrays["shares"])):
        if layer.built:
            layer.set_weights([table])
    return _logarithm(mean / ops.sum(mean, axis=1, keepdims=True))


_GRAPHS: dict[str, Callable[[Any, dict[str, np.ndarray]], Any]] = {
    "logistic": _logistic,
    "dense": _dense,
    "svm": _svm,
    "forest": _forest,
}
