"""What a file claims to be, read before a decoder sees it: its kind, and whether decoding it can take long.

Decoders bound memory by the pixels, but not the time that a hundred thousand empty blocks of a few kilobytes take.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator

from ffe.errors import DecodeError

KINDS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "JPEG2000", "PPM")
KINDS_TEXT = "JPEG, PNG, GIF, WebP, AVIF, TIFF, BMP, JPEG 2000 or PNM"
HEAD_BYTES = 4096  # enough for ``kind_of``

_MAGIC = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG", "PNG"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WEBP"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    *((0, magic, "TIFF") for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (0, b"BM", "BMP"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
)
_PNM = re.compile(rb"P[1-6]\s")

_RAW = "a raw photo of a camera"  # many are TIFF files, whose first picture is a small preview
_OTHERS = (
    *((0, magic, _RAW) for magic in (b"IIRO\x08\0\0\0", b"IIRS\x08\0\0\0", b"MMOR\0\0\0\x08", b"IIU\0", b"FUJIFILMCCD-RAW ")),
    (4, b"ftypcrx ", _RAW),
    *((4, b"ftyp" + brand, "a HEIC picture") for brand in (b"hei", b"hev", b"mif1", b"msf1")),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (4, b"JXL ", "a JPEG XL picture"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (4, b"ftyp", "a film"),
    (8, b"AVI LIST", "a film"),
    (0, b"\x1aE\xdf\xa3", "a film"),
)
_SVG = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?>(?:<[?]xml[^>]*>|<!--.*?-->|<!doctype svg[^>]*>)\s*+)*+<svg", re.DOTALL | re.IGNORECASE
)
_WEB_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html)", re.IGNORECASE)
_ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b\x08", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07")

_FEW_PIXELS = 1 << 24
_PIXELS_A_BYTE = 2000  # a page of a scanned book, of two colours, has 700
_JUNK_BYTES = 1 << 16
_SEGMENTS = 20_000  # of 64 KiB, so 1.2 GiB
_EXIF_BYTES = 1 << 20
_PHOTOSHOP_BYTES = 8 << 20
_SCANS = 100  # encoders write about ten
_SCAN_PIXELS = 20  # in pictures of the largest size
_CHUNKS, _BYTES_A_CHUNK = 10_000, 2048
_PROFILES = 16
_GIF_HEAD_BYTES = 1 << 20
_ENTRIES = 4096
_NUMBERS = 500_000
_TILE_PIXELS = 1 << 24
_IN_PYTHON_PIXELS = 4_000_000  # Pillow decodes run lengths of BMP, and unusual PNM, a byte at a time
_JPEG2000_PIXELS = 40_000_000  # half a minute, where others take seconds

_FILL = re.compile(rb"\xff*")
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # of a run of fill bytes the last; looking for the first takes squares
_COMMENT = re.compile(rb"#[^\r\n]*")

_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_SUBFILE, _MORE_PICTURES, _DNG = 254, 330, 50706
_OF_BYTES = {1, 2, 6, 7}
_TILE_WIDTH, _TILE_LENGTH, _IMAGE_WIDTH, _IMAGE_LENGTH = 322, 323, 256, 257


def kind_of(data: bytes) -> str:
    """Return which of ``KINDS`` a file is, by its first bytes; a DecodeError says that it is none of them."""
    if data[4:8] == b"ftyp" and data[8:12] in {b"mif1", b"msf1"} and b"avif" in data[16:64]:
        return "AVIF"
    if (kind := "PPM" if _PNM.match(data) else _begins(data, _MAGIC)) is not None:
        return kind
    if (name := "an SVG drawing" if _SVG.match(data[:HEAD_BYTES]) else _begins(data, _OTHERS)) is not None:
        raise _unread(name)
    if data.startswith(_ARCHIVES):
        raise DecodeError("unsupported", "it is an archive, not a picture; give the pictures themselves")
    if data.startswith(b"version https://git-lfs"):
        raise DecodeError("not-an-image", "it is a pointer of Git LFS, not the picture; fetch that with 'git lfs pull'")
    if _WEB_PAGE.match(data[:HEAD_BYTES]):
        raise DecodeError("not-an-image", "it is a web page, not a picture; download the picture again")
    raise DecodeError("not-an-image", f"it is no {KINDS_TEXT} picture")


def _begins(data: bytes, known: tuple[tuple[int, bytes, str], ...]) -> str | None:
    return next((name for at, magic, name in known if data.startswith(magic, at)), None)


def _unread(name: str) -> DecodeError:
    return DecodeError("unsupported", f"it is {name}, which ffe does not read; save it as JPEG or PNG")


def checked(data: bytes, kind: str, most_pixels: int) -> bytes:
    """Return the content, without EXIF that cannot be; what takes more time or memory than its pixels need is a DecodeError."""
    try:
        return (kind in _CHECKS and _CHECKS[kind](data, most_pixels)) or data
    except (struct.error, IndexError, OverflowError):
        return data  # cut off: the decoder says so


def check_pixels(width: int, height: int, most: int, file_bytes: int, kind: str = "") -> None:
    """Raise a DecodeError for a picture of more than ``most`` pixels, of far more than its file can be about, or a slow one."""
    pixels = width * height
    if pixels > most:
        raise DecodeError("too-large", f"{width}x{height} pixels are more than {most:,} (--max-pixels)")
    if pixels > _FEW_PIXELS and pixels > _PIXELS_A_BYTE * file_bytes:
        raise DecodeError("broken", f"{width}x{height} pixels cannot stand in {file_bytes:,} bytes; its header is damaged")
    if kind == "JPEG2000" and pixels > _JPEG2000_PIXELS:
        raise _slow("a JPEG 2000 picture", _JPEG2000_PIXELS)


def tags_are_bounded(data: bytes, start: int = 0) -> bool:
    """Return whether the values of a TIFF directory at ``start``, such as EXIF, are no more than its file can hold apart."""
    held, room = 0, len(data) - start
    for number, (_, kind, count, inside, at) in enumerate(_entries(data, start)):
        size = _WIDTHS.get(kind, 0) * count
        held += 0 if inside else min(size, max(0, room - at))
        if number >= _ENTRIES or held > 2 * room or (kind not in _OF_BYTES and not inside and min(size, room) > 8 * _NUMBERS):
            return False
    return True


def _check_jpeg(data: bytes, most_pixels: int) -> bytes | None:
    at, junk, exif, photoshop, pixels, sane = 2, 0, 0, 0, 0, True
    for _ in range(_SEGMENTS):
        start = data.find(b"\xff", at)
        after = _FILL.match(data, start).end() if start >= 0 else len(data)  # type: ignore[union-attr]
        junk += after - at - 1
        if junk > _JUNK_BYTES:
            raise DecodeError("broken", f"more than {_JUNK_BYTES >> 10} KiB between its segments are no JPEG")
        code = data[after]
        at = after + 1
        if code == 0 or code == 1 or 0xD0 <= code <= 0xD9:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if 0xC0 <= code <= 0xCF and code not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack_from(">HH", data, at + 3)
            check_pixels(width, height, most_pixels, len(data))
            pixels = max(pixels, width * height)
        elif code == 0xE1 and data.startswith(b"Exif\0\0", at + 2):
            exif += length
            sane = sane and exif <= _EXIF_BYTES and tags_are_bounded(data[at + 8 : at + length])
        elif code == 0xED:
            photoshop += length
            if photoshop > _PHOTOSHOP_BYTES:
                raise DecodeError("broken", f"more than {_PHOTOSHOP_BYTES >> 20} MiB are records of Photoshop; save it again")
        at += max(length, 2)
        if code == 0xDA:
            _check_scans(data, at, pixels, most_pixels)
            return None if sane else data[:at].replace(b"Exif\0\0", b"none\0\0") + data[at:]
    raise DecodeError("broken", f"it has more than {_SEGMENTS:,} segments before the picture")


def _check_scans(data: bytes, at: int, pixels: int, most_pixels: int) -> None:
    """Bound the passes over the picture; what looks like one behind its end, or in other blocks, is none."""
    most = min(_SCANS, max(1, _SCAN_PIXELS * most_pixels // max(pixels, 1)))
    if data.count(b"\xff\xda", at) < most:
        return
    scans, markers = 1, 0
    while scans <= most and markers <= _SEGMENTS and (match := _MARKER.search(data, at)) is not None:
        at, markers = match.end(), markers + 1
        code = data[at - 1]
        if code == 0xD9:
            return
        scans += code == 0xDA
        if code != 0xD8 and code != 1:
            at += max(struct.unpack_from(">H", data, at)[0], 2)
    if scans > most or markers > _SEGMENTS:
        raise DecodeError("too-large", f"it passes over its {pixels:,} pixels more than {most} times; save it again")


def _check_png(data: bytes, most_pixels: int) -> None:
    if data[12:16] != b"IHDR":
        raise DecodeError("broken", "it starts like a PNG file, but its header is damaged")
    width, height = struct.unpack_from(">II", data, 16)
    check_pixels(width, height, most_pixels, len(data))
    most = _CHUNKS + len(data) // _BYTES_A_CHUNK
    names = [name for _, _, name in itertools.islice(png_chunks(data), most + 1)]
    if names.count(b"iCCP") > _PROFILES:
        raise DecodeError("broken", f"it has more than {_PROFILES} colour profiles")
    if len(names) > most:
        raise DecodeError("broken", "it consists of far too many small chunks")


def _check_gif(data: bytes, most_pixels: int) -> None:
    """Walk over what stands before the first frame; Pillow does so byte by byte."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + _palette_bytes(flags)
    end = at + _GIF_HEAD_BYTES
    while at <= end:
        mark, at = data[at], at + 1
        if mark == 0x2C:
            x, y, w, h = struct.unpack_from("<HHHH", data, at)
            check_pixels(max(width, x + w), max(height, y + h), most_pixels, len(data))
            return
        if mark == 0x3B:
            return
        if mark == 0x21:
            at += 1
            while (length := data[at]) and at <= end:
                at += length + 1
            at += 1
    raise DecodeError("broken", f"more than {_GIF_HEAD_BYTES >> 20} MiB come before its first frame")


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _check_webp(data: bytes, most_pixels: int) -> None:
    """Look at the canvas that stands in front of frames; Pillow takes memory for it when a file is opened."""
    if data[12:16] == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        check_pixels(width, height, most_pixels, len(data))


