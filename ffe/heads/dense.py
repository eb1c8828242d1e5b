"""Dense layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import threadpoolctl

from ffe.base.feature_layout import FeatureLayout
from ffe.heads.base import FitData, Head, SearchSize, Settings
from ffe.heads.mlp import Layers, network_of
from ffe.heads.probability import probabilities_of
from ffe.heads.search_space import Parameter
from ffe.heads.transform import FEATURE_SPACE, SCALING, stored

_EPOCHS = 20  # that a dense head trains for, with early stopping


class DenseHead(Head):
    """One or two small dense layers with dropout, trained by RMSprop.

    The space is that of https://duongnt.com/fast-feature-extraction. Training is
    ``ffe.heads.mlp_batched``, or Keras's own loop where ``trainer`` is ``keras``.
    """

    name: ClassVar[str] = "dense"
    random: ClassVar[bool] = True
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
        with threadpoolctl.threadpool_limits(limits=1, user_api="blas"):
            for _ in range(self.parameters["epochs"]):
                group.epoch()
        self._layers = group.layers(0)
        return self

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
