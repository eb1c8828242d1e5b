"""Decodes corrupted variants of good pictures, one after the other; a process of its own, so that a crash is seen.

    python corrupted_worker.py HOW SEED FIRST COUNT [PHOTO ...]

Prints a line of JSON before each variant, and one after it.
"""

from __future__ import annotations

import io
import json
import random
import resource
import struct
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, features

from ffe.errors import DecodeError
from ffe.images.decode import decode
from ffe.images.drawings import draw
from ffe.specs import PreprocessSpec

_EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def good_files(photos: list[Path]) -> list[bytes]:
    """Return pictures of many kinds, and photos."""
    picture = draw("cat", 5, (96, 128))
    grey, few = picture.convert("L"), picture.quantize(16)
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker" * 20
    frames = {"save_all": True, "append_images": [draw("dog", 1, (96, 128))]}
    pages = {"save_all": True, "append_images": [draw("dog", 1, (96, 128))], "big_tiff": True}  # saving as MPO marks a picture
    kinds: list[tuple[Image.Image, str, dict[str, object]]] = [
        (picture, "JPEG", {"exif": exif, "icc_profile": bytes(3000)}),
        (picture, "JPEG", {"progressive": True, "subsampling": 0}),
        (picture, "JPEG", {"restart_marker_rows": 1}),
        (picture.convert("CMYK"), "JPEG", {}),
        (grey, "JPEG", {}),
        (picture, "MPO", frames),
        (picture, "PNG", {"exif": exif, "icc_profile": bytes(3000)}),
        (picture.convert("RGBA"), "PNG", frames),
        (few, "PNG", {"transparency": 3}),
        (sixteen, "PNG", {}),
        (few, "GIF", {}),
        (few, "GIF", {"save_all": True, "append_images": [few.rotate(90)], "comment": b"a comment" * 50}),
        (picture, "WEBP", {"exif": exif}),
        (picture.convert("RGBA"), "WEBP", {"lossless": True}),
        (picture, "WEBP", frames),
        (picture, "BMP", {}),
        (few, "BMP", {}),
        (picture, "TIFF", {}),
        (sixteen, "TIFF", {}),
        *((picture.copy(), "TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        (picture.convert("1"), "TIFF", {"compression": "group4"}),
        (picture.copy(), "TIFF", pages),
        (picture, "JPEG2000", {}),
        (picture, "PPM", {}),
    ]
    if features.check("avif"):
        kinds.append((picture, "AVIF", {"exif": exif}))
    files = [run_lengths()]
    for image, kind, options in kinds:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files.append(buffer.getvalue())
    return files + [photo.read_bytes() for photo in photos]


def run_lengths() -> bytes:
    """Return a BMP with run lengths, which Pillow cannot write."""
    body = (b"\x40\x05\x40\x09\0\x04\1\2\3\4\x10\7\0\0") * 96 + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, 148, 96, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(body), 0, 0, 1078) + header + bytes(range(256)) * 4 + body


def variant(files: list[bytes], seed: int, index: int) -> bytes:
    """Return the file of a number: good bytes flipped, cut, spliced, repeated, with other lengths; most often near the start."""
    rng = random.Random(f"{seed} {index}")
    data = bytearray(files[index % len(files)])
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _damage(data, files, rng)
    if data.startswith(b"\x89PNG") and rng.random() < 0.7:
        _mend_checksums(data)
    return bytes(data)


def _place(data: bytearray, rng: random.Random) -> int:
    size = max(1, len(data) - 1)
    return min(size, rng.choice((rng.randrange(size), rng.randrange(min(size, 600)), rng.randrange(min(size, 64)))))


def _damage(data: bytearray, files: list[bytes], rng: random.Random) -> None:
    if len(data) < 2:
        return
    what = rng.choice(("flip", "flip", "bits", "cut", "splice", "repeat", "length", "length", "zero", "insert", "remove"))
    at, length = _place(data, rng), rng.choice((1, 2, 16, 300, 4000))
    if what == "flip":
        for _ in range(rng.choice((1, 3, 20))):
            data[_place(data, rng)] = rng.randrange(256)
    elif what == "bits":
        data[at] ^= 1 << rng.randrange(8)
    elif what == "cut":
        del data[max(4, at) :]
    elif what == "splice":
        other = rng.choice(files)
        data[at:] = other[min(at, len(other) - 1) :]
    elif what == "repeat":
        data[at:at] = data[at : at + length] * rng.choice((1, 10, 200))
    elif what == "length":
        form = rng.choice((">H", "<H", ">I", "<I"))
        number = rng.choice((*_EXTREMES, rng.randrange(1 << 16))) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
        data[at : at + struct.calcsize(form)] = struct.pack(form, number)
    elif what == "zero":
        data[at : at + length] = bytes(min(length, len(data) - at))
    elif what == "insert":
        data[at:at] = rng.randbytes(length)
    else:
        del data[at : at + length]


def _mend_checksums(data: bytearray) -> None:
    """Give the chunks of a PNG right checksums again, so that more of the decoder sees what is wrong in them."""
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            return
        struct.pack_into(">I", data, at + 8 + length, zlib.crc32(data[at + 4 : at + 8 + length]))
        at += 12 + length


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main() -> None:
    """Decode the variants that the arguments name."""
    how, seed, first, count = sys.argv[1], *map(int, sys.argv[2:5])
    files = good_files([Path(name) for name in sys.argv[5:]])
    warnings.simplefilter("ignore")
    for data in files:
        decode(data, PreprocessSpec((64, 64), "none", decode=how))  # type: ignore[arg-type]
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    before = _peak_mib()
    for index in range(first, first + count):
        print(json.dumps({"started": index}), flush=True)
        data = variant(files, seed, index)
        started = time.process_time()
        try:
            pixels = decode(data, PreprocessSpec((64, 64), "none", decode=how))  # type: ignore[arg-type]
            outcome = "picture" if pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8 else f"no picture: {pixels.shape}"
        except DecodeError as error:
            outcome = error.reason if str(error) else "an empty sentence"
        except BaseException as error:  # whatever else there is, the test wants to know it
            outcome = f"{type(error).__name__}: {error}"
        seconds = time.process_time() - started
        print(json.dumps({"done": index, "outcome": outcome, "seconds": seconds, "more_mib": _peak_mib() - before}), flush=True)


if __name__ == "__main__":
    main()
