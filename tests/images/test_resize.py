"""Stretched, cut and filled: sizes, places, colours; and never more pixels than are needed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ffe.images import resize
from ffe.images.decode import decode, decode_with_hash
from ffe.images.drawings import draw
from ffe.images.phash import perceptual_hash
from ffe.images.resize import goal, resized, resized_size
from ffe.specs import PreprocessSpec


def spec(size: tuple[int, int] = (224, 224), **fields: Any) -> PreprocessSpec:
    return PreprocessSpec(size, fields.pop("mode", "none"), **fields)


def photo(height: int, width: int) -> Image.Image:
    """A picture with soft and sharp places and a little noise, as photos have."""
    picture = np.asarray(draw("cat", 3, (height, width)), np.float64)
    noise = np.random.default_rng(0).normal(0, 4, picture.shape)
    return Image.fromarray(np.clip(picture + noise, 0, 255).astype(np.uint8))


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(length: int) -> Image.Image:
    """A picture whose columns say which they are."""
    return Image.fromarray(np.broadcast_to(np.arange(length, dtype=np.uint8)[None, :, None], (8, length, 3)).copy())


@pytest.mark.parametrize(
    ("full", "fields", "expected"),
    [
        ((333, 217), {}, (224, 224)),
        ((333, 217), {"crop": 0.875}, (256, 256)),
        ((333, 217), {"crop": 0.9}, (248, 248)),  # 248.9, rounded down
        ((333, 217), {"resize": "shortest"}, (343, 224)),  # 343.7
        ((217, 333), {"resize": "shortest"}, (224, 343)),
        ((333, 217), {"resize": "longest"}, (224, 146)),  # 145.97
        ((333, 217), {"resize": "longest", "placement": "huggingface"}, (224, 145)),
        ((1, 500), {"resize": "longest"}, (1, 224)),  # never nothing
        ((1, 500), {"resize": "longest", "placement": "huggingface"}, (1, 224)),
        ((100, 100), {"size": (96, 160), "resize": "shortest"}, (160, 160)),
        ((100, 100), {"size": (96, 160), "resize": "longest"}, (96, 96)),
    ],
)
def test_what_a_picture_is_brought_to(full: tuple[int, int], fields: dict[str, Any], expected: tuple[int, int]) -> None:
    assert resized_size(full, spec(**fields)) == expected


def test_the_goal_is_the_size_before_the_cut() -> None:
    assert goal(spec((96, 160), crop=0.8)) == (120, 200)


@pytest.mark.parametrize(("placement", "first"), [("timm", 2), ("huggingface", 1)])
def test_the_odd_pixel(placement: str, first: int) -> None:
    """Of 11 columns 8 stay: 3 go, one and a half at each side."""
    found, _ = resized(ramp(11), spec((8, 8), resize="shortest", placement=placement))
    assert found[0, :, 0].tolist() == list(range(first, first + 8))


@pytest.mark.parametrize(("placement", "above"), [("timm", 2), ("huggingface", 0)])
def test_where_a_picture_stands_that_is_filled(placement: str, above: int) -> None:
    """A picture of 8x16 in a square of 13: 7x13 of it, and 6 rows, or 5 of timm's 8 to 13, are filled."""
    found, _ = resized(Image.new("RGB", (13, 8), (9, 9, 9)), spec((13, 13), resize="longest", placement=placement))
    rows = np.flatnonzero((found == 9).all(axis=(1, 2)))
    assert rows.tolist() == list(range(above, above + 8))
    assert (np.delete(found, rows, axis=0) == 0).all()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (0, 0, 0)),
        ({"mode": "tf"}, (128, 128, 128)),
        ({"mode": "caffe"}, (124, 117, 104)),
        ({"mode": "torch"}, (124, 116, 104)),
        ({"mode": "normalize", "mean": (0.1, 0.2, 1.5), "std": (1, 1, 1)}, (26, 51, 255)),
        ({"mode": "normalize", "mean": (0.1, 0.2, 0.3), "std": (1, 1, 1), "channels": "bgr"}, (76, 51, 26)),
        ({"mode": "normalize", "mean": (0.4,), "std": (1,), "channels": "gray"}, (102, 102, 102)),
    ],
)
def test_filled_with_what_scaling_makes_0(fields: dict[str, Any], expected: tuple[int, int, int]) -> None:
    found, _ = resized(Image.new("RGB", (8, 2)), spec((8, 8), resize="longest", **fields))
    assert found[0, 0].tolist() == list(expected)


