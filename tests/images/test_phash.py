"""Fingerprints: nearly the same for a picture that was saved again or resized, far apart for others."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from ffe.images.drawings import draw
from ffe.images.phash import UNKNOWN, perceptual_hash

PICTURES = [draw("cat" if i % 2 else "dog", i, (200, 240)) for i in range(12)]


def of(image: Image.Image, size: tuple[int, int] = (224, 224)) -> int:
    """Return the fingerprint of a picture that was decoded to ``size``."""
    return perceptual_hash(np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)))


def bits(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def saved_again(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data)


@pytest.mark.parametrize("quality", [30, 60, 90])
def test_saving_again_changes_few_bits(quality: int) -> None:
    assert max(bits(of(image), of(saved_again(image, quality))) for image in PICTURES) <= 6


@pytest.mark.parametrize("percent", [50, 75, 150, 200])
def test_resizing_changes_few_bits(percent: int) -> None:
    resized = [image.resize((240 * percent // 100, 200 * percent // 100), Image.Resampling.BICUBIC) for image in PICTURES]
    assert max(bits(of(a), of(b)) for a, b in zip(PICTURES, resized, strict=True)) <= 4


def test_different_pictures_are_far_apart() -> None:
    found = [of(image) for image in PICTURES]
    assert min(bits(a, b) for i, a in enumerate(found) for b in found[:i]) >= 8


@pytest.mark.parametrize("size", [(32, 32), (224, 224), (8, 8), (1, 1), (33, 70), (300, 20)])
def test_every_size_has_a_fingerprint_of_64_bits(size: tuple[int, int]) -> None:
    found = perceptual_hash(np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8))
    assert isinstance(found, int)
    assert (found != UNKNOWN) == (size != (1, 1))
    assert 0 <= found < 2**64


@pytest.mark.portable
@pytest.mark.parametrize("size", [(32, 32), (224, 224), (1, 1), (33, 70), (300, 20)])
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (13, 200, 77), (255, 1, 254)])
def test_a_picture_of_one_colour_is_unknown(size: tuple[int, int], colour: tuple[int, int, int]) -> None:
    assert perceptual_hash(np.full((*size, 3), colour, np.uint8)) == UNKNOWN


def test_a_picture_of_stripes_is_unknown() -> None:
    """It has frequencies along one axis alone, which are not among the 64."""
    stripes = np.random.default_rng(0).integers(0, 256, (1, 224, 3)).astype(np.uint8).repeat(224, axis=0)
    assert perceptual_hash(stripes) == perceptual_hash(stripes.transpose(1, 0, 2)) == UNKNOWN


def test_it_is_the_published_hash() -> None:
    """Bit by bit: the low frequencies of SciPy's DCT of the grey picture, against their median."""
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    grey = pixels.astype(float) @ (0.299, 0.587, 0.114)
    waves = dctn(grey, type=2)[1:9, 1:9].ravel()
    expected = "".join("1" if wave > np.median(waves) else "0" for wave in waves)
    # SciPy's transform lacks the scale of rows and columns, which is the same for all of these 64
    assert f"{perceptual_hash(pixels):064b}" == expected
    assert expected.count("1") == 32


def by_definition(pixels: np.ndarray) -> int:
    """Return the fingerprint in Python's whole numbers, box by box, as stored files have it."""
    height, width, _ = pixels.shape
    grey = pixels.astype(object) @ np.array([306, 601, 117], object)
    tall, wide = ([(i * side // 32, i * side // 32 + max(1, side // 32)) for i in range(32)] for side in (height, width))
    boxes = np.array([[int(grey[top:bottom, left:right].sum()) for left, right in wide] for top, bottom in tall], object)
    cosines = np.array([[round(4096 * math.cos(math.pi / 32 * k * (i + 0.5))) for i in range(32)] for k in range(1, 9)], object)
    waves = (cosines @ (boxes @ cosines.T // 1024)).ravel().tolist()
    twice = sum(sorted(waves)[31:33])  # the median
    return int("".join("1" if 2 * wave > twice else "0" for wave in waves), 2)


@pytest.mark.portable
@pytest.mark.parametrize(
    "size",
    [(224, 224), (150, 150), (32, 32), (31, 65), (33, 70), (300, 20), (8, 8), (1, 1), (1, 40), (257, 640), (8288, 2)],
)
def test_stored_fingerprints_stay_those_of_new_ones(size: tuple[int, int]) -> None:
    """Bit by bit, of drawings, of noise, and of pictures of few values, of whose frequencies many are equal."""
    rng = np.random.default_rng(size)
    pictures = [np.asarray(image.resize(size[::-1])) for image in PICTURES[:2]]
    pictures += [rng.integers(0, most, (*size, 3)).astype(np.uint8) for most in (256, 2)]
    pictures += [np.zeros((*size, 3), np.uint8), pictures[0][:, ::-1], np.full((*size, 3), 255, np.uint8)]
    pictures[4][0, 0] = 1
    assert [perceptual_hash(pixels) for pixels in pictures] == [by_definition(pixels) for pixels in pictures]
