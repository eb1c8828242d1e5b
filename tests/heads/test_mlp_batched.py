"""Lanes beside each other, sparse and dense rows, dropout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ffe.heads import mlp_batched
from ffe.heads.base import FitData
from ffe.heads.mlp import Layers, Network, Orders, initial_layers
from ffe.heads.mlp_batched import BatchedNetworks, Rows

ROWS, HELD, DIMS, BATCH = 70, 15, 40, 16

NETWORKS = (
    Network(units=8, extra=0, outputs=3, dropout=0.5, learning_rate=1e-2, l2=0.0),
    Network(units=32, extra=4, outputs=3, dropout=0.3, learning_rate=2e-3, l2=0.0),
    Network(units=16, extra=0, outputs=3, dropout=0.0, learning_rate=5e-3, l2=0.02),
    Network(units=64, extra=16, outputs=3, dropout=0.8, learning_rate=1e-3, l2=0.0),
)


def _features(sparse: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, 1.0, (ROWS + HELD, DIMS))
    labels = rng.integers(0, 3, len(x))
    x[np.arange(len(x)), labels] += 2
    if sparse:
        x *= rng.uniform(size=x.shape) < rng.uniform(0.01, 0.2, DIMS)
    return x.astype(np.float32), labels


def _group(x: np.ndarray, labels: np.ndarray, networks: Sequence[Network]) -> BatchedNetworks:
    train, held = np.arange(ROWS), np.arange(ROWS, ROWS + HELD)
    return BatchedNetworks(Rows(x), FitData(labels[train], 3, 9), networks, BATCH, train, held)


def _assert_equal_layers(ours: Layers, theirs: Layers) -> None:
    """Equal within 1e-5 of the largest weight: products of other widths add in another order."""
    for a, b in zip((array for pair in ours for array in pair), (array for pair in theirs for array in pair), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, np.abs(b).max()), rtol=0)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_networks_side_by_side_are_as_each_alone(sparse: bool) -> None:
    """Weights, scores, losses and right rows, also of those that go on after others were let go."""
    x, labels = _features(sparse)
    together = _group(x, labels, NETWORKS)
    alone = [_group(x, labels, [network]) for network in NETWORKS]
    assert together._rows.sparse == sparse
    kept = [0, 1, 2, 3]
    for epoch in range(6):
        if epoch == 2:
            together.keep([0, 1, 3])  # the network with a penalty goes; lazy decay begins where rows are sparse
            kept = [0, 1, 3]
        elif epoch == 4:
            together.keep([1, 2])
            kept = [1, 3]
        together.epoch()
        for group in alone:
            group.epoch()
        assert together.training == kept
        for position, network in enumerate(kept):
            _assert_equal_layers(together.layers(position), alone[network].layers(0))
            expected = alone[network].scores[:, 0]
            np.testing.assert_allclose(together.scores[:, position], expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
            assert together.losses[position] == pytest.approx(alone[network].losses[0], rel=1e-5)
            assert together.correct[position] == alone[network].correct[0]


def test_a_network_that_was_let_go_stays_as_it_was() -> None:
    """``layers`` gives copies."""
    group = _group(*_features(False), NETWORKS[:2])
    group.epoch()
    before = group.layers(1)
    copy = [(kernel.copy(), bias.copy()) for kernel, bias in before]
    group.epoch()
    for pair, (kernel, bias) in zip(before, copy, strict=True):
        np.testing.assert_array_equal(pair[0], kernel)
        np.testing.assert_array_equal(pair[1], bias)
    assert not np.array_equal(group.layers(1)[0][0], copy[0][0])


@pytest.mark.parametrize("penalties", [(0.0, 0.0), (0.0, 0.02)], ids=["lazy decay", "a penalty: every weight in every step"])
def test_skipping_zeros_changes_nothing(penalties: tuple[float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows as sparse and as dense ones, some features in one batch of many only; within 1e-5 of the largest weight."""
    x, labels = _features(True)
    networks = [Network(8, 0, 3, 0.4, 1e-2, penalties[0]), Network(32, 8, 3, 0.4, 1e-2, penalties[1])]
    sparse = _group(x, labels, networks)
    monkeypatch.setattr(mlp_batched, "_SPARSE_BELOW", 0.0)
    dense = _group(x, labels, networks)
    assert sparse._rows.sparse
    assert not dense._rows.sparse
    steps = sum(-(-ROWS // BATCH) for _ in range(8))
    present = [(x[order[i : i + BATCH]] != 0).any(axis=0) for order in _orders(8) for i in range(0, ROWS, BATCH)]
    rare = np.sum(present, axis=0)
    assert ((rare > 0) & (rare < steps / 2)).sum() >= 5, "no feature is rare enough for its mean square to be decayed lazily"
    for _ in range(8):
        sparse.epoch()
        dense.epoch()
    for position in (0, 1):
        _assert_equal_layers(sparse.layers(position), dense.layers(position))
    np.testing.assert_allclose(sparse.scores, dense.scores, atol=1e-5 * np.abs(dense.scores).max(), rtol=0)


def _orders(epochs: int) -> list[np.ndarray]:
    return [order for order, _ in zip(Orders(ROWS, 9), range(epochs), strict=False)]


def test_rows_become_sparse_only_where_few_features_are_not_zero_and_none_is_shifted() -> None:
    x, _ = _features(True)
    assert Rows(x).sparse
    assert not Rows(x, x.mean(axis=0), x.std(axis=0) + 1).sparse
    assert not Rows(_features(False)[0]).sparse
    rebuilt, rows = np.zeros_like(x), Rows(x)
    for i in range(len(x)):
        span = slice(rows.starts[i], rows.starts[i + 1])
        rebuilt[i, rows.columns[span]] = rows.values[span]
    np.testing.assert_array_equal(rebuilt, x)


def _dropped(dropout: float, seed: int, label: int, rows: int) -> float:
    """Return the mean loss of an epoch that learns nothing, of a network whose logit is 0.1 times its one hidden unit."""
    network = Network(1, 0, 1, dropout, 0.0, 0.0)
    x, labels = np.zeros((rows, 1), np.float32), np.full(rows, label)
    group = BatchedNetworks(Rows(x), FitData(labels, 2, seed), [network], 32, np.arange(rows), np.arange(1))
    group._kernel[:], group._small[:] = 0, (1, 0.1, 0)  # kernel; bias, then kernel and bias of the second layer
    group.epoch()
    assert group.scores[0, 0, 0] == pytest.approx(0.1, rel=1e-6)  # none is dropped from the rows that are scored
    return float(group.losses[0])


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.8])
def test_dropout_silences_its_share_and_keeps_the_mean(dropout: float) -> None:
    """The loss of label 0 less that of label 1 is the logit itself, and its curve tells how often it was 0.

    Bounds are five standard deviations of 30,000 draws.
    """
    rows = 30_000
    of_class_0, of_class_1 = (_dropped(dropout, 3, label, rows) for label in (0, 1))
    mean = (of_class_0 - of_class_1) / 0.1
    assert mean == pytest.approx(1, abs=5 * np.sqrt(dropout / (1 - dropout) / rows))
    loud = np.log1p(np.exp(0.1 / (1 - dropout)))
    silent = (loud - of_class_0) / (loud - np.log(2))
    assert silent == pytest.approx(dropout, abs=5 * np.sqrt(dropout * (1 - dropout) / rows))


