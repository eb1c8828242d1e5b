"""Many files -> decoded images, in order, with bounded memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.base.digests import bytes_digest
from ffe.images.decode import decode, decode_with_hash
from ffe.images.loader import DecodedImage, ImageStream, default_workers
from ffe.images.phash import perceptual_hash
from ffe.specs import Decode, PreprocessSpec


def stream(
    files: Iterable[Path | bytes], size: tuple[int, int], ahead: int | None = None, how: Decode = "exact", **options: Any
) -> Generator[DecodedImage, None, None]:
    """What callers do with an ImageStream."""
    with ImageStream(files, PreprocessSpec(size, "none", decode=how), **options) as images:
        if ahead is not None:
            images.ahead = ahead
        yield from images


def blank(data: bytes, preprocess: PreprocessSpec, *rest: object) -> tuple[np.ndarray, int]:
    """A decoder that is done at once."""
    return np.zeros((*preprocess.size, 3), np.uint8), 0


def files_of(pictures: Path) -> list[Path]:
    return sorted(pictures.glob("*/*.png"))


@pytest.mark.parametrize("workers", [1, 4])
def test_every_file_in_the_order_given(pictures: Path, workers: int) -> None:
    files = files_of(pictures)[::-1]
    items = list(stream(files, (16, 16), workers=workers, ahead=5))
    assert [item.index for item in items] == list(range(len(files)))
    for file, item in zip(files, items, strict=True):
        assert item.error is None
        assert item.sha256 == bytes_digest(file.read_bytes())
        assert item.pixels is not None
        np.testing.assert_array_equal(item.pixels, decode(file.read_bytes(), PreprocessSpec((16, 16), "none")))


def test_order_holds_when_the_first_is_the_slowest(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_first(data: bytes, preprocess: PreprocessSpec, *rest: object) -> tuple[np.ndarray, int]:
        time.sleep(0.2 if data == b"0" else 0)
        return np.full((*preprocess.size, 3), int(data), np.uint8), 0

    monkeypatch.setattr("ffe.images.loader.decode_with_hash", slow_first)
    items = list(stream([b"%d" % i for i in range(10)], (2, 2), workers=4))
    assert [int(item.pixels[0, 0, 0]) for item in items if item.pixels is not None] == list(range(10))


def test_decoded_pixels_have_a_fingerprint_and_others_have_none(pictures: Path) -> None:
    files = [*files_of(pictures)[:3], pictures / "none.png"]
    skipped = bytes_digest(files[1].read_bytes())
    items = list(stream(files, (40, 40), known=lambda sha256, view: sha256 == skipped))
    pixels = [decode(file.read_bytes(), PreprocessSpec((40, 40), "none")) for file in files[:3]]
    assert [item.phash for item in items] == [perceptual_hash(pixels[0]), 0, perceptual_hash(pixels[2]), 0]


def test_bytes_are_taken_like_files(pictures: Path) -> None:
    file = files_of(pictures)[0]
    (of_file,), (of_bytes,) = list(stream([file], (16, 16))), list(stream([file.read_bytes()], (16, 16)))
    assert of_file.sha256 == of_bytes.sha256
    assert of_file.pixels is not None
    np.testing.assert_array_equal(of_file.pixels, of_bytes.pixels)


def test_bad_files_are_carried_and_do_not_stop_it(pictures: Path, tmp_path: Path) -> None:
    good = files_of(pictures)[0]
    items = list(stream([tmp_path / "none.png", good, b"text", good], (16, 16)))
    assert [item.error.reason if item.error else None for item in items] == ["missing", None, "not-an-image", None]
    assert [item.pixels is not None for item in items] == [False, True, False, True]
    assert items[0].sha256 == ""
    assert items[2].sha256 == bytes_digest(b"text")


def test_known_content_is_read_and_not_decoded(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = files_of(pictures)[:2]
    decoded: list[bytes] = []

    def counting(data: bytes, preprocess: PreprocessSpec, *rest: object) -> tuple[np.ndarray, int]:
        decoded.append(data)
        return decode_with_hash(data, preprocess)

    monkeypatch.setattr("ffe.images.loader.decode_with_hash", counting)
    digest = bytes_digest(first.read_bytes())
    items = list(stream([first, second], (16, 16), known=lambda sha256, view: sha256 == digest))
    assert items[0].sha256 == digest
    assert items[0].pixels is None
    assert items[0].error is None
    assert items[1].pixels is not None
    assert decoded == [second.read_bytes()]


def test_never_more_than_ahead_images_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays flat: a slow caller holds the workers back."""
    lock, decoded, taken, peak = threading.Lock(), 0, 0, 0

    def counting(data: bytes, preprocess: PreprocessSpec, *rest: object) -> tuple[np.ndarray, int]:
        nonlocal decoded, peak
        with lock:
            decoded += 1
            peak = max(peak, decoded - taken)
        return blank(data, preprocess)

    monkeypatch.setattr("ffe.images.loader.decode_with_hash", counting)
    for _ in stream((b"%d" % i for i in range(60)), (2, 2), workers=8, ahead=6):
        time.sleep(0.002)
        with lock:
            taken += 1
    assert decoded == taken == 60
    assert 2 <= peak <= 6 + 1  # and the one that the caller has


