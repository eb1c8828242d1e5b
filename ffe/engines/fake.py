"""A backbone that costs nothing: for tests of all that stands around the engine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ffe.base.feature_layout import FeatureLayout
from ffe.specs import ExtractSpec


class FakeEngine:
    """Mean colour over a 4x4 grid, in [-1, 1]: a real, if poor, feature of the picture; see ``ffe.engines.base.Engine``."""

    name = "fake"
    exact = True
    layout = FeatureLayout.of_shape((4, 4, 3))
    in_flight = 1
    on_cpu = True
    seconds = 0.0

    def __init__(self, spec: ExtractSpec, batch_size: int) -> None:
        self.batch_size = batch_size
        self.sizes: tuple[int, ...] = (batch_size,)
        self._size = spec.preprocess.size

    def start(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """Return a function that gives float32 (N, 48); see ``ffe.engines.base.Engine.start``."""
        return lambda: self.extract(images)

    def extract(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (N, 48); see ``ffe.engines.base.Engine.extract``."""
        height, width = self._size
        rows = np.add.reduceat(images.astype(np.float32), np.arange(4) * height // 4, axis=1)
        cells = np.add.reduceat(rows, np.arange(4) * width // 4, axis=2)
        areas = np.diff(np.arange(5) * height // 4)[:, None] * np.diff(np.arange(5) * width // 4)[None, :]
        means = cells / areas[None, :, :, None].astype(np.float32)
        return (means / np.float32(127.5) - np.float32(1)).reshape(len(images), -1).astype(np.float32)
