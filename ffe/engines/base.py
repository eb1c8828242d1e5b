"""What every engine promises; ``ffe.testing.EngineContract`` checks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from ffe.base.feature_layout import FeatureLayout

ROW_TOLERANCE = 1e-5  # of the largest feature: how far apart rows of one image may be where an engine is not exact


class Engine(Protocol):
    """A frozen backbone, ready to run on some device.

    Attributes:
        name: what ``--engine`` takes.
        layout: how the features of one image lie in a row.
        batch_size: images that one call takes at the most; may be set.
        sizes: batch sizes worth trying, ascending; ``batch_size`` is one of them
            unless the user named it. More than one where rows do not depend on it.
        exact: whether rows of one image have the same bits in every batch, on one
            machine. Otherwise they are within ``ROW_TOLERANCE`` in float32 (lower
            precisions round those bits up: within what ``verify`` allows), and a file
            that was made in one run is that near to one that was made in several.
        in_flight: calls that may run at the same time.
        seconds: time that the backbone has been at work so far.
        on_cpu: whether it computes on the processor's cores, which decoding needs too.
    """

    name: str
    layout: FeatureLayout
    batch_size: int
    sizes: tuple[int, ...]
    exact: bool
    in_flight: int
    seconds: float
    on_cpu: bool

    def start(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """Begin to compute features, and return at once.

        A row depends on its own image alone: not on its neighbours in the
        batch, nor on how full the batch is (``exact``: to the bit). The caller
        leaves ``images`` as they are until it has the result.

        Args:
            images: uint8 (N, H, W, 3), RGB, 1 <= N <= batch_size, not yet scaled.

        Returns:
            A function that waits, and returns float32 (N, D), D = ``layout.dims``;
            a grid is flattened from (h, w, c) in C order.
        """
        ...

    def extract(self, images: np.ndarray) -> np.ndarray:
        """Return ``start(images)()``."""
        return self.start(images)()


@dataclass(frozen=True)
class EngineFacts:
    """What an engine said of itself, wherever it runs."""

    name: str
    layout: FeatureLayout
    batch_size: int

    @classmethod
    def of(cls, engine: Engine) -> Self:
        """Return what there is to say of an engine now."""
        return cls(engine.name, engine.layout, engine.batch_size)


def padded(images: np.ndarray, batch_size: int) -> np.ndarray:
    """Return ``images`` with black ones behind them: one size of batch is one graph, whose kernels see no half-full batch."""
    return np.pad(images, [(0, batch_size - len(images)), (0, 0), (0, 0), (0, 0)]) if len(images) < batch_size else images
