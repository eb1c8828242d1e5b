"""Where the rows of a stage come from: activations that were computed once, or images that change in every epoch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ffe.base.arrays import fits_in_memory
from ffe.base.system import cores
from ffe.engines.base import Engine
from ffe.images.augment import augment
from ffe.images.preprocess import preprocess
from ffe.specs import AugmentSpec, PreprocessMode
from ffe.store.reader import FeatureStore


class Activations:
    """Rows of a feature file, open as long as this is used: in memory where they fit, else read when they are needed.

    Rows of one image are its views. The plain one is asked for by view 0; in training they take turns from epoch to epoch,
    the plain one among them. ``plain`` int64 (n,) is the row of the plain view of each image, in the order of the file.
    """

    def __init__(self, store: FeatureStore, shape: Sequence[int]) -> None:
        self._store = store
        self._shape = tuple(shape)
        self.plain = np.flatnonzero(store.views == 0)
        rows_of: dict[str, list[int]] = defaultdict(list)  # by their views' number
        for row in np.argsort(store.views, kind="stable").tolist():
            rows_of[store.paths[row]].append(row)
        self._turns = [rows_of[store.paths[row]] for row in self.plain]
        self.in_memory = fits_in_memory(4 * len(store) * store.dims)
        self._rows = store.features() if self.in_memory else None

    def take(self, rows: np.ndarray, view: int) -> np.ndarray:
        """Return float32 (n, *shape) of images, which are numbered as in ``plain``."""
        turns = [self._turns[image] for image in rows.tolist()]
        wanted = np.asarray([each[view % len(each)] for each in turns], np.int64)
        found = self._rows[wanted] if self._rows is not None else self._store.features(wanted)
        return found.reshape(len(rows), *self._shape)


@dataclass(eq=False)
class DecodedImages:
    """Decoded images, changed from epoch to epoch, and sent through the part that stays as it is."""

    pixels: np.ndarray  # uint8 (N, H, W, 3), RGB
    sha256: Sequence[str]  # N digests of their files
    mode: PreprocessMode  # how the model wants pixels scaled, where all of it is trained
    change: AugmentSpec | None = None  # how they look in other views than the plain one; None = always the same
    engine: Engine | None = None  # the part that stays as it is; None = there is none
    shape: tuple[int, ...] = ()  # of its output for one image
    views: int = 0  # so many of them take turns with the plain image; 0 = each asked for is another one

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(cores(), thread_name_prefix="ffe-views")
        self._plain: dict[int, np.ndarray] = {}
        self._keeps = self.engine is not None and fits_in_memory(4 * len(self.pixels) * math.prod(self.shape))

    def take(self, rows: np.ndarray, view: int) -> np.ndarray:
        """Return float32 (n, *shape); scaled pixels (n, H, W, 3) where all of the model is trained."""
        if self.views:
            view %= 1 + self.views
        if self.engine is None:
            return preprocess(self._images(rows, view), self.mode)
        if (view and self.change is not None) or not self._keeps:
            return self._through(self.engine, self._images(rows, view))
        missing = np.asarray([row for row in rows.tolist() if row not in self._plain], np.int64)
        if len(missing):
            found = self._through(self.engine, self._images(missing, 0))
            self._plain.update(zip(missing.tolist(), found, strict=True))
        return np.stack([self._plain[row] for row in rows.tolist()])

    def _images(self, rows: np.ndarray, view: int) -> np.ndarray:
        change = self.change
        if not view or change is None:
            return self.pixels[rows]
        made = self._threads.map(lambda row: augment(self.pixels[row], change, self.sha256[row], view), rows.tolist())
        return np.stack(list(made))

    def _through(self, engine: Engine, images: np.ndarray) -> np.ndarray:
        size = engine.batch_size
        running = [engine.start(images[start : start + size]) for start in range(0, len(images), size)]
        return np.concatenate([call() for call in running]).reshape(len(images), *self.shape)

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown()
