"""Awkward pictures that the tests make themselves, by both ways of decoding."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

import ffe.images.decode as decoding
from ffe.errors import DecodeError
from ffe.images.decode import decode, read_image, upright_size
from ffe.images.drawings import draw
from ffe.images.guards import KINDS, kind_of
from ffe.specs import Decode, PreprocessSpec

SIZE = (48, 64)
CAT = draw("cat", 4, SIZE)
BOTH = pytest.mark.parametrize("how", ["exact", "fast"])


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def off(data: bytes, expected: Image.Image, how: Decode) -> np.ndarray:
    """Return how far each pixel is from the picture that was meant."""
    return np.abs(decode(data, PreprocessSpec(SIZE, "none", decode=how)).astype(int) - np.asarray(expected.convert("RGB")))


def on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def without_adobe_marker(data: bytes) -> bytes:
    start = data.index(b"\xff\xee")
    return data[:start] + data[start + 2 + struct.unpack_from(">H", data, start + 2)[0] :]


def sixteen_bit_tiff(values: np.ndarray) -> bytes:
    """Return an RGB TIFF of 16 bits a colour, big-endian; Pillow writes none."""
    height, width, _ = values.shape
    body = (values.astype(">u2") * 257).tobytes()
    entries = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8 + 2 + 10 * 12 + 4), (259, 3, 1, 1 << 16), (262, 3, 1, 2 << 16)),
        *((273, 4, 1, 8 + 2 + 10 * 12 + 4 + 6), (277, 3, 1, 3 << 16), (278, 4, 1, height), (279, 4, 1, len(body))),
        (284, 3, 1, 1 << 16),
    ]
    directory = b"".join(struct.pack(">HHII", *entry) for entry in entries)
    return b"MM\0*" + struct.pack(">IH", 8, len(entries)) + directory + b"\0" * 4 + struct.pack(">HHH", 16, 16, 16) + body


# name -> (file, picture that it shows, how far the worst pixel may be)
def made() -> dict[str, tuple[bytes, Image.Image, int]]:
    cat, grey = CAT, CAT.convert("L")
    sharp = {"quality": 100, "subsampling": 0}
    fading = cat.convert("RGBA")
    fading.putalpha(Image.linear_gradient("L").resize(cat.size))
    grey_fading = grey.convert("LA")
    grey_fading.putalpha(Image.linear_gradient("L").resize(cat.size))
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    few = cat.quantize(12)
    seen_through = few.copy()
    seen_through.info["transparency"] = bytes([0, 128] + [255] * 10)
    other = Image.new("RGB", cat.size, "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = cat.transpose(Image.Transpose.ROTATE_90)
    return {
        "progressive JPEG": (encoded(cat, "JPEG", progressive=True, **sharp), cat, 12),
        "CMYK JPEG, inverted as Adobe does": (encoded(cat.convert("CMYK"), "JPEG", **sharp), cat, 8),
        "CMYK JPEG without Adobe's mark": (without_adobe_marker(encoded(cat.convert("CMYK"), "JPEG", **sharp)), cat, 8),
        "grey JPEG": (encoded(grey, "JPEG", quality=100), grey, 12),
        "16-bit grey PNG": (encoded(sixteen, "PNG"), grey, 0),
        "grey PNG with alpha": (encoded(grey_fading, "PNG"), on_white(grey_fading), 0),
        "PNG with alpha": (encoded(fading, "PNG"), on_white(fading), 0),
        "PNG with a palette": (encoded(few, "PNG"), few, 0),
        "PNG with a palette that is half transparent": (encoded(seen_through, "PNG"), on_white(seen_through), 1),
        "1-bit PNG": (encoded(cat.convert("1"), "PNG"), cat.convert("1"), 0),
        "animated PNG": (encoded(cat, "PNG", save_all=True, append_images=[other]), cat, 0),
        "animated GIF": (encoded(few, "GIF", save_all=True, append_images=[other.quantize(2)]), few, 0),
        "animated WebP": (encoded(cat, "WEBP", save_all=True, append_images=[other], lossless=True), cat, 0),
        "WebP with alpha": (encoded(fading, "WEBP", lossless=True, exact=True), on_white(fading), 1),
        "16-bit grey TIFF": (encoded(sixteen, "TIFF"), grey, 0),
        "16-bit colour TIFF": (sixteen_bit_tiff(np.asarray(cat)), cat, 0),
        "TIFF of many pages": (encoded(cat, "TIFF", save_all=True, append_images=[other]), cat, 0),
        "TIFF, packed": (encoded(cat, "TIFF", compression="tiff_lzw"), cat, 0),
        "CMYK TIFF": (encoded(cat.convert("CMYK"), "TIFF"), cat, 1),
        "TIFF that lies": (encoded(lying, "TIFF", exif=exif), cat, 0),
        "WebP that lies": (encoded(lying, "WEBP", lossless=True, exif=exif), cat, 0),
        "PNG that lies": (encoded(lying, "PNG", exif=exif), cat, 0),
        "BMP": (encoded(cat, "BMP"), cat, 0),
        "BMP with a palette": (encoded(few, "BMP"), few, 0),
        "two photos in one JPEG": (encoded(cat, "MPO", save_all=True, append_images=[other], quality=95), cat, 90),
        "JPEG 2000": (encoded(cat, "JPEG2000"), cat, 0),
        "PPM": (encoded(cat, "PPM"), cat, 0),
        "16-bit PGM": (encoded(sixteen, "PPM"), grey, 0),
    }


MADE = made()


@BOTH
@pytest.mark.parametrize("name", MADE)
def test_the_right_picture(name: str, how: Decode) -> None:
    data, expected, tolerance = MADE[name]
    assert off(data, expected, how).max() <= tolerance
    assert upright_size(data) == SIZE


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF files")
@BOTH
def test_avif(how: Decode) -> None:
    assert off(encoded(CAT, "AVIF", quality=100, subsampling="4:4:4"), CAT, how).max() <= 8


TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@BOTH
@pytest.mark.parametrize("orientation", TURNS)
def test_every_orientation(orientation: int, how: Decode) -> None:
    turn = TURNS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(CAT if turn is None else CAT.transpose(turn), "JPEG", quality=100, subsampling=0, exif=exif)
    assert off(data, CAT, how).max() <= 12
    assert upright_size(data) == SIZE


@BOTH
@pytest.mark.parametrize(("kind", "name"), [("PNG", "a.jpg"), ("JPEG", "a.png"), ("GIF", "a.tiff"), ("WEBP", "a")])
def test_content_decides_and_not_the_name(tmp_path: Path, kind: str, name: str, how: Decode) -> None:
    data = encoded(CAT, kind)
    (tmp_path / name).write_bytes(data)
    np.testing.assert_array_equal(
        decode(read_image(tmp_path / name), PreprocessSpec(SIZE, "none", decode=how)),
        decode(data, PreprocessSpec(SIZE, "none", decode=how)),
    )


OTHERS = {
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is a HEIC picture, which ffe does not read; save it as JPEG or PNG"),
    "Photoshop": (b"8BPS\0\1", "it is a Photoshop file, which ffe does not read; save it as JPEG or PNG"),
    "PDF": (b"%PDF-1.7", "it is a PDF document, which ffe does not read; save it as JPEG or PNG"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0", "it is a PostScript file, which ffe does not read; save it as JPEG or PNG"),
    "SVG": (b"<svg xmlns=", SVG := "it is an SVG drawing, which ffe does not read; save it as JPEG or PNG"),
    "SVG with a prologue": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- a --><!-- b -->\n<!DOCTYPE svg PUBLIC "x">\n<svg>', SVG),
    "CR2": (b"II*\0\x10\0\0\0CR\2\0", RAW := "it is a raw photo of a camera, which ffe does not read; save it as JPEG or PNG"),
    "CR3": (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", RAW),
    "RAF": (b"FUJIFILMCCD-RAW 0201", RAW),
    "NEF": (encoded(CAT, "TIFF", tiffinfo={254: 1, 330: (8,)}), RAW),
    "DNG": (encoded(CAT, "TIFF", tiffinfo={50706: b"\1\4\0\0"}), RAW),
    "ZIP": (b"PK\3\4", "it is an archive, not a picture; give the pictures themselves"),
    "gzip": (b"\x1f\x8b\x08", "it is an archive, not a picture; give the pictures themselves"),
    "AVI": (b"RIFF\0\1\0\0AVI LIST", "it is a film, which ffe does not read; save it as JPEG or PNG"),
    "film": (b"\0\0\0\x18ftypisom", "it is a film, which ffe does not read; save it as JPEG or PNG"),
}


@BOTH
@pytest.mark.parametrize("name", OTHERS)
def test_files_of_other_kinds_are_named(tmp_path: Path, name: str, how: Decode) -> None:
    data, sentence = OTHERS[name]
    (tmp_path / "photo.jpg").write_bytes(data + b"\0" * 100)
    with pytest.raises(DecodeError) as caught:
        decode(read_image(tmp_path / "photo.jpg"), PreprocessSpec(SIZE, "none", decode=how))
    assert (caught.value.reason, str(caught.value)) == ("unsupported", sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("no picture", "it is no JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, JPEG 2000 or PNM picture"),
        ("<!DOCTYPE html><html>404", "it is a web page, not a picture; download the picture again"),
        ("\n<HTML lang=en>", "it is a web page, not a picture; download the picture again"),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "it is a pointer of Git LFS, not the picture; fetch that with 'git lfs pull'",
        ),
        ("<!-- a -->" * 400, "it is no JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, JPEG 2000 or PNM picture"),
    ],
)
def test_text_that_is_called_jpg_is_no_picture(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "photo.jpg").write_text(text)
    with pytest.raises(DecodeError) as caught:
        read_image(tmp_path / "photo.jpg")
    assert (caught.value.reason, str(caught.value)) == ("not-an-image", sentence)


def test_a_damaged_avif_has_its_article() -> None:
    with pytest.raises(DecodeError, match=r"^it starts like an AVIF file, but its header is damaged$"):
        decode(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", PreprocessSpec(SIZE, "none"))


def test_only_the_plugin_of_its_kind_sees_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to Ghostscript; no file gets there, whatever it holds."""
    asked: list[object] = []
    opened = Image.open
    monkeypatch.setattr(Image, "open", lambda *rest, formats: asked.append(formats) or opened(*rest, formats=formats))
    for kind in ("PNG", "JPEG", "GIF"):
        decode(encoded(CAT, kind), PreprocessSpec(SIZE, "none"))
    with pytest.raises(DecodeError):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", PreprocessSpec(SIZE, "none"))
    assert asked == [("PNG",), ("JPEG",), ("GIF",)]


def test_every_kind_is_known_by_its_first_bytes() -> None:
    known = {kind_of(encoded(CAT, kind)) for kind in KINDS if kind != "AVIF"}
    assert known | {"AVIF"} == set(KINDS)
    assert kind_of(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf") == "AVIF"


def test_a_pillow_that_lacks_a_kind_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(CAT, "WEBP")
    Image.init()
    monkeypatch.delitem(Image.OPEN, "WEBP")
    with pytest.raises(DecodeError, match=r"^this version of Pillow reads no WEBP files; install a newer one$") as caught:
        decode(data, PreprocessSpec(SIZE, "none"))
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize("name", MADE)
def test_large_pictures_are_converted_in_strips_to_the_same_pixels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, *_ = MADE[name]
    whole = decode(data, PreprocessSpec(SIZE, "none"))
    monkeypatch.setattr(decoding, "_STRIP_PIXELS", 5 * SIZE[1])
    np.testing.assert_array_equal(decode(data, PreprocessSpec(SIZE, "none")), whole)
