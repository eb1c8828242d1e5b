"""What every engine promises; ``ffe.testing.EngineContract`` checks it."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Engine(Protocol):
    """A frozen backbone, ready to run on some device.

    Attributes:
        name: what ``--engine`` takes.
        grid: (h, w, c) of one image's features before flattening.
        batch_size: images that one call takes at the most.
    """

    name: str
    grid: tuple[int, int, int]
    batch_size: int

    def extract(self, images: np.ndarray) -> np.ndarray:
        """Compute features.

        A row depends on its own image alone: not on its neighbours in the
        batch, nor on how full the batch is.

        Args:
            images: uint8 (N, H, W, 3), RGB, 1 <= N <= batch_size, not yet scaled.

        Returns:
            float32 (N, h * w * c), flattened from (h, w, c) in C order.
        """
        ...