def _check_bmp(data: bytes, most_pixels: int) -> None:
    (header,) = struct.unpack_from("<I", data, 14)
    if header < 40:
        return
    width, height = struct.unpack_from("<ii", data, 18)
    (compression,) = struct.unpack_from("<I", data, 30)
    pixels = abs(width) * abs(height)
    check_pixels(abs(width), abs(height), most_pixels, len(data))
    if compression in {1, 2} and (pixels > _IN_PYTHON_PIXELS or len(data) > 4 * pixels + _JUNK_BYTES):
        raise _slow("a BMP with run lengths", _IN_PYTHON_PIXELS)


def _check_tiff(data: bytes, most_pixels: int) -> None:
    if data[8:10] == b"CR":
        raise _unread(_RAW)
    if not tags_are_bounded(data):
        raise DecodeError("broken", "its directory claims more than the file can hold")
    tags = {tag: at if inside and count == 1 else 0 for tag, _, count, inside, at in _entries(data)}
    if _DNG in tags or (tags.get(_SUBFILE, 0) & 1 and _MORE_PICTURES in tags):
        raise _unread(_RAW)
    width, height = tags.get(_IMAGE_WIDTH, 0), tags.get(_IMAGE_LENGTH, 0)
    check_pixels(width, height, most_pixels, len(data))
    if tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_LENGTH, 0) > width * height + _TILE_PIXELS:
        raise DecodeError("broken", "its tiles are far larger than the picture")


