"""The short way to the pixels of a JPEG file: near to the exact one, upright, and never surer than it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffe.errors import DecodeError
from ffe.images.decode import decode
from ffe.images.drawings import draw
from ffe.images.limits import Limits
from ffe.specs import Decode, PreprocessSpec


def photo(size: tuple[int, int] = (375, 500)) -> Image.Image:
    """A picture with soft and sharp places and a little noise, as photos have."""
    height, width = size
    picture = np.asarray(draw("cat", 3, (height, width)), np.float64)
    noise = np.random.default_rng(0).normal(0, 4, picture.shape)
    return Image.fromarray(np.clip(picture + noise, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, orientation: int | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
        options["exif"] = exif
    image.save(buffer, "JPEG", quality=90, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def difference(data: bytes, size: tuple[int, int]) -> np.ndarray:
    return np.abs(
        decode(data, PreprocessSpec(size, "none", decode="fast")).astype(int)
        - decode(data, PreprocessSpec(size, "none")).astype(int)
    )


@pytest.mark.parametrize("source", [(375, 500), (500, 375), (224, 224), (230, 900), (1500, 2000), (100, 80)])
@pytest.mark.parametrize("size", [(224, 224), (150, 150), (64, 96)])
def test_pixels_are_near_to_the_exact_ones(source: tuple[int, int], size: tuple[int, int]) -> None:
    """On average within 3 of 255, as on photos; and not the same, or the test would compare a way with itself."""
    off = difference(jpeg(photo(source)), size)
    assert off.shape == (*size, 3)
    assert off.mean() < 3
    if source != size:
        assert off.max() > 0


def test_real_photos_are_near_too(shared: Path) -> None:
    """Within 3 of 255 on average over the photos, and within 8 on each: they have hair, grass and noise."""
    files = sorted((shared / "images" / "dogs_vs_cats").glob("*/*.jpg"))[::40]
    means = [difference(file.read_bytes(), (224, 224)).mean() for file in files]
    assert len(means) > 20
    assert np.mean(means) < 3
    assert max(means) < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_upright(orientation: int) -> None:
    """An untouched corner tells every turn from every other."""
    picture = np.zeros((160, 240, 3), np.uint8)
    picture[:80, :120] = (255, 0, 0)
    picture[:80, 120:] = (0, 255, 0)
    data = jpeg(Image.fromarray(picture), orientation, subsampling=0)
    for size in ((64, 96), (96, 64)):
        off = difference(data, size)
        assert off.mean() < 4, (orientation, size)


def test_grey_becomes_rgb() -> None:
    data = jpeg(photo().convert("L"))
    pixels = decode(data, PreprocessSpec((64, 64), "none", decode="fast"))
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert difference(data, (64, 64)).mean() < 3


@pytest.mark.parametrize("form", ["png", "cmyk", "rgba png"])
def test_all_else_is_decoded_exactly(form: str) -> None:
    buffer = io.BytesIO()
    image = photo((120, 160))
    if form == "cmyk":
        image.convert("CMYK").save(buffer, "JPEG")
    else:
        (image.convert("RGBA") if form == "rgba png" else image).save(buffer, "PNG")
    assert difference(buffer.getvalue(), (64, 64)).max() == 0


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _header_only(data: bytes) -> bytes:
    return data[:30]


def _garbage(data: bytes) -> bytes:
    return data[:3] + b"garbage" * 20


@pytest.mark.parametrize("damage", [_cut, _header_only, _garbage])
def test_damaged_files_have_the_reason_that_the_exact_way_gives(damage: object) -> None:
    data = damage(jpeg(photo((120, 160))))  # type: ignore[operator]
    with pytest.raises(DecodeError) as exact:
        decode(data, PreprocessSpec((32, 32), "none"))
    with pytest.raises(DecodeError) as fast:
        decode(data, PreprocessSpec((32, 32), "none", decode="fast"))
    assert (fast.value.reason, str(fast.value)) == (exact.value.reason, str(exact.value))


def test_too_large_pictures_are_refused() -> None:
    with pytest.raises(DecodeError, match=r"^160x120 pixels are more than 10,000 \(--max-pixels\)$"):
        decode(jpeg(photo((120, 160))), PreprocessSpec((32, 32), "none", decode="fast"), Limits(100 * 100))


def test_damaged_exif_counts_as_upright() -> None:
    data = jpeg(photo((120, 160)), 6)
    start = data.index(b"Exif") + 6
    broken = data[:start] + b"\xff" * 8 + data[start + 8 :]
    assert decode(broken, PreprocessSpec((60, 80), "none", decode="fast")).shape == (60, 80, 3)
    assert difference(broken, (60, 80)).mean() < 3


def test_odd_pictures_have_the_same_fate_both_ways(shared: Path) -> None:
    """Every odd file is either near to its exact picture, or refused for the same reason."""
    files = [file for file in sorted((shared / "images" / "odd").rglob("*")) if file.is_file()]
    assert files
    for file in files:
        data = file.read_bytes()
        exact, fast = fate(data, "exact"), fate(data, "fast")
        assert isinstance(exact, str) == isinstance(fast, str), file
        if isinstance(exact, str) or isinstance(fast, str):
            assert exact == fast, file
        else:
            most = 16 if file.name == "truncated_jpeg.jpg" else 6  # noise: other filters, other pixels
            assert np.abs(fast.astype(int) - exact).mean() < most, file


def fate(data: bytes, how: Decode) -> np.ndarray | str:
    try:
        return decode(data, PreprocessSpec((64, 64), "none", decode=how))
    except DecodeError as error:
        return error.reason
