"""Small networks on shared rows, trained side by side: each as if it were alone.

Their first layers stand side by side in one matrix, so that a batch is read once
for all of them. A whole epoch runs in compiled code (numba), which lets go of
Python's lock, so groups train on several cores.

Features behind a ReLU are mostly zero (95 % of VGG19's at 150 pixels). Where
few are not, the product runs over those alone; the weights of features that are
zero in the whole batch have no gradient, so RMSprop only lets their mean square
decay, which is made up for when they are next needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ffe.heads.base import FitData
from ffe.heads.mlp import Layers, Network, Orders, initial_layers
from ffe.heads.mlp_kernels import score, train_epoch

_SPARSE_BELOW = 0.15  # share of non-zero features up to which skipping zeros is faster


class Rows:
    """Features float32 (N, d) that networks train on: dense, standardised as they are used; or only what is not zero."""

    def __init__(
        self, x: np.ndarray, mean: np.ndarray | None = None, scale: np.ndarray | None = None, sparse: bool | None = None
    ) -> None:
        self.dims = x.shape[1]
        self.x = np.ascontiguousarray(x, np.float32)
        self.affine = mean is not None and scale is not None
        self.mean = np.zeros(1, np.float32) if mean is None else mean
        self.inverse = np.zeros(1, np.float32) if scale is None else (1 / scale).astype(np.float32)
        sample = self.x[:: max(1, len(x) // 64)]
        self.sparse = not self.affine and np.count_nonzero(sample) < _SPARSE_BELOW * sample.size if sparse is None else sparse
        self.starts, self.columns, self.values = np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1, np.float32)
        if self.sparse:
            found = [np.flatnonzero(row).astype(np.int32) for row in self.x]
            self.starts = np.cumsum([0, *map(len, found)], dtype=np.int64)
            self.columns = np.concatenate(found)
            self.values = np.concatenate([row[columns] for row, columns in zip(self.x, found, strict=True)])


class BatchedNetworks:
    """Networks, all with as many outputs, that share rows and batches.

    ``data`` is of the rows ``train``, int64 (n,), and its seed decides the first weights, the batches and the dropout of each
    network; the rows ``held``, int64 (m,), which may be none, are scored after each epoch.
    """

    losses: np.ndarray  # of the last epoch, (L,): mean training loss, penalties left out
    correct: np.ndarray  # ... and training rows that were right
    scores: np.ndarray  # float32 (m, L, outputs), logits of the held rows

    def __init__(
        self,
        rows: Rows,
        data: FitData,
        networks: Sequence[Network],
        batch_size: int,
        train: np.ndarray,
        held: np.ndarray,
    ) -> None:
        self._rows, self._train, self._held = rows, train.astype(np.int64), held.astype(np.int64)
        self._labels, self._weights = np.zeros(len(rows.x), np.int64), np.zeros(len(rows.x), np.float32)
        self._labels[train], self._weights[train] = data.labels, data.row_weights
        self._networks = list(networks)
        self._orders = Orders(len(train), data.seed, data.images)
        self.epoch_rows = self._orders.size
        self._batch_size = batch_size
        self.training = list(range(len(networks)))  # positions, among the networks given, of those that still train: L in all
        starts = [initial_layers(network, rows.dims, data.seed) for network in networks]
        self._kernel = np.ascontiguousarray(np.concatenate([layers[0][0] for layers in starts], axis=1))
        self._square = np.zeros_like(self._kernel)
        self._small = np.concatenate([_small_of(layers) for layers in starts])
        self._small_square = np.zeros_like(self._small)
        self._random = np.full(len(networks), _scrambled(data.seed), np.uint64)
        self._last = np.zeros(rows.dims, np.int64)
        self._step = 0
        self._outputs = networks[0].outputs
        self._table = _table(self._networks)

    def epoch(self) -> None:
        """Train every network for one epoch, then score the held rows."""
        order = self._train[next(self._orders)]
        self.losses, self.correct = np.zeros(len(self.training)), np.zeros(len(self.training), np.int64)
        self.scores = np.empty((len(self._held), len(self.training), self._outputs), np.float32)
        self._train_on(self._rows, self._labels, self._weights, order)
        self.losses /= len(order)
        score(*_source(self._rows), self._held, *self._net, self.scores)

    def streamed_epoch(self, windows: Iterable[tuple[Rows, np.ndarray, np.ndarray]]) -> None:
        """Train every network on windows of rows, labels int64 (n,) and weights float32 (n,), each in its order; none is held."""
        self.losses, self.correct = np.zeros(len(self.training)), np.zeros(len(self.training), np.int64)
        for rows, labels, weights in windows:
            self._train_on(rows, labels, weights, np.arange(len(labels)))

    @property
    def _net(self) -> tuple[np.ndarray, ...]:
        return (self._kernel, self._small, *self._table)

    def _train_on(self, rows: Rows, labels: np.ndarray, weights: np.ndarray, order: np.ndarray) -> None:
        self._step = train_epoch(
            *(*_source(rows), labels, weights, order, self._batch_size, *self._net, self._square, self._small_square),
            *(self._last, self._step, self._random, self.losses, self.correct),
        )

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with some of the networks alone; positions among ``training``."""
        spans = _spans(self._networks)
        columns, entries = (np.concatenate([np.arange(*spans[i][kind]) for i in positions]) for kind in (0, 1))
        self._kernel = np.ascontiguousarray(self._kernel[:, columns])
        self._square = np.ascontiguousarray(self._square[:, columns])
        self._small, self._small_square = self._small[entries], self._small_square[entries]
        self._random = self._random[list(positions)]
        self.training = [self.training[i] for i in positions]
        self._networks = [self._networks[i] for i in positions]
        self._table = _table(self._networks)

    def layers(self, position: int) -> Layers:
        """Return (kernel, bias) float32 of each layer of a network; position among ``training``."""
        network = self._networks[position]
        kernel, small = _spans(self._networks)[position]
        values = self._small[slice(*small)]
        found: Layers = [(self._kernel[:, slice(*kernel)].copy(), values[: network.units].copy())]
        at = network.units
        for inputs, units in network.shapes(0)[1:]:
            matrix = values[at : at + inputs * units].reshape(inputs, units).copy()
            at += inputs * units
            found.append((matrix, values[at : at + units].copy()))
            at += units
        return found