def test_files_are_asked_for_only_as_they_are_needed() -> None:
    asked = 0

    def endless() -> Iterable[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield b"text"

    items = stream(endless(), (2, 2), workers=2, ahead=3)
    for _ in range(10):
        next(items)
    assert asked <= 10 + 3
    items.close()


def test_threads_end_with_the_stream(pictures: Path) -> None:
    def running() -> int:
        return sum(thread.name.startswith("ffe-decode") for thread in threading.enumerate())

    before = running()
    items = stream(files_of(pictures), (16, 16), workers=2, ahead=4)
    next(items)
    assert running() > before
    items.close()
    assert running() == before


def test_default_workers_are_few() -> None:
    assert 1 <= default_workers() <= 16


def test_prefetch_decodes_before_anybody_asks(pictures: Path) -> None:
    files = files_of(pictures)
    with ImageStream(files, PreprocessSpec((16, 16), "none"), workers=2) as images:
        images.prefetch()
        deadline = time.monotonic() + 120
        while images.decode_seconds == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert images.decode_seconds > 0
        assert [item.index for item in images] == list(range(len(files)))


def test_fast_decoding_reaches_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    ways: list[str] = []

    def noting(data: bytes, preprocess: PreprocessSpec, *rest: object) -> tuple[np.ndarray, int]:
        ways.append(preprocess.decode)
        return blank(data, preprocess)

    monkeypatch.setattr("ffe.images.loader.decode_with_hash", noting)
    list(stream([b"1"], (2, 2)))
    list(stream([b"1"], (2, 2), how="fast"))
    assert ways == ["exact", "fast"]


def test_the_first_files_are_decoded_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where more threads stand by than may work at once."""
    done: list[int] = []

    def noting(data: bytes, preprocess: PreprocessSpec, *rest: object) -> tuple[np.ndarray, int]:
        done.append(int(data))
        time.sleep(0.001)
        return blank(data, preprocess)

    monkeypatch.setattr("ffe.images.loader.decode_with_hash", noting)
    monkeypatch.setattr("ffe.images.loader.cores", lambda: 1)
    with ImageStream([b"%d" % i for i in range(100)], PreprocessSpec((2, 2), "none")) as images:
        assert len(list(images)) == 100
    assert done == list(range(100))


def test_time_is_kept_by_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow_read(file: Path, *limits: int) -> bytes:
        time.sleep(0.02)
        return b"1"

    monkeypatch.setattr("ffe.images.loader.read_image", slow_read)
    monkeypatch.setattr("ffe.images.loader.decode_with_hash", blank)
    with ImageStream([Path("a")] * 10, PreprocessSpec((2, 2), "none"), workers=1) as images:
        assert len(list(images)) == 10
    assert images.read_seconds >= 0.2
    assert images.decode_seconds < images.read_seconds
    assert images.waited >= 0.1


@pytest.mark.parametrize(("named", "grows"), [(None, True), (2, False)])
def test_more_threads_where_files_come_slowly(monkeypatch: pytest.MonkeyPatch, named: int | None, grows: bool) -> None:
    """A disk or a network that makes the threads wait while the cores idle; a number that the user named stands."""

    def slow_read(file: Path, *limits: int) -> bytes:
        time.sleep(0.01)
        return b"1"

    monkeypatch.setattr("ffe.images.loader._CHECK_SECONDS", 0.05)
    monkeypatch.setattr("ffe.images.loader.cores", lambda: 2)
    monkeypatch.setattr("ffe.images.loader.read_image", slow_read)
    monkeypatch.setattr("ffe.images.loader.decode_with_hash", blank)
    with ImageStream([Path("a")] * 200, PreprocessSpec((2, 2), "none"), workers=named) as images:
        assert images.workers == 2
        assert [item.index for item in images] == list(range(200))
        assert images.workers == (4 if grows else 2)  # twice the cores, and no more


def test_no_more_threads_where_other_programs_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process gets little of its cores, so its threads take long to decode; they wait for no file."""

    def starved(data: bytes, preprocess: PreprocessSpec, *rest: object) -> tuple[np.ndarray, int]:
        time.sleep(0.01)  # for a core
        return blank(data, preprocess)

    monkeypatch.setattr("ffe.images.loader._CHECK_SECONDS", 0.02)
    monkeypatch.setattr("ffe.images.loader.cores", lambda: 2)
    monkeypatch.setattr("ffe.images.loader.decode_with_hash", starved)
    with ImageStream([b"1"] * 60, PreprocessSpec((2, 2), "none")) as images:
        list(images)
        assert images.workers == 2


def test_no_more_threads_where_the_cores_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding is the limit: more threads would not help."""

    def busy(data: bytes, preprocess: PreprocessSpec, *rest: object) -> tuple[np.ndarray, int]:
        time.sleep(0.01)
        return blank(data, preprocess)

    monkeypatch.setattr("ffe.images.loader.time.process_time", time.monotonic)  # one core, in full use

    monkeypatch.setattr("ffe.images.loader._CHECK_SECONDS", 0.05)
    monkeypatch.setattr("ffe.images.loader.cores", lambda: 1)
    monkeypatch.setattr("ffe.images.loader.decode_with_hash", busy)
    with ImageStream([b"1"] * 60, PreprocessSpec((2, 2), "none")) as images:
        list(images)
        assert images.workers == 1
