"""Batches in order from a thread; rows from a feature file, in memory or not; pictures that change."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from ffe.base.digests import bytes_digest
from ffe.base.feature_layout import FeatureLayout
from ffe.engines.fake import FakeEngine
from ffe.finetuning.inputs import Activations, DecodedImages
from ffe.finetuning.prefetch import batches
from ffe.images.augment import augment
from ffe.images.preprocess import preprocess
from ffe.specs import AugmentSpec, BackboneSpec, ExtractSpec, PreprocessSpec, ViewsSpec
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import write_store

SPEC = ExtractSpec(BackboneSpec("fake", "random", "0" * 64), PreprocessSpec((8, 8), "none"))


class Numbers:
    """Gives the numbers of the rows, plus 100 for each view."""

    def __init__(self, broken_at: int | None = None) -> None:
        self.broken_at = broken_at
        self.taken = 0

    def take(self, rows: np.ndarray, view: int) -> np.ndarray:
        self.taken += 1
        if self.broken_at == self.taken:
            raise OSError("the disk is gone")
        return rows + 100.0 * view


def test_batches_come_in_order_and_whole() -> None:
    order = np.random.default_rng(0).permutation(10)
    found = list(batches(Numbers(), order, 4, view=2))
    assert [len(rows) for rows, _ in found] == [4, 4, 2]
    assert np.concatenate([rows for rows, _ in found]).tolist() == order.tolist()
    assert np.concatenate([x for _, x in found]).tolist() == (order + 200.0).tolist()


def test_an_error_of_the_source_is_the_callers() -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        list(batches(Numbers(broken_at=3), np.arange(10), 2))


def test_the_thread_ends_with_the_iterator_and_works_only_a_little_ahead() -> None:
    source = Numbers()
    running = batches(source, np.arange(1000), 1)
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert source.taken <= 5
    assert not any(thread.name.startswith("ffe-batches") for thread in threading.enumerate())


def store_with_views(path: Path) -> None:
    """Write 6 images of 2x2x3 values; images 0 to 3 have two further views each."""
    rows = [Row(f"{i}.png", bytes_digest(b"%d" % i), i % 2, "", view) for i in range(6) for view in range(3 if i < 4 else 1)]
    write_store(
        path,
        spec=SPEC,
        layout=FeatureLayout.of_shape((2, 2, 3)),
        class_names=["a", "b"],
        rows=rows,
        features=lambda row: np.full(12, 10 * int(row.path[0]) + row.view, np.float32),
        views=ViewsSpec(2, AugmentSpec(flip=True)),
    )


@pytest.mark.parametrize("free", [1 << 30, 8])
def test_rows_of_a_file_with_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """In memory, and from the disk where memory is short: the same rows."""
    monkeypatch.setattr("ffe.base.arrays.free_memory", lambda: free)
    store_with_views(tmp_path / "f.h5")
    with FeatureStore(tmp_path / "f.h5") as store:
        source = Activations(store, (2, 2, 3))
        assert source.in_memory == (free > 1000)
        images = [int(store.paths[row][0]) for row in source.plain]
        assert sorted(images) == list(range(6))
        order = np.random.default_rng(1).permutation(6)
        for view, number in ((0, 0), (1, 1), (2, 2), (3, 0), (4, 1)):  # the plain one and two stored views take turns
            found = source.take(order, view)
            assert found.shape == (6, 2, 2, 3)
            wanted = [10 * images[i] + (number if images[i] < 4 else 0) for i in order]
            assert found[:, 0, 0, 0].tolist() == wanted


@pytest.fixture
def pictures() -> tuple[np.ndarray, list[str]]:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    return pixels, [bytes_digest(image.tobytes()) for image in pixels]


def test_pictures_are_scaled_where_all_of_the_network_learns(pictures: tuple[np.ndarray, list[str]]) -> None:
    pixels, sha256 = pictures
    source = DecodedImages(pixels, sha256, "tf")
    rows = np.asarray([3, 0])
    assert np.array_equal(source.take(rows, 0), preprocess(pixels[rows], "tf"))
    assert np.array_equal(source.take(rows, 7), source.take(rows, 0))
    source.close()


def test_pictures_change_with_the_view_and_the_same_view_is_the_same(pictures: tuple[np.ndarray, list[str]]) -> None:
    pixels, sha256 = pictures
    spec = AugmentSpec(flip=True, rotate=40, shift=0.2)
    source = DecodedImages(pixels, sha256, "none", spec)
    rows = np.asarray([4, 1, 2])
    first, second = source.take(rows, 1), source.take(rows, 2)
    assert np.array_equal(first, np.stack([augment(pixels[i], spec, sha256[i], 1) for i in rows]).astype(np.float32))
    assert np.array_equal(source.take(rows, 1), first)
    assert not np.array_equal(first, second)
    assert np.array_equal(source.take(rows, 0), pixels[rows].astype(np.float32))
    source.close()


def test_so_many_views_of_pictures_take_turns_with_the_plain_ones(pictures: tuple[np.ndarray, list[str]]) -> None:
    """As those of activations do, by the same numbers."""
    pixels, sha256 = pictures
    spec = AugmentSpec(flip=True, rotate=40, shift=0.2)
    source, anew = (DecodedImages(pixels, sha256, "none", spec, views=count) for count in (2, 0))
    rows = np.asarray([4, 1, 2])
    for view, number in ((0, 0), (1, 1), (2, 2), (3, 0), (4, 1)):
        assert np.array_equal(source.take(rows, view), anew.take(rows, number))
    assert not np.array_equal(anew.take(rows, 4), anew.take(rows, 1))
    source.close()
    anew.close()


@pytest.mark.parametrize("free", [1 << 30, 8])
def test_pictures_go_through_the_frozen_part(
    pictures: tuple[np.ndarray, list[str]], monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    """Plain ones once, where memory lasts; changed ones each time."""
    monkeypatch.setattr("ffe.base.arrays.free_memory", lambda: free)
    pixels, sha256 = pictures

    class Counting(FakeEngine):
        images = 0

        def extract(self, images: np.ndarray) -> np.ndarray:
            self.images += len(images)
            return super().extract(images)

    engine = Counting(SPEC, 2)
    source = DecodedImages(pixels, sha256, "none", AugmentSpec(flip=True, rotate=20), engine, (4, 4, 3))
    rows = np.asarray([4, 1, 2])
    plain = source.take(rows, 0)
    assert np.array_equal(plain, FakeEngine(SPEC, 8).extract(pixels[rows]).reshape(3, 4, 4, 3))
    assert np.array_equal(source.take(rows[::-1], 0), plain[::-1])
    assert engine.images == (3 if free > 1000 else 6)
    source.take(rows, 1)
    source.take(rows, 1)
    assert engine.images == (9 if free > 1000 else 12)
    source.close()
