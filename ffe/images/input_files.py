"""What a caller hands over as pictures -> files or the contents of files, each with a name."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from ffe.errors import SourceError
from ffe.images.image_handle import ImageFile, ImageHandle
from ffe.images.limits import MAX_BYTES
from ffe.images.sources import image_at
from ffe.redaction import redacted

NAMELESS = "-"

Picture = str | os.PathLike[str] | ImageHandle | bytes | np.ndarray | Image.Image | BinaryIO

_KINDS = "a path, a PIL.Image, an array uint8 (height, width, 3) in RGB, the bytes of an image file, or an open file"
_AS_PNG = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}
_AS_TIFF = {"I", "F"}  # all others are converted, as decoding does it


def named_images(pictures: Picture | Iterable[Picture], max_bytes: int = MAX_BYTES) -> Iterator[tuple[str, ImageFile | bytes]]:
    """Yield the name of each picture, and its file or the content of one: pixels in memory are made a PNG or TIFF file.

    They are one, or several, which need not fit into memory. Arrays are uint8 (H, W, 3) in RGB; of an open file no more than
    ``max_bytes`` and one is read. Anything else is a SourceError, once it is reached.
    """
    if _is_one_image(pictures):
        return iter([_named_image(pictures, max_bytes)])
    several = isinstance(pictures, Iterable) and not isinstance(pictures, (Mapping, Set))
    if not several or getattr(pictures, "ndim", 1) not in {1, 4}:
        raise _not_an_image(pictures)
    return (_named_image(picture, max_bytes) for picture in pictures)  # type: ignore[union-attr]


def _is_one_image(picture: object) -> bool:
    if isinstance(picture, np.ndarray):
        return picture.ndim == 3
    return isinstance(picture, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)) or hasattr(picture, "read")


def _named_image(picture: Any, max_bytes: int) -> tuple[str, ImageFile | bytes]:
    if isinstance(picture, (str, os.PathLike)):
        name = os.fsdecode(picture)
        return redacted(name), image_at("", name)
    if isinstance(picture, ImageHandle):
        return picture.name, picture
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return NAMELESS, bytes(picture)
    if isinstance(picture, Image.Image):
        return getattr(picture, "filename", "") or NAMELESS, _file_of(picture)
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (3,) and picture.size:
        return NAMELESS, _file_of(Image.fromarray(np.ascontiguousarray(picture)))
    if hasattr(picture, "read"):
        data = picture.read(max_bytes + 1)
        if isinstance(data, bytes):
            called = getattr(picture, "name", None)
            return called if isinstance(called, str) else NAMELESS, data
        raise SourceError("A file that is open as text is no picture; open it with open(path, 'rb').")
    raise _not_an_image(picture)


def _file_of(image: Image.Image) -> bytes:
    """Return an image without loss, upright: as PNG, or what that does not hold as TIFF."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode not in _AS_PNG | _AS_TIFF:
        upright = upright.convert("RGBA" if upright.mode in {"RGBa", "La", "PA"} else "RGB")
    file = io.BytesIO()
    upright.save(file, "TIFF" if upright.mode in _AS_TIFF else "PNG", compress_level=1)
    return file.getvalue()


def _not_an_image(picture: object) -> SourceError:
    kind = type(picture).__name__
    if isinstance(picture, np.ndarray):
        kind = f"array of {picture.dtype} {picture.shape}"
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    return SourceError(f"{article.capitalize()} {kind} is no picture; give {_KINDS}, or a list of these.")
