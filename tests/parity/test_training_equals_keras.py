"""Training from activations, against ``keras.Model.fit`` on images with the lower layers frozen.

The same first weights, the same batches, the same optimizer: losses, accuracies
and weights agree within rounding. Dropout is off: its random numbers would differ.
"""

from __future__ import annotations

import time

import keras
import numpy as np
import pytest

from ffe.backbones.keras_build import build
from ffe.backbones.resolve import make_spec
from ffe.base.clock import Clock
from ffe.base.feature_layout import FeatureLayout
from ffe.finetuning.graph import tensor_of
from ffe.finetuning.head_layers import WarmStart
from ffe.finetuning.joined_model import JoinedModel
from ffe.finetuning.optimizers import make_optimizer
from ffe.finetuning.split_point import find_cut
from ffe.finetuning.trainer import Trainer
from ffe.finetuning.unfreeze import count_unfrozen, unfreeze_layers
from ffe.heads.mlp import Orders
from ffe.heads.transform import FeatureMap
from ffe.specs import TrainingSpec

SIZE, ROWS, BATCH, EPOCHS = 40, 22, 8, 3


class Rows:
    """An array as a source."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def take(self, rows: np.ndarray, view: int) -> np.ndarray:
        return self._array[rows]


def plain_head(features: keras.KerasTensor, kernel: np.ndarray, bias: np.ndarray) -> keras.KerasTensor:
    dense = keras.layers.Dense(kernel.shape[1])
    logits = dense(keras.layers.GlobalAveragePooling2D()(features))
    dense.set_weights([kernel, bias])
    return logits


@pytest.mark.parametrize(
    ("classes", "optimizer", "batchnorm", "weighted"),
    [
        (2, "adam", False, False),
        pytest.param(3, "rmsprop", False, True, marks=pytest.mark.slow),
        pytest.param(2, "adam", True, False, marks=pytest.mark.slow),
    ],
)
def test_epochs_from_activations_are_those_of_keras_fit(
    monkeypatch: pytest.MonkeyPatch, classes: int, optimizer: str, batchnorm: bool, weighted: bool
) -> None:
    """Losses within 2e-4 of keras.Model.fit's, weights within 2e-4 of the largest; after three epochs."""
    generator = np.random.default_rng(3)
    images = generator.uniform(-1, 1, (ROWS, SIZE, SIZE, 3)).astype(np.float32)
    labels = np.arange(ROWS) % classes
    of_class = np.asarray([2.0, 0.5, 0.5] if weighted else [1.0, 1.0, 1.0])[:classes]
    weights = of_class[labels]
    kernel = generator.normal(0, 0.1, (256, 1 if classes == 2 else classes)).astype(np.float32)
    bias = np.zeros(kernel.shape[1], np.float32)
    spec, found = make_spec("mobilenet_0.25", SIZE, "random")
    rate, order = 1e-3, np.arange(ROWS)

    # the usual way
    theirs = build(spec, found)
    unfreeze_layers(theirs, 6, batchnorm=batchnorm)
    plain = keras.Model(theirs.input, plain_head(theirs.output, kernel, bias))
    single = classes == 2
    plain.compile(
        keras.optimizers.Adam(rate) if optimizer == "adam" else keras.optimizers.RMSprop(rate),
        keras.losses.BinaryCrossentropy(from_logits=True)
        if single
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,  # a few steps are done sooner than traced
    )
    targets = labels[:, None].astype(np.float32) if single else labels
    orders, losses = Orders(ROWS, 5), []
    for _ in range(EPOCHS):
        order = next(orders)
        options = {"batch_size": BATCH, "shuffle": False, "verbose": 0, "sample_weight": weights[order]}
        losses.append(plain.fit(images[order], targets[order], **options).history["loss"][0])

    # from activations
    ours = build(spec, found)
    learning = unfreeze_layers(ours, count_unfrozen(ours, "conv_dw_13", "mobilenet_0.25"), batchnorm=batchnorm)
    cut = find_cut(ours, learning)
    activations = keras.Model(ours.input, tensor_of(ours, cut.layer))(images, training=False)
    start = WarmStart(FeatureMap({"pooling": "avg"}, FeatureLayout.of_shape(ours.output_shape[1:])), [(kernel, bias)], {}, 0.0)
    network = JoinedModel(ours, start)
    training = TrainingSpec(
        ("6",), (EPOCHS,), (rate,), optimizer=optimizer, batch_size=BATCH, patience=0, seed=5, batchnorm=batchnorm
    )
    trainer = Trainer(training, labels, of_class, np.arange(ROWS), np.arange(4), Clock(time.monotonic()))
    model = network.above(cut.layer)
    monkeypatch.setattr(model, "set_weights", lambda best: None)  # so that the last ones can be compared, not the best
    trainer.stage(1, model, Rows(np.asarray(activations)))

    learnt = [epoch for epoch in trainer.epochs if epoch.epoch]
    np.testing.assert_allclose([epoch.loss for epoch in learnt], losses, rtol=0, atol=2e-4)
    assert losses[-1] < losses[0]  # something was learnt
    for mine, other in zip(ours.weights, theirs.weights, strict=True):
        a, b = keras.ops.convert_to_numpy(mine), keras.ops.convert_to_numpy(other)
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-4 * max(np.abs(b).max(), 1e-3), err_msg=mine.path)
    answers = np.asarray(plain(images[:4], training=False))
    assert learnt[-1].valid_accuracy == np.mean((answers.argmax(1) if not single else answers[:, 0] > 0) == labels[:4])


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_in_one_pass_is_adam(weight_decay: float) -> None:
    """Ten steps from the same weights with the same gradients: within 1e-6."""
    generator = np.random.default_rng(0)
    first = generator.normal(size=(5, 4)).astype(np.float32)
    gradients = generator.normal(size=(10, 5, 4)).astype(np.float32)
    usual = keras.optimizers.Adam(0.01, weight_decay=weight_decay or None)
    results = []
    for optimizer in (make_optimizer("adam", 0.01, weight_decay), usual):
        variable, bias = keras.Variable(first, name="kernel"), keras.Variable(first[0], name="bias")
        if optimizer is usual and weight_decay:
            usual.exclude_from_weight_decay(var_names=["bias"])
        optimizer.build([variable, bias])
        for gradient in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(gradient), keras.ops.convert_to_tensor(gradient[0])])
        results.append([keras.ops.convert_to_numpy(v) for v in (variable, bias)])
    for mine, other in zip(*results, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-6)
    if weight_decay:
        without = make_optimizer("adam", 0.01)
        variable, bias = keras.Variable(first, name="kernel"), keras.Variable(first[0], name="bias")
        without.build([variable, bias])
        for gradient in gradients:
            without.apply([keras.ops.convert_to_tensor(gradient), keras.ops.convert_to_tensor(gradient[0])])
        np.testing.assert_allclose(keras.ops.convert_to_numpy(bias), results[0][1], rtol=0, atol=1e-6)  # biases do not shrink
        assert np.abs(keras.ops.convert_to_numpy(variable)).sum() > np.abs(results[0][0]).sum()
