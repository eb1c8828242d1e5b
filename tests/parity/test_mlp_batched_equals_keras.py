"""A network takes the very steps that ``keras.Model.fit`` takes.

The measure is Keras alone, used as its manual shows: a Sequential model,
RMSprop, ``class_weight``. Both begin with the same weights and take the same
rows in the same order, the last batch of an epoch short. Dropout is 0, as the
two draw their random numbers differently; what dropout does to a network is tested
in ``tests/heads/test_mlp_batched.py``.

The logits agree within 1e-5 of the largest one, after three epochs: both work
in float32 and add in different orders.
"""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout
from ffe.heads.base import FitData
from ffe.heads.dense import DenseHead
from ffe.heads.mlp import Layers, Network, Orders, initial_layers
from ffe.heads.mlp_batched import BatchedNetworks, Rows
from ffe.heads.search_space import complete

ROWS, HELD, DIMS, BATCH, EPOCHS, SEED = 53, 20, 60, 16, 3, 7
TOLERANCE = 1e-5


def _features(kind: str, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Make rows float32 (73, 60) and labels: dense, or with nine zeros in ten, as behind a ReLU."""
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.arange(ROWS + HELD) % classes)
    x = rng.gamma(2.0, 1.0, (ROWS + HELD, DIMS))
    x[np.arange(len(x)), labels] += 2
    if kind == "sparse":
        x *= rng.uniform(size=x.shape) < 0.1
    return x.astype(np.float32), labels


def _by_keras(
    x: np.ndarray, labels: np.ndarray, class_weight: dict[int, float] | None, network: Network, start: Layers
) -> keras.Model:
    penalty = keras.regularizers.L2(network.l2) if network.l2 else None
    hidden = [keras.layers.Dense(units, activation="relu", kernel_regularizer=penalty) for units in _hidden(network)]
    last = keras.layers.Dense(network.outputs, kernel_regularizer=penalty)
    model = keras.Sequential([keras.Input((x.shape[1],)), *hidden, keras.layers.Dropout(0.0), last])
    model.set_weights([array for layer in start for array in layer])
    binary = network.outputs == 1
    loss = keras.losses.BinaryCrossentropy if binary else keras.losses.SparseCategoricalCrossentropy
    model.compile(keras.optimizers.RMSprop(network.learning_rate), loss(from_logits=True), jit_compile=False)
    for order in itertools.islice(Orders(len(x), SEED), EPOCHS):
        targets = labels[order].astype(np.float32)[:, None] if binary else labels[order]
        model.fit(x[order], targets, batch_size=BATCH, shuffle=False, class_weight=class_weight, verbose=0)
    return model


def _hidden(network: Network) -> list[int]:
    return [network.units, *([network.extra] if network.extra else [])]


CASES = [
    *(("dense", classes, extra, True) for classes in (2, 5) for extra in (0, 8)),
    ("dense", 2, 0, False),
    ("dense", 5, 8, False),
    ("sparse", 2, 8, True),
    ("sparse", 5, 0, True),
    ("sparse", 2, 0, False),  # without a penalty, sparse rows leave most weights alone
    ("sparse", 5, 8, False),
    ("affine", 2, 8, True),
    ("affine", 5, 0, True),
]


@pytest.mark.parametrize(("kind", "classes", "extra", "weighted"), CASES)
def test_a_network_ends_where_keras_ends(kind: str, classes: int, extra: int, weighted: bool) -> None:
    """``weighted``: with class weights, and an L2 penalty."""
    x, labels = _features(kind, classes)
    network = Network(16, extra, 1 if classes == 2 else classes, 0.0, 5e-3, 0.01 if weighted else 0.0)
    by_class = np.linspace(0.4, 1.9, classes) if weighted else np.ones(classes)
    mean, scale = (x[:ROWS].mean(axis=0), x[:ROWS].std(axis=0)) if kind == "affine" else (None, None)
    rows = Rows(x, mean, scale)
    assert rows.sparse == (kind == "sparse")
    assert rows.affine == (kind == "affine")
    start = initial_layers(network, DIMS, SEED)
    train, held = np.arange(ROWS), np.arange(ROWS, ROWS + HELD)
    data = FitData(labels[train], classes, SEED, by_class)
    group = BatchedNetworks(rows, data, [network], BATCH, train, held)
    for _ in range(EPOCHS):
        group.epoch()

    seen = x if mean is None else (x - mean) / scale
    model = _by_keras(seen[:ROWS], labels[:ROWS], dict(enumerate(by_class)) if weighted else None, network, start)
    expected = model.predict(seen[ROWS:], verbose=0)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(group.scores[:, 0], expected, atol=TOLERANCE * largest, rtol=0)
    for ours, theirs in zip((array for layer in group.layers(0) for array in layer), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE * max(1.0, np.abs(theirs).max()), rtol=0)

    # and it went somewhere: training moved the logits by far more than the tolerance
    before = seen[ROWS:]
    for kernel, bias in start[:-1]:
        before = np.maximum(before @ kernel + bias, 0)
    before = before @ start[-1][0] + start[-1][1]
    assert np.abs(expected - before).max() > 1000 * TOLERANCE * largest


@pytest.mark.parametrize("classes", [2, 5])
def test_the_losses_of_an_epoch_are_those_of_keras(classes: int) -> None:
    """Mean loss, penalties left out, and share of right rows, over the batches of an epoch as the weights move on."""
    x, labels = _features("dense", classes)
    network = Network(16, 0, 1 if classes == 2 else classes, 0.0, 5e-3, 0.0)
    start = initial_layers(network, DIMS, SEED)
    order, none = np.arange(ROWS), np.arange(0)
    data = FitData(labels[order], classes, SEED)
    group = BatchedNetworks(Rows(x), data, [network], BATCH, order, none)
    group.epoch()

    order = next(Orders(ROWS, SEED))
    model = keras.Sequential([keras.Input((DIMS,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(network.outputs)])
    model.set_weights([array for layer in start for array in layer])
    binary = classes == 2
    loss = keras.losses.BinaryCrossentropy if binary else keras.losses.SparseCategoricalCrossentropy
    right = keras.metrics.BinaryAccuracy(threshold=0.0) if binary else keras.metrics.SparseCategoricalAccuracy()
    model.compile(keras.optimizers.RMSprop(5e-3), loss(from_logits=True), metrics=[right])
    targets = labels[order].astype(np.float32)[:, None] if binary else labels[order]
    history = model.fit(x[order], targets, batch_size=BATCH, shuffle=False, verbose=0).history
    assert group.losses[0] == pytest.approx(history["loss"][0], rel=1e-5)
    accuracy = next(values[0] for name, values in history.items() if name != "loss")
    assert group.correct[0] / ROWS == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.parametrize(
    ("classes", "settings"),
    [
        (2, {"first_dense": 8}),
        (3, {"first_dense": 32, "extra_dense_layer": True, "extra_dense": 8, "l2": 0.01, "scaling": "sqrt_l2"}),
    ],
)
def test_the_trainers_of_a_dense_head_agree(classes: int, settings: dict[str, Any]) -> None:
    """``trainer=together`` and ``trainer=keras`` give equal probabilities, within 1e-5, class weights included."""
    x, labels = _features("dense", classes)
    fixed = {"pooling": "flat", "dropout_rate": 0.0, "epochs": 3, "batch_size": BATCH, "learning_rate": 5e-3}
    answers = []
    for trainer in ("together", "keras"):
        parameters = complete(DenseHead.space, {**fixed, **settings, "trainer": trainer}, "dense")
        head = DenseHead(parameters, FeatureLayout.of_shape((2, 3, 10)))
        head.fit(x[:ROWS], labels[:ROWS], classes, seed=SEED, class_weights=np.linspace(0.4, 1.9, classes))
        answers.append(head.predict_proba(x[ROWS:]))
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)
    assert answers[0].std() > 0.02


def test_the_trainers_of_a_dense_head_draw_the_same_views() -> None:
    """With ``images`` an epoch has one row of each; another draw gives other weights."""
    x, labels = _features("dense", 2)
    images = np.arange(ROWS) // 4
    labels = labels[4 * (np.arange(len(labels)) // 4)]  # of an image, the same for all its views
    fixed = {"pooling": "flat", "dropout_rate": 0.0, "epochs": 3, "batch_size": BATCH, "learning_rate": 5e-3}
    answers = []
    for trainer, drawn in (("together", images), ("keras", images), ("keras", None)):
        head = DenseHead(complete(DenseHead.space, {**fixed, "trainer": trainer}, "dense"), FeatureLayout.of_shape((2, 3, 10)))
        head.fit(x[:ROWS], labels[:ROWS], 2, seed=SEED, images=drawn)
        answers.append(head.predict_proba(x[ROWS:]))
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)
    assert np.abs(answers[1] - answers[2]).max() > 1e-3