def _check_pnm(data: bytes, most_pixels: int) -> None:
    words = _COMMENT.sub(b" ", data[2:HEAD_BYTES]).split(None, 3)
    if data[1:2] not in b"456":
        raise DecodeError("unsupported", "it is a PNM picture written as text; save it as PNG")
    needed = 2 if data[1:2] == b"4" else 3
    if len(words) < needed or not all(word.isdigit() and len(word) < 10 for word in words[:needed]):
        raise DecodeError("broken", "it starts like a PNM file, but its header is damaged")
    width, height, *rest = (int(word) for word in words[:needed])
    check_pixels(width, height, most_pixels, len(data))
    plain = not rest or rest == [255] or (rest == [65535] and data[1:2] == b"5")
    if not plain and width * height > _IN_PYTHON_PIXELS:
        raise _slow(f"a PNM picture with values up to {rest[0]}", _IN_PYTHON_PIXELS)


def _check_jpeg2000(data: bytes, most_pixels: int) -> None:
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0:
        raise DecodeError("broken", "it starts like a JPEG 2000 file, but holds no picture")
    width, height, left, top = struct.unpack_from(">IIII", data, start + 8)
    check_pixels(max(0, width - left), max(0, height - top), most_pixels, len(data), "JPEG2000")


def png_chunks(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (start, end, name) of the chunks of a PNG file, to the last that has a name; it may end behind the data."""
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        yield at, at + 12 + length, name
        at += 12 + length
        if name == b"IEND":
            break


def lacks_its_end(data: bytes, kind: str) -> bool:
    """Return whether the end of a PNG or GIF file is missing, by its blocks; of other files that is not known."""
    if kind == "PNG":
        return not any(name == b"IEND" and end <= len(data) for _, end, name in png_chunks(data))
    if kind != "GIF":
        return False
    at = 13 + _palette_bytes(data[10])
    while at < len(data):
        mark = data[at]
        if mark == 0x2C and at + 9 < len(data):
            at += 11 + _palette_bytes(data[at + 9])
        elif mark == 0x21:
            at += 2
        elif mark:  # 0x3B is the end; zero bytes may stand between blocks
            return False
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return True


def is_cut_off(data: bytes, kind: str) -> bool:
    """Return whether the header of a WebP or TIFF file speaks of bytes behind its end."""
    if kind == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if kind == "TIFF":
        return int.from_bytes(data[4:8], "little" if data[:2] == b"II" else "big") + 2 > len(data)
    return False


def _slow(what: str, most: int) -> DecodeError:
    return DecodeError("unsupported", f"it is {what}, which takes long: more than {most:,} pixels are not read; save it as PNG")


def _entries(data: bytes, start: int = 0) -> Iterator[tuple[int, int, int, bool, int]]:
    """Yield (tag, type, count, whether the value stands in the entry, the value or where it begins); nothing if damaged."""
    order = {b"II": "<", b"MM": ">"}.get(data[start : start + 2])
    if order is None:
        return
    try:
        big = struct.unpack_from(order + "H", data, start + 2)[0] == 43
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, start + (8 if big else 4))
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start + at)
        at += start + (8 if big else 2)
        for _ in range(count):
            tag, kind, values = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, at)
            inside = _WIDTHS.get(kind, 0) * values <= (8 if big else 4)
            form = ("H" if kind == 3 else "I") if inside else ("Q" if big else "I")
            (value,) = struct.unpack_from(order + form, data, at + (12 if big else 8))
            yield tag, kind, values, inside, value
            at += 20 if big else 12
    except (struct.error, OverflowError):
        return


_CHECKS = {
    "JPEG": _check_jpeg,
    "PNG": _check_png,
    "GIF": _check_gif,
    "WEBP": _check_webp,
    "BMP": _check_bmp,
    "TIFF": _check_tiff,
    "PPM": _check_pnm,
    "JPEG2000": _check_jpeg2000,
}
