"""The batch size follows what the first seconds show and what memory allows, and the rows stay what they are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ffe.engines.fake import FakeEngine
from ffe.errors import EngineError
from ffe.extraction.batch_size import BatchSize
from ffe.extraction.pipeline import Pipeline
from ffe.images.loader import ImageStream
from ffe.specs import BackboneSpec, ExtractSpec, PreprocessSpec

SPEC = ExtractSpec(BackboneSpec("fake", "random", ""), PreprocessSpec((16, 16), "none"))


class _Engine(FakeEngine):
    """Fails for want of memory above some batch size; two calls may be on their way."""

    in_flight = 2

    def __init__(self, batch_size: int, fits: int = 1 << 30, error: Exception | None = None) -> None:
        super().__init__(SPEC, batch_size)
        self.fits = fits
        self.error = error or MemoryError()
        self.calls: list[int] = []

    def start(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        """At work at once, as real engines are; an error comes with the result."""
        try:
            rows = self.extract(images)
        except Exception as error:
            failed = error

            def fail() -> np.ndarray:
                raise failed

            return fail
        return lambda: rows

    def extract(self, images: np.ndarray) -> np.ndarray:
        self.calls.append(len(images))
        assert len(images) <= self.batch_size
        if len(images) > self.fits:
            raise self.error
        return super().extract(images)


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("ffe"), "propagate", True)
    return caplog


def rows_of(pictures: Path, engine: FakeEngine, batch_size: int | None = None) -> np.ndarray:
    files = sorted(pictures.glob("*/*.png"))
    with ImageStream(files, PreprocessSpec((16, 16), "none")) as images:
        items = [item for batch in Pipeline(images, lambda: engine, batch_size=batch_size) for item in batch]
    assert [item.index for item in items] == list(range(len(files)))
    return np.stack([item.features for item in items if item.features is not None])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("RESOURCE_EXHAUSTED: OOM when allocating tensor"),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=lambda error: str(error)[:12] or "MemoryError",
)
def test_the_batch_halves_when_memory_runs_out(pictures: Path, log: pytest.LogCaptureFixture, error: Exception) -> None:
    engine = _Engine(16, fits=5, error=error)
    np.testing.assert_array_equal(rows_of(pictures, engine), rows_of(pictures, _Engine(16)))
    assert engine.batch_size == 4
    assert "memory ran out, so batches have 8 images from now on" in log.text
    assert "memory ran out, so batches have 4 images from now on" in log.text
    assert engine.calls[-1] <= 4


def test_a_size_that_the_user_named_halves_too(pictures: Path) -> None:
    engine = _Engine(16, fits=5)
    np.testing.assert_array_equal(rows_of(pictures, engine, batch_size=16), rows_of(pictures, _Engine(16)))
    assert engine.batch_size == 4


def test_no_memory_for_one_image_is_a_sentence(pictures: Path) -> None:
    with pytest.raises(EngineError) as caught:
        rows_of(pictures, _Engine(4, fits=0))
    assert str(caught.value) == (
        "There is not enough memory to compute even one image; "
        "close other programs, or choose a smaller --size or another --backbone."
    )


def test_other_errors_go_through(pictures: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        rows_of(pictures, _Engine(4, fits=0, error=ZeroDivisionError()))


def test_the_batch_halves_before_memory_is_gone(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ffe.extraction.batch_size._LOOK_SECONDS", 0.0)
    monkeypatch.setattr("ffe.extraction.batch_size.free_memory", lambda: 100 << 20)
    monkeypatch.setattr("ffe.extraction.batch_size.total_memory", lambda: 4 << 30)
    engine = _Engine(16)
    np.testing.assert_array_equal(rows_of(pictures, engine), rows_of(pictures, _Engine(16)))
    assert engine.batch_size == 1
    assert "memory is running low, so batches have 8 images from now on" in log.text


def test_enough_memory_changes_nothing(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.extraction.batch_size._LOOK_SECONDS", 0.0)
    monkeypatch.setattr("ffe.extraction.batch_size.free_memory", lambda: 2 << 30)
    monkeypatch.setattr("ffe.extraction.batch_size.total_memory", lambda: 4 << 30)
    engine = _Engine(16)
    rows_of(pictures, engine)
    assert engine.batch_size == 16


def sizer_of(sizes: tuple[int, ...], batch_size: int, *, fixed: bool = False) -> tuple[BatchSize, _Engine]:
    engine = _Engine(batch_size)
    engine.sizes = sizes
    return BatchSize(engine, fixed=fixed), engine


def test_long_calls_take_fewer_images() -> None:
    """Until a call is over within two seconds; never below the smallest size that the engine names."""
    sizer, engine = sizer_of((2, 4, 8), 8)
    seen = []
    clock = 0.0
    for _ in range(4):
        clock += 0.9 * engine.batch_size / engine.in_flight
        sizer.ended(engine.batch_size, clock)
        seen.append(engine.batch_size)
    assert seen == [4, 2, 2, 2]
    sizer, engine = sizer_of((2, 4, 8), 8, fixed=True)
    sizer.ended(8, 60.0)
    assert engine.batch_size == 8


def run_with_rates(rate: Callable[[int], float], sizes: tuple[int, ...] = (32, 64, 128, 256)) -> int:
    sizer, engine = sizer_of(sizes, 32)
    clock = 0.0
    for _ in range(200):
        clock += engine.batch_size / rate(engine.batch_size)
        sizer.ended(engine.batch_size, clock)
    return engine.batch_size


def test_larger_batches_are_kept_while_they_pay() -> None:
    assert run_with_rates(lambda size: 100.0 * size) == 256
    assert run_with_rates(lambda size: 100.0 * min(size, 128)) == 128
    assert run_with_rates(lambda size: 1000.0) == 32
    assert run_with_rates(lambda size: 1000.0, (32,)) == 32
