"""One convolution of several images on one core, with the bias and the bounds behind it: by tiles or by windows."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ffe.engines.winograd_kernels import KERNEL, PATCH, TILE, cut_off, from_products, to_products

_TILES = 32  # of each image that are computed at once: more take more memory, and fewer read the weights more often

Grids = np.ndarray  # float32 (n, h, w, C), n images


class _Scratch(threading.local):
    """Memory that a thread takes again for each convolution: the system clears new memory first."""

    def __init__(self) -> None:  # called in each thread
        self._kept: dict[int, np.ndarray] = {}

    def __call__(self, place: int, *shape: int) -> np.ndarray:
        """Return float32 of a shape; what was at this place before is lost."""
        size = int(np.prod(shape))
        if place not in self._kept or self._kept[place].size < size:
            self._kept[place] = np.empty(size, np.float32)
        return self._kept[place][:size].reshape(shape)


_scratch = _Scratch()


@dataclass
class Convolution:
    """A convolution with what follows it: a bias, and bounds. Kernel (h, w, read, made)."""

    kernel: np.ndarray
    steps: tuple[int, int]
    apart: tuple[int, int]
    padding: tuple[int, int, int, int]  # top, bottom, left, right
    by_tiles: bool  # else by windows; one of 3x3 places without steps can be computed either way
    bias: np.ndarray = field(init=False)
    low: float = -np.inf
    high: float = np.inf

    def __post_init__(self) -> None:
        self.bias = np.zeros(self.kernel.shape[3], np.float32)

    @property
    def bounded(self) -> bool:
        """Whether something was cut off: nothing can be added to it then."""
        return (self.low, self.high) != (-np.inf, np.inf)

    def prepare(self) -> None:
        """Put the weights in order, once it is known what follows."""
        _, _, read, made = self.kernel.shape
        if self.by_tiles:
            lines = (KERNEL @ self.kernel.reshape(3, -1)).reshape(PATCH, 3, -1)
            self.kernel = np.matmul(KERNEL, lines).reshape(PATCH, PATCH, read, made)
        self.ends = np.float32(self.low), np.float32(self.high)

    def __call__(self, grids: Grids, result: Grids) -> None:
        """Compute it; where BLAS is held to one thread, each image gets the bits that it gets beside any others.

        OpenBLAS's kernels for AVX2 take six rows at a time, and add otherwise in every second six; what is left over goes to
        other kernels. So the six images of a tile come one after another (``TOGETHER``), and tiles in pairs.
        """
        (self._by_tiles if self.by_tiles else self._by_windows)(grids, result)

    def _by_tiles(self, grids: Grids, result: Grids) -> None:
        images, height, width, made = result.shape
        tall, wide = -(-height // TILE), -(-width // TILE)
        top, _, left, _ = self.padding
        for first in range(0, tall * wide, _TILES):
            count = min(_TILES, tall * wide - first)
            count += count % 2
            rows = _scratch(0, PATCH**2, count * images, grids.shape[3])
            sums = _scratch(1, PATCH**2, count * images, made)
            to_products(grids, rows, wide, first, count, top, left)
            np.matmul(rows, self.kernel.reshape(PATCH**2, -1, made), out=sums)
            from_products(sums, result, wide, first, count, self.bias, *self.ends)

    def _by_windows(self, grids: Grids, result: Grids) -> None:
        high, wide, read, made = self.kernel.shape
        (down, right), (apart_y, apart_x), (top, bottom, left, after) = self.steps, self.apart, self.padding
        window = ((high - 1) * apart_y + 1, (wide - 1) * apart_x + 1)
        padded = np.pad(grids, [(0, 0), (top, bottom), (left, after), (0, 0)]) if any(self.padding) else grids
        windows = sliding_window_view(padded, window, (1, 2))[:, ::down, ::right, :, ::apart_y, ::apart_x]
        for image, found in zip(windows, result, strict=True):
            rows = image.transpose(0, 1, 3, 4, 2).reshape(-1, high * wide * read)
            np.matmul(rows, self.kernel.reshape(-1, made), out=found.reshape(-1, made))
        cut_off(result, self.bias, *self.ends)
