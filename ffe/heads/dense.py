"""Dense layers, trained by Keras."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ffe.heads.base import Validation
from ffe.heads.feature_map import POOLING, SCALING, FeatureMap
from ffe.heads.probability import softmax, two_columns
from ffe.heads.space import Parameter

if TYPE_CHECKING:
    import keras

_PATIENCE = 5


class DenseHead:
    """One or two small dense layers with dropout, RMSprop and an L2 penalty.

    The space is that of https://duongnt.com/fast-feature-extraction: the extra
    layer exists only where the first has 32 or 64 units. The fitted network is
    kept as arrays and predicts with numpy.
    """

    name: ClassVar[str] = "dense"
    random: ClassVar[bool] = True
    parallel: ClassVar[bool] = False
    space: ClassVar[tuple[Parameter, ...]] = (
        POOLING,
        dataclasses.replace(SCALING, default="standard"),
        Parameter("first_dense", 32, (4, 8, 16, 32, 64)),
        Parameter(
            "extra_dense_layer",
            False,
            (False, True),
            when=("first_dense", (32, 64)),
        ),
        Parameter("extra_dense", 8, (4, 8, 16), when=("extra_dense_layer", (True,))),
        Parameter("dropout_rate", 0.5, low=0.3, high=0.8, step=0.1),
        Parameter("l2", 1e-4, low=1e-6, high=1e-2, log=True),
        Parameter("learning_rate", 1e-3, low=1e-4, high=1e-2, log=True),
        Parameter("batch_size", 64, low=1, high=4096, searched=False),
        Parameter(
            "epochs",
            50,
            low=1,
            high=10_000,
            searched=False,
        ),
    )

    def __init__(self, parameters: Mapping[str, Any], grid: tuple[int, int, int]) -> None:
        self.parameters = dict(parameters)
        self._map = FeatureMap(parameters["pooling"], parameters["scaling"], grid)
        self._layers: list[tuple[np.ndarray, np.ndarray]] = []
        self._epochs: int = self.parameters["epochs"]

    def fit(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        classes: int,
        *,
        seed: int = 0,
        validation: Validation | None = None,
    ) -> Self:
        """Fit; see ``ffe.heads.base.Head.fit``.

        With validation rows, training stops when their log loss has not fallen
        for five epochs, and the weights of the best epoch are kept.
        """
        x = self._map.fit(features).transform(features)
        p = self.parameters
        model, start = _compiled(
            x.shape[1],
            classes,
            p["first_dense"],
            p.get("extra_dense"),
            p["dropout_rate"],
            p["l2"],
            p["learning_rate"],
        )
        generator = np.random.default_rng(seed)
        _restart(model, start, generator, seed)
        targets = labels.astype(np.float32)[:, None] if classes == 2 else labels
        watched = None if validation is None else self._map.transform(validation.features)
        best = (np.inf, 0, self._layers)
        for epoch in range(1, p["epochs"] + 1):
            order = generator.permutation(len(x))
            for batch in np.split(order, range(p["batch_size"], len(x), p["batch_size"])):
                model.train_on_batch(x[batch], targets[batch])
            if watched is None or validation is None:
                continue
            self._layers = _layers_of(model)
            probabilities = self._forward(watched)[np.arange(len(watched)), validation.labels]
            loss = float(-np.log(np.maximum(probabilities, 1e-7)).mean())
            if loss < best[0]:
                best = (loss, epoch, self._layers)
            elif epoch - best[1] >= _PATIENCE:
                break
        if watched is None:
            self._layers = _layers_of(model)
        else:
            self._epochs, self._layers = best[1], best[2]
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Return float64 (N, classes); see ``ffe.heads.base.Head.predict_proba``."""
        return self._forward(self._map.transform(features))

    def _forward(self, x: np.ndarray) -> np.ndarray:
        for kernel, bias in self._layers[:-1]:
            x = np.maximum(x @ kernel + bias, 0)
        kernel, bias = self._layers[-1]
        scores = x @ kernel + bias
        return softmax(scores if scores.shape[1] > 1 else two_columns(scores[:, 0]))

    def found(self) -> dict[str, Any]:
        """Return the epoch at which the validation loss was least."""
        return {"epochs": self._epochs}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return ``kernel0``, ``bias0``, ... float32, one pair per layer, and those of the map."""
        result = self._map.arrays()
        for i, (kernel, bias) in enumerate(self._layers):
            result |= {f"kernel{i}": kernel, f"bias{i}": bias}
        return result

    @classmethod
    def from_arrays(cls, parameters: Mapping[str, Any], grid: tuple[int, int, int], arrays: Mapping[str, np.ndarray]) -> Self:
        """Rebuild a fitted head."""
        head = cls(parameters, grid)
        head._map.restore(arrays)
        count = sum(name.startswith("kernel") for name in arrays)
        head._layers = [(arrays[f"kernel{i}"], arrays[f"bias{i}"]) for i in range(count)]
        return head


def _layers_of(model: keras.Model) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (kernel (inputs, units), bias (units,)), float32, of each dense layer."""
    weights = [np.array(weight, np.float32) for weight in model.get_weights() if np.ndim(weight) and weight.dtype.kind == "f"]
    return list(zip(weights[::2], weights[1::2], strict=True))


@functools.lru_cache(maxsize=1)
def _compiled(
    inputs: int, classes: int, first: int, extra: int | None, dropout: float, l2: float, learning_rate: float
) -> tuple[keras.Model, list[np.ndarray]]:
    """Build and compile a network; kept for the next fit of the same shape, as tracing costs more than training.

    Returns the model, and the first values of its optimizer's variables.
    """
    import keras

    penalty = keras.regularizers.L2(l2)
    layers: list[keras.layers.Layer] = [
        keras.Input((inputs,)),
        keras.layers.Dense(first, activation="relu", kernel_regularizer=penalty),
    ]
    if extra is not None:
        layers.append(keras.layers.Dense(extra, activation="relu", kernel_regularizer=penalty))
    layers += [
        keras.layers.Dropout(dropout),
        keras.layers.Dense(1 if classes == 2 else classes, kernel_regularizer=penalty),
    ]
    model = keras.Sequential(layers)
    model.compile(
        optimizer=keras.optimizers.RMSprop(learning_rate),
        loss=keras.losses.BinaryCrossentropy(from_logits=True)
        if classes == 2
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    model.optimizer.build(model.trainable_variables)
    return model, [keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables]


def _restart(model: keras.Model, optimizer_start: list[np.ndarray], generator: np.random.Generator, seed: int) -> None:
    """Put weights (Glorot uniform, drawn with numpy), dropout and optimizer back to their start."""
    for weight in model.trainable_variables:
        if len(weight.shape) == 2:
            limit = np.sqrt(6 / sum(weight.shape))
            weight.assign(generator.uniform(-limit, limit, tuple(weight.shape)).astype(np.float32))
        else:
            weight.assign(np.zeros(tuple(weight.shape), np.float32))
    for variable in model.non_trainable_variables:  # the state of the dropout's seed generator
        variable.assign(np.asarray([seed, 0], dtype=variable.dtype))
    for variable, value in zip(model.optimizer.variables, optimizer_start, strict=True):
        variable.assign(value)
