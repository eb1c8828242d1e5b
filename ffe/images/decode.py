"""Bytes of an image file -> uint8 RGB of one size."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ffe.errors import DecodeError
from ffe.specs import Decode

MAX_PIXELS = 178_956_970  # where Pillow's own decompression-bomb error starts
MAX_BYTES = 1 << 30
_HEAD_BYTES = 1 << 17  # metadata comes first, in blocks of up to 64 KiB

_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FIRST_ON_ITS_SIDE = 5  # from here on height and width change places


def read_image(file: str | os.PathLike[str]) -> bytes:
    """Return the bytes of an image file.

    Raises:
        DecodeError: the file is missing, cannot be read, is empty, or is larger than 1 GiB.
    """
    path = Path(file)
    try:
        if not path.is_file():
            reason = "not a regular file" if path.exists() else "no such file"
            raise DecodeError("missing", reason)
        if path.stat().st_size > MAX_BYTES:
            raise DecodeError("too-large", f"the file has more than {MAX_BYTES >> 20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise DecodeError("unreadable", error.strerror or str(error)) from error
    if not data:
        raise DecodeError("empty", "the file is empty")
    return data


def decode(data: bytes, size: tuple[int, int], how: Decode = "exact") -> np.ndarray:
    """Decode one image as ``keras.utils.load_img(target_size=size, interpolation="bilinear")`` does, turned upright.

    The first frame is taken; EXIF orientation is applied; transparent pixels
    show white; 16-bit grey is scaled to 8 bits; the whole picture is stretched
    to ``size`` with Pillow's bilinear filter.

    Args:
        data: content of an image file of any format that Pillow reads.
        size: (height, width) in pixels.
        how: ``exact``, or ``fast``: JPEG files take a shorter way to nearly the
            same pixels, see ``ffe.images.fast``; all others are decoded exactly.

    Returns:
        uint8 (height, width, 3), RGB, in [0, 255].

    Raises:
        DecodeError: with a reason that a person understands.
    """
    height, width = size
    if how == "fast" and (pixels := _decode_fast(data, size)) is not None:
        return pixels
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DecodeError("too-large", f"{image.width}x{image.height} pixels are more than {MAX_PIXELS:,}")
            image.load()
            upright = _upright(image)
            rgb = _to_rgb(upright)
            if rgb.size != (width, height):
                rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(rgb, dtype=np.uint8)
    except DecodeError:
        raise
    except UnidentifiedImageError as error:
        started = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
        if started is not None:
            raise DecodeError("broken", f"it starts like a {started} file, but its header is damaged") from error
        raise DecodeError("not-an-image", "its content is no image format that Pillow knows") from error
    except Image.DecompressionBombError as error:
        raise DecodeError("too-large", f"more than {MAX_PIXELS:,} pixels") from error
    except MemoryError as error:
        raise DecodeError("too-large", "not enough memory to decode it") from error
    except Exception as error:  # Pillow's plugins raise all sorts on damaged files
        text = " ".join(str(error).split()) or type(error).__name__
        reason = "truncated" if "truncated" in text.lower() else "broken"
        raise DecodeError(reason, text) from error


def upright_size(data: bytes) -> tuple[int, int]:
    """Return the (height, width) in pixels that a picture has once it stands upright; only its header is read.

    Raises:
        DecodeError: Pillow does not know it, or it is too large.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            lying = _orientation(image) >= _FIRST_ON_ITS_SIDE
            return (image.width, image.height) if lying else (image.height, image.width)
    except Image.DecompressionBombError as error:
        raise DecodeError("too-large", f"more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow's plugins raise all sorts on damaged files
        raise DecodeError("not-an-image", "Pillow cannot read its header") from error


def _decode_fast(data: bytes, size: tuple[int, int]) -> np.ndarray | None:
    """Return the pixels of a JPEG file by the short way; None for all else, and for whatever is odd about it."""
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    from ffe.images.fast import decode_jpeg

    orientation = 1
    head = data[:_HEAD_BYTES]
    if b"Exif" in head or b"Orientation" in head:  # Pillow takes a while to look for it
        try:
            with Image.open(io.BytesIO(data)) as image:
                orientation = _orientation(image)
        except Exception:  # the exact way says what is wrong with it
            return None
    try:
        pixels = decode_jpeg(data, size if orientation < _FIRST_ON_ITS_SIDE else size[::-1], MAX_PIXELS)
    except ValueError:  # simplejpeg takes sound files only; Pillow says what to make of the others
        return None
    except Exception as error:  # OpenCV's own, and a want of memory: another way would give other pixels
        raise DecodeError("too-large", f"not enough memory to decode it ({type(error).__name__})") from error
    if pixels is None or orientation not in _UPRIGHT:
        return pixels
    return np.asarray(Image.fromarray(pixels).transpose(_UPRIGHT[orientation]))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; damaged EXIF counts as 1."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF: the picture itself is sound, and 1 is what viewers assume
        return 1
    return orientation if isinstance(orientation, int) and orientation in _UPRIGHT else 1


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation."""
    method = _UPRIGHT.get(_orientation(image))
    return image.transpose(method) if method is not None else image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to RGB: alpha over white, 16-bit grey scaled."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise DecodeError("unsupported", "32-bit grey values; save the picture with 8 or 16 bits")
        image = Image.fromarray((values.astype(np.uint16) >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise DecodeError("unsupported", "floating-point pixels of unknown range; save the picture with 8 or 16 bits")
    elif image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    return image.convert("RGB")
