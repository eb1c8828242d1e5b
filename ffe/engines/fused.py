"""Several backbones as one: each picture is decoded once, prepared for each of them, and their features stand side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ffe.base.feature_layout import FeatureLayout
from ffe.engines.base import Engine
from ffe.specs import ExtractSpec


class FusedEngine:
    """Engines that take the same batch; see ``ffe.engines.base.Engine``, but for its images.

    Images are uint8 (N, B): of each the pictures for all backbones, flattened, one behind the other, as
    ``ffe.images.loader.packed`` gives them. The features of each backbone are rounded to the type that its spec stores them in.
    """

    def __init__(self, engines: Sequence[Engine], specs: Sequence[ExtractSpec]) -> None:
        self._engines, self._specs = tuple(engines), tuple(specs)
        self.name = engines[0].name
        self.layout = FeatureLayout(tuple(part for engine in engines for part in engine.layout.parts))
        self.batch_size = min(engine.batch_size for engine in engines)
        self.sizes = tuple(sorted({self.batch_size}.union(set.intersection(*(set(engine.sizes) for engine in engines)))))
        self.exact = all(engine.exact for engine in engines)
        self.seconds = 0.0
        self.in_flight = min(engine.in_flight for engine in engines)
        self.on_cpu = any(engine.on_cpu for engine in engines)

    @property
    def batch_size(self) -> int:
        """Images that one call takes at the most."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, count: int) -> None:
        self._batch_size = count
        for engine in self._engines:
            engine.batch_size = count

    def start(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """Begin to compute features of uint8 (N, B); the function that is returned gives float32 (N, D)."""
        results, begin = list[Callable[[], np.ndarray]](), 0
        for engine, spec in zip(self._engines, self._specs, strict=True):
            shape = (*spec.preprocess.size, 3)
            end = begin + math.prod(shape)
            results.append(engine.start(images[:, begin:end].reshape(-1, *shape)))
            begin = end

        def wait() -> np.ndarray:
            with np.errstate(over="ignore"):  # the pipeline refuses what does not fit
                rows = [result().astype(spec.dtype) for result, spec in zip(results, self._specs, strict=True)]
            self.seconds = sum(engine.seconds for engine in self._engines)
            return np.concatenate(rows, axis=1, dtype=np.float32)

        return wait

    def extract(self, images: np.ndarray) -> np.ndarray:
        """Return ``start(images)()``."""
        return self.start(images)()