def _source(rows: Rows) -> tuple[Any, ...]:
    return (rows.x, rows.starts, rows.columns, rows.values, rows.sparse, rows.mean, rows.inverse, rows.affine)


def _small_of(layers: Layers) -> np.ndarray:
    """Return all but the first kernel of a network, in one row: its bias, then kernel and bias of each other layer."""
    return np.concatenate([layers[0][1], *(part.ravel() for layer in layers[1:] for part in layer)]).astype(np.float32)


def _spans(networks: Sequence[Network]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return (start, stop) of each network's columns of the first kernel, and of its other weights."""
    kinds = ((n.units for n in networks), (n.size_in_bytes(0) // 4 for n in networks))
    return list(zip(*(itertools.pairwise(itertools.accumulate(sizes, initial=0)) for sizes in kinds), strict=True))


def _table(networks: Sequence[Network]) -> tuple[np.ndarray, np.ndarray]:
    """Return int64 (L, 5): first column, units, extra, outputs, first other weight; and float32 (L, 3): dropout, rate, l2."""
    shape = [(k[0], n.units, n.extra, n.outputs, s[0]) for n, (k, s) in zip(networks, _spans(networks), strict=True)]
    return np.asarray(shape, np.int64), np.asarray([(n.dropout, n.learning_rate, n.l2) for n in networks], np.float32)


def _scrambled(seed: int) -> int:
    """Return a state for the generator of dropout, never zero (splitmix64, Steele et al. 2014)."""
    value = (seed + 0x9E3779B97F4A7C15) & (2**64 - 1)
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (value ^ (value >> 31)) or 1
