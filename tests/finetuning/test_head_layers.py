"""A head becomes layers that answer as the model does, and layers become a head again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout
from ffe.errors import HeadError
from ffe.evaluation.temperature import softmax, with_temperature
from ffe.finetuning.head_layers import check_head, warm_start
from ffe.finetuning.joined_model import JoinedModel
from ffe.heads import find_head
from ffe.heads.base import Head
from ffe.heads.ensemble import EnsembleHead
from ffe.heads.search_space import complete

GRID = (2, 2, 6)
LAYOUT = FeatureLayout.of_shape(GRID)
FACTOR = 0.7


def fitted(name: str, classes: int = 2, rows: int = 60, **settings: Any) -> tuple[Head, np.ndarray]:
    """Return a head, fitted on features that tell the classes apart, and the features."""
    generator = np.random.default_rng(0)
    labels = np.arange(rows) % classes
    features = generator.normal(size=(rows, 24)) + 2.0 * np.eye(24)[labels * 5 % 24] + np.eye(24)[labels]
    features = np.maximum(features, 0).astype(np.float32)  # zeros, as after a ReLU
    kind = find_head(name)
    return kind(complete(kind.space, settings, name), LAYOUT).fit(features, labels, classes), features


def logits_to_probabilities(logits: np.ndarray) -> np.ndarray:
    return softmax(logits if logits.shape[1] > 1 else np.concatenate([np.zeros_like(logits), logits], axis=1))


@pytest.mark.parametrize(
    ("name", "classes", "settings"),
    [
        ("logistic", 2, {}),
        ("logistic", 3, {"pooling": "flat", "scaling": "standard"}),
        ("logistic", 3, {"pooling": "avgmax", "scaling": "l2"}),
        ("dense", 2, {"epochs": 3, "pooling": "max"}),
        ("dense", 3, {"epochs": 3, "first_dense": 64, "extra_dense_layer": True, "pca": True, "components": 32}),
        ("svm", 2, {"kernel": "linear"}),
    ],
)
def test_the_network_answers_as_the_calibrated_head(name: str, classes: int, settings: dict[str, Any]) -> None:
    """Within 1e-5, from features to probabilities."""
    import keras

    head, features = fitted(name, classes, **settings)
    start = warm_start(head, FACTOR)
    inputs = keras.Input(GRID)
    network = JoinedModel(keras.Model(inputs, keras.layers.Identity()(inputs)), start)
    logits = np.asarray(keras.Model(inputs, network._logits)(features.reshape(-1, *GRID), training=False))
    wanted = with_temperature(head.predict_proba(features), FACTOR)
    np.testing.assert_allclose(logits_to_probabilities(logits), wanted, rtol=0, atol=1e-5)
    again = start.head(network.head_layers())
    np.testing.assert_allclose(again.predict_proba(features), wanted, rtol=0, atol=1e-5)
    assert again.name == ("dense" if name == "dense" else "logistic")
    rebuilt = type(again).from_arrays(again.parameters, LAYOUT, again.arrays())
    assert np.array_equal(rebuilt.predict_proba(features), again.predict_proba(features))
    assert "learning_rate" not in again.parameters  # what no longer says how it was fitted


def test_a_linear_svm_that_votes_starts_near_its_votes() -> None:
    head, features = fitted("svm", 4, 200, kernel="linear", pooling="flat")
    start = warm_start(head, FACTOR, x=head.map.rowwise(features))
    ((kernel, bias),) = start.layers
    said = softmax(head.map.transform_rowwise(head.map.rowwise(features)) @ kernel + bias)
    voted = with_temperature(head.predict_proba(features), FACTOR)
    assert kernel.shape == (24, 4)
    assert (said.argmax(1) == voted.argmax(1)).mean() >= 0.95
    assert np.abs(said - voted).mean() < 0.1


def test_gradients_are_finite_where_features_are_zero() -> None:
    """The square root of a ReLU's zero would have an infinite one."""
    import keras

    head, features = fitted("logistic", 2)
    inputs = keras.Input(GRID)
    scaled = keras.layers.DepthwiseConv2D(1, depthwise_initializer="ones")  # something below the head that learns
    network = JoinedModel(keras.Model(inputs, scaled(inputs)), warm_start(head, 1.0))
    model = network.above("")
    features[:5] = 0
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    model.train_on_batch(features.reshape(-1, *GRID), np.ones((len(features), 1), np.float32))
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert np.abs(scaled.get_weights()[0] - 1).max() > 0


def test_dropout() -> None:
    dense, _ = fitted("dense", 2, epochs=1, dropout_rate=0.3)
    assert warm_start(dense, 1.0).dropout == 0.3
    assert warm_start(dense, 1.0, 0.6).head(warm_start(dense, 1.0).layers).parameters["dropout_rate"] == 0.6
    assert warm_start(fitted("logistic")[0], 1.0).dropout == 0.2
    assert warm_start(fitted("logistic")[0], 1.0, 0.0).dropout == 0.0


def test_heads_without_layers_are_refused() -> None:
    expected = (
        "which has no layers that could go on learning; "
        "make a model with a head that has: ffe tune FEATURES.h5 -o MODEL.ffe --heads dense,logistic."
    )
    members = [{"head": "logistic", "parameters": fitted("logistic")[0].parameters, "temperature": 1.0}]
    heads = {
        "a forest": fitted("forest", trees=100)[0],
        "an RBF svm": fitted("svm")[0],
        "an ensemble": EnsembleHead({"members": members}, LAYOUT),
    }
    for what, head in heads.items():
        with pytest.raises(HeadError) as raised:
            check_head(head, "m.ffe")
        assert str(raised.value) == f"The head of 'm.ffe' is {what}, {expected}"
    for name, settings in (("dense", {"epochs": 1}), ("logistic", {}), ("svm", {"kernel": "linear"})):
        check_head(fitted(name, **settings)[0], "m.ffe")
