"""Bytes of an image file -> uint8 RGB."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffe.errors import DecodeError
from ffe.images.decode import decode, read_image
from ffe.images.drawings import draw
from ffe.specs import PreprocessSpec


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def reason_of(data: bytes) -> str:
    with pytest.raises(DecodeError) as caught:
        decode(data, PreprocessSpec((16, 16), "none"))
    assert str(caught.value)
    return caught.value.reason


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(32, 32), (20, 45), (96, 64), (150, 150)])
def test_equals_keras_bit_for_bit(tmp_path: Path, size: tuple[int, int]) -> None:
    """``keras.utils.load_img`` with the bilinear filter is the reference."""
    import keras

    path = tmp_path / "cat.jpg"
    draw("cat", 0, (64, 96)).save(path, quality=90)
    expected = np.asarray(keras.utils.load_img(path, target_size=size, interpolation="bilinear"), np.uint8)
    decoded = decode(read_image(path), PreprocessSpec(size, "none"))
    assert decoded.dtype == np.uint8
    assert decoded.shape == (*size, 3)
    np.testing.assert_array_equal(decoded, expected)


# orientation -> how an upright picture is turned to be stored with it
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(orientation: int) -> None:
    upright = draw("dog", 1, (48, 64))
    turn = STORED[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = decode(encoded(upright), PreprocessSpec((24, 40), "none"))
    np.testing.assert_array_equal(decode(encoded(stored, exif=exif), PreprocessSpec((24, 40), "none")), expected)
    jpeg = decode(encoded(stored, "JPEG", quality=100, subsampling=0, exif=exif), PreprocessSpec((24, 40), "none"))
    assert np.abs(jpeg.astype(int) - expected).max() <= 4


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_unknown_orientation_counts_as_none(orientation: int) -> None:
    picture = draw("cat", 2, (32, 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode(encoded(picture, exif=exif), PreprocessSpec((32, 32), "none")), np.asarray(picture))


def test_damaged_exif_counts_as_none() -> None:
    picture = draw("cat", 2, (32, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = encoded(picture, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
        np.testing.assert_array_equal(decode(data, PreprocessSpec((32, 32), "none")), np.asarray(picture))


def test_cmyk_jpeg() -> None:
    picture = draw("cat", 3, (32, 32))
    decoded = decode(encoded(picture.convert("CMYK"), "JPEG", quality=100, subsampling=0), PreprocessSpec((32, 32), "none"))
    assert np.abs(decoded.astype(int) - np.asarray(picture)).max() <= 8


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    decoded = decode(encoded(Image.fromarray(values)), PreprocessSpec((16, 16), "none"))
    np.testing.assert_array_equal(decoded, np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2))


def test_eight_bit_grey_has_three_equal_channels() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(
        decode(encoded(Image.fromarray(values)), PreprocessSpec((16, 16), "none")), np.repeat(values[..., None], 3, axis=2)
    )


def test_one_bit() -> None:
    values = np.indices((16, 16)).sum(0) % 2 == 0
    decoded = decode(encoded(Image.fromarray(values)), PreprocessSpec((16, 16), "none"))
    np.testing.assert_array_equal(decoded, np.repeat(values[..., None] * np.uint8(255), 3, axis=2))


def test_palette() -> None:
    picture = draw("dog", 0, (32, 32)).quantize(16)
    np.testing.assert_array_equal(decode(encoded(picture), PreprocessSpec((32, 32), "none")), np.asarray(picture.convert("RGB")))


def test_alpha_shows_white() -> None:
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, :, 0] = 200
    pixels[:8, :, 3] = 255
    pixels[8:, :8, 3] = 0
    pixels[8:, 8:, 3] = 51  # one fifth
    decoded = decode(encoded(Image.fromarray(pixels)), PreprocessSpec((16, 16), "none"))
    assert (decoded[:8] == (200, 0, 0)).all()
    assert (decoded[8:, :8] == 255).all()
    assert np.abs(decoded[8:, 8:].astype(int) - (244, 204, 204)).max() <= 1


def test_transparent_palette_colour_shows_white() -> None:
    indices = np.zeros((16, 16), np.uint8)
    indices[:, 8:] = 1
    picture = Image.fromarray(indices, "P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    decoded = decode(encoded(picture, transparency=0), PreprocessSpec((16, 16), "none"))
    assert (decoded[:, :8] == 255).all()
    assert (decoded[:, 8:] == (40, 50, 60)).all()


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    decoded = decode(
        encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=40), PreprocessSpec((16, 16), "none")
    )
    assert (decoded == (255, 0, 0)).all()


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    data = encoded(draw("cat", 0, (32, 32)), "JPEG")
    (tmp_path / "cat.png").write_bytes(data)
    np.testing.assert_array_equal(
        decode(read_image(tmp_path / "cat.png"), PreprocessSpec((32, 32), "none")), decode(data, PreprocessSpec((32, 32), "none"))
    )


def test_picture_of_one_pixel() -> None:
    assert (decode(encoded(Image.new("RGB", (1, 1), (1, 2, 3))), PreprocessSpec((8, 8), "none")) == (1, 2, 3)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncated(kind: str) -> None:
    data = encoded(draw("cat", 0, (128, 128)), kind)
    assert reason_of(data[: len(data) * 6 // 10]) == "truncated"


def test_text_is_no_image() -> None:
    assert reason_of(b"<html>404 Not Found</html>") == "not-an-image"


@pytest.mark.parametrize("magic", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a"])
def test_damaged_header_is_broken(magic: bytes) -> None:
    assert reason_of(magic + b"\0" * 3) == "broken"


def test_float_pixels_are_unsupported() -> None:
    assert reason_of(encoded(Image.fromarray(np.zeros((16, 16), np.float32)), "TIFF")) == "unsupported"


def test_32_bit_grey_is_unsupported() -> None:
    assert reason_of(encoded(Image.fromarray(np.full((16, 16), 1 << 20, np.int32)), "TIFF")) == "unsupported"


@pytest.mark.parametrize("side", [14_000, 60_000])
def test_decompression_bomb_is_refused_before_it_is_read(side: int) -> None:
    assert reason_of(png_header(side, side)) == "too-large"  # reading it would say "truncated": there are no pixels


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(DecodeError, match="the file is empty") as caught:
        read_image(tmp_path / "empty.png")
    assert caught.value.reason == "empty"


def test_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)  # takes no space on disk
    with pytest.raises(DecodeError, match=r"^the file has more than 1,024 MiB \(--max-bytes\)$") as caught:
        read_image(path)
    assert caught.value.reason == "too-large"


def test_photos_of_all_orientations_show_the_same(shared: Path) -> None:
    """Hopper's portrait is stored in seven ways; upright, all of them look the same."""
    folder = shared / "images" / "odd"
    views = [
        decode(read_image(folder / f"hopper_orientation_{n}.jpg"), PreprocessSpec((64, 64), "none")).astype(int)
        for n in range(2, 9)
    ]
    for view in views[1:]:
        assert np.abs(view - views[0]).mean() < 4
