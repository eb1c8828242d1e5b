"""What every engine must pass: subclass ``EngineContract`` and give ``make``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ffe.base.feature_layout import FeatureLayout
from ffe.engines.base import ROW_TOLERANCE, Engine


class EngineContract:
    """The promises of ``ffe.engines.base.Engine``, as tests.

    Attributes:
        size: (height, width) of the images that the engine takes.
    """

    size: tuple[int, int] = (32, 32)

    def make(self, batch_size: int) -> Engine:
        """Return an engine; called once or more by every test, so keep what is slow."""
        raise NotImplementedError

    def spatial(self, images: np.ndarray) -> np.ndarray:
        """Return float features (N, h, w, c), tokens (N, t, c), or rows (N, D) of several parts, by a slower way."""
        raise NotImplementedError

    #: largest difference between the engine and ``spatial``, as a share of the largest feature
    tolerance: float = 1e-4

    def images(self, count: int, seed: int = 0) -> np.ndarray:
        """Return uint8 (count, H, W, 3), every picture another one."""
        return np.random.default_rng(seed).integers(0, 256, (count, *self.size, 3), np.uint8)

    def assert_same(self, rows: np.ndarray, others: np.ndarray) -> None:
        """Check that rows of the same images are as near as the engine promises."""
        apart = 0 if self.make(4).exact else ROW_TOLERANCE * float(np.abs(others).max())
        np.testing.assert_allclose(rows, others, rtol=0, atol=apart)

    def test_says_what_it_is(self) -> None:
        """A name, the layout of a row, and the batch size it was made with."""
        engine = self.make(4)
        assert isinstance(engine.name, str)
        assert engine.name
        assert FeatureLayout.from_json(engine.layout.to_json()) == engine.layout
        assert engine.batch_size == 4
        assert isinstance(engine.on_cpu, bool)

    def test_shape_and_type(self) -> None:
        """Float32 (N, D), finite, for every N up to the batch size."""
        engine = self.make(4)
        for count in range(1, 5):
            rows = engine.extract(self.images(count))
            assert isinstance(rows, np.ndarray)
            assert rows.shape == (count, engine.layout.dims)
            assert rows.dtype == np.float32
            assert np.isfinite(rows).all()

    def test_tells_pictures_apart(self) -> None:
        """Other pixels give other features."""
        rows = self.make(4).extract(self.images(4))
        assert len({row.tobytes() for row in rows}) == 4

    def test_is_deterministic(self) -> None:
        """The same images give the same rows, from the same engine and from another."""
        images = self.images(4)
        first = self.make(4).extract(images)
        self.assert_same(self.make(4).extract(images), first)

    def test_row_does_not_depend_on_how_full_the_batch_is(self) -> None:
        """Images alone, or in part of a batch, give the rows that the full batch gives."""
        engine, images = self.make(4), self.images(4)
        full = engine.extract(images)
        for count in range(1, 4):
            self.assert_same(engine.extract(images[:count]), full[:count])
        for i in range(4):
            self.assert_same(engine.extract(images[i : i + 1])[0], full[i])

    def test_row_does_not_depend_on_its_neighbours(self) -> None:
        """A row stays as it is in another order and among other images."""
        engine, images, others = self.make(4), self.images(4), self.images(4, seed=1)
        full = engine.extract(images)
        self.assert_same(engine.extract(images[::-1])[::-1], full)
        for i in range(4):
            mixed = others.copy()
            mixed[i] = images[i]
            self.assert_same(engine.extract(mixed)[i], full[i])

    def test_leaves_its_input_alone(self) -> None:
        """The images are read and not written."""
        images = self.images(3)
        before = images.copy()
        images.setflags(write=False)
        self.make(4).extract(images)
        np.testing.assert_array_equal(images, before)

    def test_rows_do_not_share_memory_with_later_calls(self) -> None:
        """What a call returned stays as it is when the engine goes on."""
        engine = self.make(4)
        first = engine.extract(self.images(4))
        kept = first.copy()
        engine.extract(self.images(4, seed=1))
        np.testing.assert_array_equal(first, kept)

    def test_flattened_in_the_order_of_the_grid(self) -> None:
        """A row reshaped to the grid is (h, w, c), as the slower way computes it."""
        engine, images = self.make(4), self.images(4)
        rows: Any = engine.extract(images)
        slow = self.spatial(images)
        layout, part = engine.layout, engine.layout.parts[0]
        tokens = (part.prefix + part.height * part.width, part.channels)
        assert slow.shape[1:] == (layout.grid or (tokens if len(layout.parts) == 1 else (layout.dims,)))
        np.testing.assert_allclose(rows.reshape(slow.shape), slow, rtol=0, atol=self.tolerance * np.abs(slow).max())