@pytest.mark.parametrize("fields", [{"resize": "shortest"}, {"resize": "shortest", "crop": 0.8}, {"crop": 0.8}])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("shape", [(37, 1200), (481, 640), (20, 30)])
def test_what_is_not_shown_need_not_be_computed(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], interpolation: str, fields: dict[str, Any]
) -> None:
    """The way of strips is near to the other one: within 2 of 255, and the same for nearly all."""
    wanted, picture = spec((96, 64), interpolation=interpolation, **fields), photo(*shape)
    whole = resized(picture, wanted)[0].astype(int)
    monkeypatch.setattr(resize, "_MOST_PIXELS", 0)
    monkeypatch.setattr(resize, "_MOST_TIMES", 0)
    off = np.abs(resized(picture, wanted)[0] - whole)
    assert off.max() <= 2
    assert (off > 0).mean() < 0.1


@pytest.mark.parametrize("shape", [(1, 20000), (20000, 1)])
def test_a_long_strip_takes_no_memory(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]) -> None:
    """Whole, it would become 224x4,480,000 pixels."""
    sizes: list[tuple[int, int]] = []
    inner = Image.Image.resize

    def noting(self: Image.Image, size: tuple[int, int], *rest: Any, **options: Any) -> Image.Image:
        sizes.append(size)
        return inner(self, size, *rest, **options)

    monkeypatch.setattr(Image.Image, "resize", noting)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    pixels, whole = resized(picture, spec(resize="shortest"))
    assert (pixels.shape, whole.shape) == ((224, 224, 3), (128, 128, 3))
    assert sizes == [(224, 224), (128, 128)]


GEOMETRIES: list[dict[str, Any]] = [
    {"crop": 0.875},
    {"resize": "shortest"},
    {"resize": "shortest", "crop": 0.875},
    {"resize": "longest"},
    {"resize": "longest", "crop": 0.875},
]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("fields", [{}, *GEOMETRIES], ids=str)
@pytest.mark.parametrize("shape", [(375, 500), (900, 230), (1500, 2000), (60, 80)])
def test_the_short_way_is_near(shape: tuple[int, int], fields: dict[str, Any], interpolation: str) -> None:
    """On average within 3 of 255, as it promises; and for large pictures another way, or this would test nothing."""
    data = encoded(photo(*shape), "JPEG", quality=90)
    fast, exact = (decode(data, spec(interpolation=interpolation, decode=how, **fields)).astype(int) for how in ("fast", "exact"))
    off = np.abs(fast - exact)
    assert off.mean() < 3
    assert off.max() > 0 or min(shape) < 224


def test_single_pixels_are_picked_from_the_whole_picture() -> None:
    data = encoded(photo(900, 1200), "JPEG", quality=90)
    fast, exact = (decode(data, spec(interpolation="nearest", resize="shortest", decode=how)) for how in ("fast", "exact"))
    np.testing.assert_array_equal(fast, exact)


@pytest.mark.parametrize("how", ["exact", "fast"])
@pytest.mark.parametrize("fields", GEOMETRIES, ids=str)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_before_it_is_cut(how: Any, fields: dict[str, Any], orientation: int) -> None:
    """The odd pixel goes at the same side, however the file lies."""
    turned = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # what undoes it, as Pillow numbers it
    upright = photo(168, 248)  # whole numbers at every n/8
    stored = upright if turned is None else upright.transpose(Image.Transpose(turned))
    exif = Image.Exif()
    exif[0x0112] = orientation
    wanted = spec((64, 64), decode=how, **fields)
    found, expected = (
        decode(encoded(picture, "JPEG", quality=95, subsampling=0, **options), wanted).astype(int)
        for picture, options in ((stored, {"exif": exif}), (upright, {}))
    )
    assert np.abs(found - expected).mean() < 1


@pytest.mark.parametrize("how", ["exact", "fast"])
@pytest.mark.parametrize("fields", GEOMETRIES, ids=str)
def test_the_fingerprint_is_of_the_whole_picture(how: Any, fields: dict[str, Any]) -> None:
    """So the copies of a picture are found whatever a backbone is shown of it."""
    data = encoded(photo(300, 700), "JPEG", quality=95)
    whole = perceptual_hash(decode(data, spec()))
    pixels, found = decode_with_hash(data, spec(decode=how, **fields))
    assert (found ^ whole).bit_count() <= 2
    assert (perceptual_hash(pixels) ^ whole).bit_count() > 2  # that of what is shown is another