def test_no_dropout_is_exact() -> None:
    assert _dropped(0.0, 0, 0, 100) == pytest.approx(np.log1p(np.exp(0.1)), rel=1e-6)


def test_the_seed_decides_what_is_dropped() -> None:
    x, labels = _features(False)
    found = []
    for seed in (1, 1, 2):
        group, other = (
            BatchedNetworks(Rows(x), FitData(labels, 3, s), NETWORKS[:1], BATCH, np.arange(len(x)), np.arange(0))
            for s in (0, seed)
        )
        group._random = other._random  # everything else, first weights and batches, is that of the seed 0
        group.epoch()
        group.epoch()
        found.append(group.layers(0)[0][0])
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_what_is_dropped_changes_from_step_to_step() -> None:
    """Were each batch to drop the same units of its rows, the loss would repeat from epoch to epoch."""
    network = Network(4, 0, 1, 0.5, 0.0, 0.0)
    x = np.ones((8, 3), np.float32)
    data = FitData(np.zeros(8, np.int64), 2)
    group = BatchedNetworks(Rows(x), data, [network], 8, np.arange(8), np.arange(0))
    losses = []
    for _ in range(4):
        group.epoch()
        losses.append(float(group.losses[0]))
    assert len(set(losses)) > 1


@pytest.mark.parametrize("seed", [0, 5])
def test_first_weights_and_orders_depend_on_the_seed_alone(seed: int) -> None:
    network = NETWORKS[1]
    assert network.shapes(DIMS) == [(DIMS, 32), (32, 4), (4, 3)]
    first, again, other = (initial_layers(network, DIMS, s) for s in (seed, seed, seed + 1))
    for (kernel, bias), shape in zip(first, network.shapes(DIMS), strict=True):
        limit = np.sqrt(6 / sum(shape))  # Glorot & Bengio 2010, uniform
        assert kernel.shape == shape
        assert kernel.dtype == np.float32
        assert 0.8 * limit < np.abs(kernel).max() <= limit
        np.testing.assert_array_equal(bias, 0)
    np.testing.assert_array_equal(first[0][0], again[0][0])
    assert not np.array_equal(first[0][0], other[0][0])
    orders = [np.stack([next(order) for _ in range(3)]) for order in (Orders(9, seed), Orders(9, seed), Orders(9, seed + 1))]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0][0], orders[0][1])
    np.testing.assert_array_equal(np.sort(orders[0], axis=1), np.tile(np.arange(9), (3, 1)))
