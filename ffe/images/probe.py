"""Image files -> format, size and colours of each, and whether extraction, which decodes it in full, would skip it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ffe.base.digests import bytes_digest
from ffe.errors import DecodeError
from ffe.images.decode import decode_with_hash, read_image, upright_size
from ffe.images.image_handle import ImageFile
from ffe.images.loader import threads_for
from ffe.images.object_store import Failures
from ffe.images.phash import UNKNOWN
from ffe.specs import PreprocessSpec

_AT_ONCE = 8192  # files handed to the threads, so that memory stays flat
_SMALL = PreprocessSpec((128, 128), "none")  # for the fingerprint: four pixels for each of its boxes
_LEAST_BITS = 16  # of 32 that a picture with any detail sets: flat ones would all be copies of each other
_SAME_FORMAT = {"MPO": "JPEG"}  # several JPEG pictures in one file, of which the first is taken

COLOURS = {
    "RGB": "colour",
    "L": "grey",
    "P": "palette",
    "1": "black and white",
    "RGBA": "colour, transparent",
    "LA": "grey, transparent",
    "PA": "palette, transparent",
    "CMYK": "CMYK",
    "I;16": "16-bit grey",
    "I;16B": "16-bit grey",
    "I": "16-bit grey",
    "F": "floating point",
}


@dataclass(frozen=True)
class ImageProbe:
    """What a file is."""

    sha256: str = ""  # digest of its content; empty if it could not be read
    bytes: int = 0  # its size on the disk; 0 if it could not be read
    format: str = ""  # ``JPEG``, ``PNG`` ..., by its content; empty if unknown
    colours: str = ""  # how its pixels are kept, in words; see ``COLOURS``
    height: int = 0  # pixels, once it stands upright; 0 if unknown
    width: int = 0  # likewise
    animated: bool = False  # whether it has more pictures than the first, which is taken
    phash: int = UNKNOWN  # fingerprint, see ``ffe.images.phash``; 0 if it cannot be decoded, or shows nothing
    notes: tuple[str, ...] = ()  # what ``ffe.images.decode`` noted of it
    error: DecodeError | None = None  # why extraction would skip it, or None


def probe_files(files: Sequence[ImageFile], *, workers: int | None = None) -> Generator[ImageProbe, None, None]:
    """Look at files, several at a time, and yield what they are, in their order; ``workers``: None = as suits the files."""
    pool, failures = ThreadPoolExecutor(workers or threads_for(files), thread_name_prefix="ffe-survey"), Failures()
    try:
        for i in range(0, len(files), _AT_ONCE):
            part = files[i : i + _AT_ONCE]
            for file, found in zip(part, pool.map(probe_file, part), strict=True):
                if (refusal := failures.in_vain(file, found.error)) is not None:
                    raise refusal
                yield found
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def probe_file(file: ImageFile) -> ImageProbe:
    """Return what one file is; a file that cannot be read is a value too."""
    found = ImageProbe()
    try:
        data = read_image(file)
        found = ImageProbe(bytes_digest(data), len(data), **_header(data))
        notes: list[str] = []
        _, phash = decode_with_hash(data, _SMALL, notes=notes)
    except DecodeError as error:
        return replace(found, error=error)
    return replace(found, phash=phash if phash.bit_count() >= _LEAST_BITS else UNKNOWN, notes=tuple(notes))


def _header(data: bytes) -> dict[str, Any]:
    """Return what the header of a picture says, by the fields of ``ImageProbe``, as far as Pillow can tell."""
    found: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # decoding says what is wrong with it
        found["height"], found["width"] = upright_size(data)
        with Image.open(io.BytesIO(data)) as image:
            transparent = image.mode in {"RGB", "L", "P"} and "transparency" in image.info
            found["format"] = _SAME_FORMAT.get(image.format or "", image.format or "")
            found["colours"] = COLOURS.get(image.mode, image.mode) + (", transparent" if transparent else "")
            found["animated"] = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
    return found


def ending_format(path: str) -> str:
    """Return the format that the ending of a name stands for, such as ``JPEG``; empty for none and for unknown ones."""
    kind = Image.registered_extensions().get(Path(path).suffix.lower(), "")
    return _SAME_FORMAT.get(kind, kind)
