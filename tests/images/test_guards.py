"""Small files that would keep a decoder busy for minutes, or fill the memory: refused by what they claim, before it sees them."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from ffe.errors import DecodeError
from ffe.images.decode import decode
from ffe.images.drawings import draw
from ffe.images.guards import HEAD_BYTES, kind_of, tags_are_bounded
from ffe.images.limits import Limits
from ffe.specs import Decode, PreprocessSpec

CAT = draw("cat", 4, (48, 64))
MIB = 1 << 20


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    CAT.save(buffer, kind, **options)
    return buffer.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def in_jpeg(what: bytes) -> bytes:
    """Put bytes behind the first marker of a JPEG file."""
    data = encoded("JPEG")
    return data[:2] + what + data[2:]


def jpeg_of_many_scans(scans: int, side: int = 64) -> bytes:
    buffer = io.BytesIO()
    CAT.resize((side, side)).save(buffer, "JPEG", progressive=True, subsampling=0)
    data = buffer.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + data[-2:]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def in_png(before: bytes = b"", after: bytes = b"", width: int = 16, height: int = 16) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 16 * 49))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + after + chunk(b"IEND", b"")


def in_gif(what: bytes) -> bytes:
    """Put bytes in front of the first frame of a GIF file."""
    data = encoded("GIF")
    at = 13 + (3 << (data[10] & 7) + 1)
    return data[:at] + what + data[at:]


def bmp(width: int, height: int, body: bytes) -> bytes:
    """Return a BMP of 8 bits with run lengths."""
    start = 14 + 40 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + b"\0" * 1024 + body


def tiff(*entries: tuple[int, int, int, int]) -> bytes:
    """Return a TIFF of 64x64 grey pixels with further entries: (tag, type, count, value)."""
    plain = ((256, 3, 1, 64), (257, 3, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1))
    everything = sorted([*plain, *entries])
    directory = b"".join(struct.pack("<HHII", *entry) for entry in everything)
    return b"II*\0" + struct.pack("<IH", 8, len(everything)) + directory + b"\0" * 5000


def overlapping(entries: int, size: int) -> bytes:
    """Return a TIFF directory whose values all are the same bytes."""
    return tiff(*((1000 + i, 7, size, 0) for i in range(entries)))


FLOODS: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "JPEG: segments": (
        lambda: in_jpeg(segment(0xE5, b"") * 5 * MIB),
        "broken",
        "it has more than 20,000 segments before the picture",
    ),
    "JPEG: fill bytes": (
        lambda: in_jpeg(b"\xff" * 20 * MIB),
        "broken",
        "more than 64 KiB between its segments are no JPEG",
    ),
    "JPEG: junk": (
        lambda: in_jpeg(segment(0xFE, b"x") + b"\0" * 20 * MIB),
        "broken",
        "more than 64 KiB between its segments are no JPEG",
    ),
    "JPEG: Photoshop records": (
        lambda: in_jpeg(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\1\1\0\0\0\0\0\0" * 5000) * 320),
        "broken",
        "more than 8 MiB are records of Photoshop; save it again",
    ),
    "JPEG: passes": (
        lambda: jpeg_of_many_scans(2000, 2000),
        "too-large",
        "it passes over its 4,000,000 pixels more than 100 times; save it again",
    ),
    "JPEG: passes behind fill bytes": (
        lambda: (data := encoded("JPEG"))[: data.index(b"\xff\xda") + 14] + b"\xff" * MIB + b"\0" + b"\xff\xda\0\2" * 120,
        "too-large",
        "it passes over its 3,072 pixels more than 100 times; save it again",
    ),
    "PNG: chunks before its header": (
        lambda: (data := in_png())[:8] + chunk(b"zzzz", b"") * 100_000 + data[8:],
        "broken",
        "it starts like a PNG file, but its header is damaged",
    ),
    "PNG: chunks": (
        lambda: in_png(chunk(b"teSt", b"") * 1_700_000),
        "broken",
        "it consists of far too many small chunks",
    ),
    "PNG: chunks behind the picture": (
        lambda: in_png(after=chunk(b"teSt", b"") * 1_700_000),
        "broken",
        "it consists of far too many small chunks",
    ),
    "PNG: empty parts of the picture": (
        lambda: in_png(after=chunk(b"IDAT", b"") * 1_700_000),
        "broken",
        "it consists of far too many small chunks",
    ),
    "PNG: colour profiles": (
        lambda: in_png(chunk(b"iCCP", b"x\0\0" + zlib.compress(b"\0" * MIB)) * 20_000),
        "broken",
        "it has more than 16 colour profiles",
    ),
    "PNG: size": (
        lambda: in_png(width=100_000, height=100_000),
        "too-large",
        "100000x100000 pixels are more than 178,956,970 (--max-pixels)",
    ),
    "GIF: comments": (
        lambda: in_gif(b"!\xfe" + (b"\xff" + b"a" * 255) * 80_000 + b"\0"),
        "broken",
        "more than 1 MiB come before its first frame",
    ),
    "GIF: extensions": (
        lambda: in_gif(b"!\xf9\x04\0\0\0\0\0" * 2_500_000),
        "broken",
        "more than 1 MiB come before its first frame",
    ),
    "GIF: nothing": (lambda: in_gif(b"\0" * 20 * MIB), "broken", "more than 1 MiB come before its first frame"),
    "BMP: ends of lines": (
        lambda: bmp(5000, 2900, b"\x01\x05\0\0" * 2900),
        "unsupported",
        "it is a BMP with run lengths, which takes long: more than 4,000,000 pixels are not read; save it as PNG",
    ),
    "BMP: runs of nothing": (
        lambda: bmp(64, 64, b"\x01\x05" * 10 * MIB),
        "unsupported",
        "it is a BMP with run lengths, which takes long: more than 4,000,000 pixels are not read; save it as PNG",
    ),
    "TIFF: values that overlap": (
        lambda: overlapping(2000, 24_000),
        "broken",
        "its directory claims more than the file can hold",
    ),
    "TIFF: entries": (
        lambda: tiff(*((1000 + i, 3, 1, 0) for i in range(60_000))),
        "broken",
        "its directory claims more than the file can hold",
    ),
    "TIFF: places of strips": (
        lambda: tiff((273, 4, 5_000_000, 8)) + b"\0" * 20_000_000,
        "broken",
        "its directory claims more than the file can hold",
    ),
    "TIFF: tiles": (
        lambda: tiff((322, 4, 1, 32_768), (323, 4, 1, 32_752), (324, 4, 1, 8), (325, 4, 1, 100)),
        "broken",
        "its tiles are far larger than the picture",
    ),
    "PNM: text": (
        lambda: b"P3\n1900 1900\n255\n" + b"1 " * (1900 * 1900 * 3),
        "unsupported",
        "it is a PNM picture written as text; save it as PNG",
    ),
    "PNM: unusual values": (
        lambda: b"P6\n2600 2600\n100\n" + b"\5" * (2600 * 2600 * 3),
        "unsupported",
        "it is a PNM picture with values up to 100, which takes long: more than 4,000,000 pixels are not read; save it as PNG",
    ),
    "PNM: spaces": (
        lambda: b"P6\n" + b" " * 20 * MIB + b"16 16 255\n" + b"\0" * 768,
        "broken",
        "it starts like a PNM file, but its header is damaged",
    ),
    "PNM: comment": (
        lambda: b"P6\n#" + b"a" * 20 * MIB + b"\n16 16 255\n" + b"\0" * 768,
        "broken",
        "it starts like a PNM file, but its header is damaged",
    ),
    "PNG: more pixels than bytes tell of": (
        lambda: in_png(width=10_000, height=10_000)[:60],
        "broken",
        "10000x10000 pixels cannot stand in 60 bytes; its header is damaged",
    ),
    "WebP: canvas": (
        lambda: b"RIFF\x80\x0c\0\0WEBPVP8X\n\0\0\0\0\0\0\0\x7f\0\0\x5f\x00\x10" + b"\0" * 470,
        "broken",
        "128x1048672 pixels cannot stand in 500 bytes; its header is damaged",
    ),
    "JPEG 2000: size": (
        lambda: b"\xff\x4f\xff\x51\0\x29\0\0" + struct.pack(">IIII", 7000, 7000, 0, 0) + b"\0" * 30_000,
        "unsupported",
        "it is a JPEG 2000 picture, which takes long: more than 40,000,000 pixels are not read; save it as PNG",
    ),
}


@pytest.mark.parametrize("how", ["exact", "fast"])
@pytest.mark.parametrize("name", FLOODS)
def test_floods_are_refused(name: str, how: Decode) -> None:
    make, reason, sentence = FLOODS[name]
    with pytest.raises(DecodeError) as caught:
        decode(make(), PreprocessSpec((32, 32), "none", decode=how))
    assert (caught.value.reason, str(caught.value)) == (reason, sentence)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exact", "fast"])
@pytest.mark.parametrize("name", FLOODS)
def test_floods_are_refused_at_once(name: str, how: Decode) -> None:
    """Some of them kept Pillow busy for a minute and more."""
    data = FLOODS[name][0]()
    started = time.process_time()
    with pytest.raises(DecodeError):
        decode(data, PreprocessSpec((32, 32), "none", decode=how))
    assert time.process_time() - started < 20


@pytest.mark.parametrize("how", ["exact", "fast"])
def test_the_larger_a_picture_the_fewer_passes(how: Decode) -> None:
    """Twenty over the largest picture, and so more over smaller ones."""
    data = jpeg_of_many_scans(60)
    assert decode(data, PreprocessSpec((48, 64), "none", decode=how), Limits(64 * 64 * 3)).shape == (48, 64, 3)
    with pytest.raises(DecodeError, match=r"^it passes over its 4,096 pixels more than 40 times; save it again$"):
        decode(data, PreprocessSpec((48, 64), "none", decode=how), Limits(64 * 64 * 2))


@pytest.mark.parametrize(
    "what",
    [
        segment(0xE1, b"Exif\0\0" + b"\0" * 60_000) * 40,
        segment(0xE1, (b"Exif\0\0" + overlapping(4000, 48_000))[:65_533]),
        segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"),
    ],
    ids=["megabytes", "values that overlap", "no directory"],
)
@pytest.mark.parametrize("how", ["exact", "fast"])
def test_a_jpeg_loses_its_exif_where_that_claims_too_much(what: bytes, how: Decode) -> None:
    """As damaged EXIF does: the picture itself is sound."""
    np.testing.assert_array_equal(
        decode(in_jpeg(what), PreprocessSpec((48, 64), "none", decode=how)),
        decode(encoded("JPEG"), PreprocessSpec((48, 64), "none", decode=how)),
    )


SOUND = {
    "a hundred passes": jpeg_of_many_scans(100),
    "what looks like passes behind the end": encoded("JPEG", progressive=True) + b"\xff\xda\0\2" * 500,
    "what looks like passes in other blocks": in_jpeg(segment(0xE5, b"\xff\xda\0\2" * 5000)),
    "fill bytes": in_jpeg(b"\xff" * 1000),
    "a colour profile of megabytes": in_jpeg(segment(0xE2, b"ICC_PROFILE\0\1\1" + b"\0" * 65_000) * 100),
    "many large chunks": in_png(chunk(b"teSt", b"x" * 4000) * 12_000),
    "comments": in_gif(b"!\xfe" + (b"\xff" + b"a" * 255) * 4000 + b"\0"),
    "run lengths": bmp(64, 64, (b"\x40\x05\0\0" * 64)),
    "unusual values": b"P6\n64 64\n100\n" + b"\5" * (64 * 64 * 3),
    "a comment": b"P5\n# made by hand\n64 64\n255\n" + b"\5" * (64 * 64),
}


@pytest.mark.parametrize("how", ["exact", "fast"])
@pytest.mark.parametrize("name", SOUND)
def test_what_encoders_may_write_is_read(name: str, how: Decode) -> None:
    assert decode(SOUND[name], PreprocessSpec((48, 64), "none", decode=how)).shape == (48, 64, 3)


def test_tags_of_either_byte_order_and_of_big_tiff() -> None:
    assert tags_are_bounded(b"MM\0*" + struct.pack(">IHHHII", 8, 1, 270, 2, 10, 0) + b"\0" * 14)
    assert not tags_are_bounded(b"MM\0*" + struct.pack(">IH", 8, 3) + struct.pack(">HHII", 270, 2, 40, 0) * 3)
    big = struct.pack("<HHQQ", 270, 2, 100, 0)
    assert tags_are_bounded(b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1) + big + b"\0" * 60)
    assert not tags_are_bounded(b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 4) + big * 4 + b"\0" * 60)
    assert tags_are_bounded(b"no header at all")
    assert tags_are_bounded(b"")


def test_a_web_page_is_looked_for_in_the_first_bytes_alone() -> None:
    """A file of 32 MiB of blanks would hold all threads for a third of a second."""
    with pytest.raises(DecodeError, match="it is a web page"):
        kind_of(b" " * (HEAD_BYTES - 6) + b"<html>")
    with pytest.raises(DecodeError, match="it is no JPEG"):
        kind_of(b" " * HEAD_BYTES + b"<html>")
