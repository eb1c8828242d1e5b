"""Dense layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from ffe.base.arrays import RowSource
from ffe.base.blas import one_blas_thread
from ffe.base.feature_layout import FeatureLayout
from ffe.base.system import cache_root
from ffe.heads.base import FitData, Head, SearchSize, Settings
from ffe.heads.mlp import Layers, Orders, network_of
from ffe.heads.passes import fit_map, wide_pca_text
from ffe.heads.probability import probabilities_of
from ffe.heads.search_space import Parameter
from ffe.heads.transform import FEATURE_SPACE, SCALING, FeatureMap, stored

_PIECE_ROWS, _WINDOW_ROWS = 64, 8_192
_EPOCHS = 20  # that a dense head trains for, with early stopping
_LOAD_SECONDS, _COMPILE_SECONDS = 1.0, 10.0  # of the compiled loops


class _Windows:
    """The rows of an epoch in windows: pieces of neighbours drawn from everywhere, mixed; another draw in each iteration."""

    def __init__(self, source: RowSource, feature_map: FeatureMap, data: FitData) -> None:
        self._source, self._map, self._labels = source, feature_map, data.labels
        self._weights = data.row_weights.astype(np.float32)
        self._orders = Orders(len(data.labels), data.seed, data.images)
        self._generator = np.random.default_rng(data.seed)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield mapped rows float32 (n, d), their labels int64 (n,) and weights float32 (n,)."""
        rows = np.sort(next(self._orders))
        pieces = np.array_split(rows, max(1, -(-len(rows) // _PIECE_ROWS)))
        order, count = self._generator.permutation(len(pieces)), _WINDOW_ROWS // _PIECE_ROWS
        drawn = [np.concatenate([pieces[i] for i in order[start : start + count]]) for start in range(0, len(order), count)]
        with ThreadPoolExecutor(1, thread_name_prefix="ffe-windows") as pool:
            reading = pool.submit(self._source.__getitem__, drawn[0])
            for i, some in enumerate(drawn):
                features = reading.result()
                if i + 1 < len(drawn):
                    reading = pool.submit(self._source.__getitem__, drawn[i + 1])
                mixed = self._generator.permutation(len(some))
                x = self._map.transform_rowwise(self._map.rowwise(features))[mixed]
                yield x, self._labels[some[mixed]], self._weights[some[mixed]]


class DenseHead(Head):
    """One or two small dense layers with dropout, trained by RMSprop.

    The space is that of https://duongnt.com/fast-feature-extraction. Training is
    ``ffe.heads.mlp_batched``, or Keras's own loop where ``trainer`` is ``keras``.
    """

    name: ClassVar[str] = "dense"
    random: ClassVar[bool] = True
    least_seconds: ClassVar[float] = 0.02
    space: ClassVar[tuple[Parameter, ...]] = (
        *(dataclasses.replace(p, default="standard") if p is SCALING else p for p in FEATURE_SPACE),
        Parameter("first_dense", 32, (4, 8, 16, 32, 64)),
        Parameter("extra_dense_layer", False, (False, True), when=("first_dense", (32, 64))),
        Parameter("extra_dense", 8, (4, 8, 16), when=("extra_dense_layer", (True,))),
        Parameter("dropout_rate", 0.5, low=0.0, high=0.9, step=0.1, tried=(0.3, 0.8)),
        Parameter("learning_rate", 1e-3, low=1e-5, high=1e-1, log=True, tried=(1e-4, 1e-2)),
        Parameter("l2", 0.0, low=0.0, high=1.0, searched=False),
        Parameter("batch_size", 32, low=1, high=4096, searched=False),
        Parameter("epochs", 50, low=1, high=10_000, searched=False),
        Parameter("patience", 5, low=0, high=10_000, searched=False),
        Parameter("trainer", "together", ("together", "keras"), searched=False),
    )

    _layers: Layers

    @classmethod
    def first_trials(cls, rows: int, layout: FeatureLayout) -> list[Settings]:
        """Add to the defaults what often wins; see ``Head``."""
        return [*super().first_trials(rows, layout), {"scaling": "sqrt_l2", "learning_rate": 0.005}]

    @classmethod
    def fit_seconds(cls, size: SearchSize) -> float:
        """Return about how long one fit takes; see ``Head``."""
        return 600.0 * _EPOCHS * size.epoch_rows * size.dims / size.rate

    @classmethod
    def start_seconds(cls) -> float:
        """Return about how long numba takes to load, and to compile what it has not kept; see ``Head``."""
        return _LOAD_SECONDS if any((cache_root() / "numba").glob("*/mlp_kernels.*")) else _COMPILE_SECONDS

    def fit_rowwise(self, x: np.ndarray, data: FitData) -> Self:
        """Fit on mapped rows, for all epochs; see ``Head``."""
        x = self.map.fit_rowwise(x).transform_rowwise(x)
        if self.parameters["trainer"] == "keras":
            from ffe.heads.mlp_keras import train_with_keras

            self._layers = train_with_keras(x, data, self.parameters)
            return self
        from ffe.heads.mlp_batched import BatchedNetworks, Rows

        networks = [network_of(self.parameters, data.classes)]
        group = BatchedNetworks(Rows(x), data, networks, self.parameters["batch_size"], np.arange(len(x)), np.arange(0))
        with one_blas_thread():
            for _ in range(self.parameters["epochs"]):
                group.epoch()
        self._layers = group.layers(0)
        return self

    def fit_streamed(self, source: RowSource, data: FitData) -> Self:
        """Train on batches that are drawn from windows of rows; see ``Head``. Keras's own loop takes a sample."""
        if self.parameters["trainer"] == "keras":
            return super().fit_streamed(source, data)
        from ffe.heads.mlp_batched import BatchedNetworks, Rows

        fit_map(self.map, source, data)
        windows = _Windows(source, self.map, data)
        first = next(iter(windows))[0]
        none, networks = data.of(np.arange(0)), [network_of(self.parameters, data.classes)]
        group = BatchedNetworks(Rows(first[:1]), none, networks, self.parameters["batch_size"], np.arange(0), np.arange(0))
        sparse = bool(Rows(first).sparse)
        with one_blas_thread():
            for _ in range(self.parameters["epochs"]):
                group.streamed_epoch((Rows(x, sparse=sparse), labels, weights) for x, labels, weights in windows)
        self._layers = group.layers(0)
        return self

    def approximation(self, rows: int, *, streamed: bool) -> str:
        """Say that batches are mixed near each other; see ``Head``."""
        if not streamed or self.parameters["trainer"] == "keras":
            return super().approximation(rows, streamed=streamed)
        windows = f"the batches of the dense head are drawn from windows of {_WINDOW_ROWS:,} of them"
        return "; ".join(filter(None, (windows, wide_pca_text(self.map))))

    def proba_rowwise(self, x: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes) for mapped rows; see ``Head``."""
        x = self.map.transform_rowwise(x)
        for kernel, bias in self._layers[:-1]:
            x = np.maximum(x @ kernel + bias, 0)
        kernel, bias = self._layers[-1]
        return probabilities_of(x @ kernel + bias)

    def save_keras(self, path: Path) -> None:
        """Write the head as an ordinary ``.keras`` model: features float32 (N, D) -> probabilities (N, classes)."""
        from ffe.heads.mlp_keras import as_keras_model

        as_keras_model(self.map, self._layers).save(path)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return ``kernel0``, ``bias0``, ... float32, one pair per layer, and those of the map."""
        result = self.map.arrays()
        for i, (kernel, bias) in enumerate(self._layers):
            result |= {f"kernel{i}": kernel, f"bias{i}": bias}
        return result

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what ``arrays`` returned."""
        count = sum(name.startswith("kernel") for name in arrays)
        self._layers = [(stored(arrays, f"kernel{i}", 2), stored(arrays, f"bias{i}", 1)) for i in range(count)]
