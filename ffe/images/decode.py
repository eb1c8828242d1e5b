"""Bytes of an image file -> uint8 RGB of one size."""

from __future__ import annotations

import io
import os
import stat
import threading
import zlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from ffe.base.text import counted, url_refusal
from ffe.errors import DecodeError, ran_out_of_memory
from ffe.images.decode_memory import reserved_memory
from ffe.images.guards import (
    check_pixels,
    checked,
    is_cut_off,
    kind_of,
    lacks_its_end,
    png_chunks,
    tags_are_bounded,
)
from ffe.images.image_handle import ImageHandle
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Limits
from ffe.images.phash import perceptual_hash
from ffe.images.resize import resized
from ffe.specs import PreprocessSpec

_FIRST_BYTES = 1 << 16  # most photos of the web at once: where many threads read, each call has to wait for Python's lock
_METADATA_BYTES = 1 << 17  # of a JPEG file: it comes first, in blocks of up to 64 KiB
_STRIP_PIXELS = 1 << 22  # colours are converted so many at a time, so that no copy of a large picture is made
_NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)

DARK = "dark"  # 16 or more bits, of which the lower ones alone are used: 12-bit values as a camera or a microscope gives them
ENDLESS = "endless"  # the end of the file is missing, but no pixel
UNMATCHED = "unmatched"  # a part of a PNG file has another checksum than it says
CUT = "cut"  # pixels are missing, and stand as the decoder fills them
NOTES = (DARK, ENDLESS, UNMATCHED, CUT)
_DARK_SHARE = 8
_JPEG_END = b"\xff\xd9"

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


def read_image(file: str | os.PathLike[str] | ImageHandle | bytes, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of an image file; what cannot be had, or has more than ``max_bytes``, is a DecodeError.

    Pipes, devices and sockets are never read; of a file whose first bytes are those of no picture, nothing more is.
    """
    if isinstance(file, bytes):
        if len(file) > max_bytes:
            raise DecodeError("too-large", too_many_bytes(max_bytes))
        return file
    if isinstance(file, ImageHandle):
        data = file.read(max_bytes)
        if not data:
            raise DecodeError("empty", "the file is empty")
        kind_of(data)
        return data
    path = Path(file)
    try:
        _check_file(os.stat(path))
        descriptor = os.open(path, os.O_RDONLY | _NO_WAITING)  # it may have become a pipe since
        try:
            status = os.fstat(descriptor)
            _check_file(status)
            if status.st_size > max_bytes:
                raise DecodeError("too-large", too_many_bytes(max_bytes))
            data = os.read(descriptor, _FIRST_BYTES)
            if not data:
                raise DecodeError("empty", "the file is empty")
            kind_of(data)
            size = status.st_size or max_bytes  # some file systems know no sizes
            while len(data) <= size and (more := os.read(descriptor, size + 1 - len(data))):
                data += more
            if len(data) > size:
                grows = "the file grows while it is read; run this again when it is complete"
                raise DecodeError("unreadable", grows if status.st_size else too_many_bytes(max_bytes))
            now = os.fstat(descriptor)
            if (now.st_size, now.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
                raise DecodeError("unreadable", "it was changed while it was read; run this again")
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        why = "a URL; download it first" if url_refusal(path) else "no such file"
        archive, mark, _ = os.fspath(path).partition("#")
        why = f"no such image in '{archive}'" if mark and os.path.isfile(archive) else why
        raise DecodeError("missing", "a link to a file that is not there" if path.is_symlink() else why) from error
    except OSError as error:
        raise DecodeError("unreadable", error.strerror or str(error)) from error
    except MemoryError as error:
        raise DecodeError("too-large", "not enough memory to read it") from error
    except ValueError as error:  # a null character in the name
        raise DecodeError("missing", "no such file") from error
    return data


def _check_file(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise DecodeError("not-a-file", "a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError("not-a-file", "a pipe, a device or a socket, not a file")


def too_many_bytes(most: int) -> str:
    """Return why a file of more than ``most`` bytes is not read."""
    amount = f"{most >> 20:,} MiB" if most >= 1 << 20 else counted(most, "byte")
    return f"the file has more than {amount} (--max-bytes)"


class _PerThread(threading.local):
    """Pillow's switch for pictures that are cut off, for each thread: on while ffe takes one, and as it was for all others."""

    def __init__(self, before: bool) -> None:  # called in each thread
        self.before = self.on = before

    def __bool__(self) -> bool:
        return self.on


_takes_cut = _PerThread(bool(ImageFile.LOAD_TRUNCATED_IMAGES))
ImageFile.LOAD_TRUNCATED_IMAGES = _takes_cut  # type: ignore[assignment]


def decode(
    data: bytes,
    preprocess: PreprocessSpec,
    limits: Limits = Limits(),  # noqa: B008 (a frozen value)
    notes: list[str] | None = None,
) -> np.ndarray:
    """Decode one image, turned upright, and bring it to the size of a spec, whose scaling is left to the engine.

    The first frame is taken; EXIF orientation is applied; transparent pixels show white; 16-bit grey is scaled to 8 bits,
    and what uses a small part of them stays dark; ``ffe.images.resize`` does the rest: where the spec names nothing else,
    what ``keras.utils.load_img(target_size=size, interpolation="bilinear")`` does. A file that lacks its end, but none of its
    pixels, is taken. With ``fast``, JPEG files take the way of ``ffe.images.decode_fast``. ``notes`` takes those of ``NOTES``
    that are so.

    Returns:
        uint8 (height, width, 3), RGB, in [0, 255]; a DecodeError says what is wrong so that a person understands it.
    """
    return _checked_and_decoded(data, (preprocess,), limits, [] if notes is None else notes)[0][0]


def decode_with_hash(
    data: bytes,
    preprocess: PreprocessSpec,
    limits: Limits = Limits(),  # noqa: B008 (a frozen value)
    notes: list[str] | None = None,
) -> tuple[np.ndarray, int]:
    """Decode one image as ``decode`` does; also return the fingerprint of all of it, whatever the spec cuts off."""
    (pixels,), phash = decode_for_all(data, (preprocess,), limits, notes)
    return pixels, phash


def decode_for_all(
    data: bytes,
    ways: Sequence[PreprocessSpec],
    limits: Limits = Limits(),  # noqa: B008 (a frozen value)
    notes: list[str] | None = None,
) -> tuple[list[np.ndarray], int]:
    """Decode one image once, and prepare it in each of several ways; also return the fingerprint, by the first of them.

    Only JPEG files are decoded again for a ``fast`` way of another geometry: at which share of the size depends on that.
    """
    same = [_geometry(way) for way in ways]
    jpeg = kind_of(data) == "JPEG"
    together = tuple(way for way in dict.fromkeys(same) if not (jpeg and way.decode == "fast"))
    made, wholes = dict[PreprocessSpec, np.ndarray](), dict[PreprocessSpec, np.ndarray]()
    for group in (together, *((way,) for way in dict.fromkeys(same) if way not in together)):
        if group:
            pixels, whole = _checked_and_decoded(data, group, limits, [] if notes is None or made else notes)
            made |= zip(group, pixels, strict=True)
            wholes |= dict.fromkeys(group, whole)
    return [made[way] for way in same], perceptual_hash(wholes[same[0]])


@cache
def _geometry(way: PreprocessSpec) -> PreprocessSpec:
    """Return what decides the pixels of a spec: scaling does not, but where it says what a picture is filled with."""
    return way if way.resize == "longest" else replace(way, mode="none", mean=None, std=None, channels=None)


def _checked_and_decoded(
    data: bytes, preprocess: tuple[PreprocessSpec, ...], limits: Limits, notes: list[str]
) -> tuple[list[np.ndarray], np.ndarray]:
    kind = kind_of(data)
    try:
        pixels = _decoded(data, kind, preprocess, limits.pixels, notes)
    except DecodeError as error:
        if error.reason != "truncated":
            raise
        if kind == "JPEG" and _lacks_its_end_alone(data):
            pixels = _decoded(data + _JPEG_END, kind, preprocess, limits.pixels, notes)
            notes.append(ENDLESS)
        elif limits.truncated == "keep":
            try:
                exact = tuple(replace(way, decode="exact") for way in preprocess)
                pixels = _decoded(data, kind, exact, limits.pixels, notes, cut=True)
            except DecodeError:
                raise error from None
            notes.append(CUT)
        else:
            raise
    else:
        if lacks_its_end(data, kind):
            notes.append(ENDLESS)
    if kind == "PNG" and not _matches_its_checksums(data):
        notes.append(UNMATCHED)
    return pixels


def _matches_its_checksums(data: bytes) -> bool:
    """Return whether each chunk of a PNG file that is there as a whole has the checksum that stands behind it."""
    view = memoryview(data)
    return all(
        zlib.crc32(view[at + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
        for at, end, _ in png_chunks(data)
        if end <= len(data)
    )


def _lacks_its_end_alone(data: bytes) -> bool:
    """Return whether all pixels of a cut JPEG file are there: its decoder has nothing to complain of but the end marker."""
    import simplejpeg

    try:
        colours = simplejpeg.decode_jpeg_header(data)[2]
        simplejpeg.decode_jpeg(data + _JPEG_END, "CMYK" if colours in {"CMYK", "YCCK"} else "RGB", strict=True)
    except (ValueError, MemoryError):
        return False
    return True


def _decoded(
    data: bytes, kind: str, preprocess: tuple[PreprocessSpec, ...], max_pixels: int, notes: list[str], *, cut: bool = False
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return what each network is given, and a small copy of all of the picture, as ``ffe.images.resize.resized`` does.

    Of a JPEG file, ``fast`` is for one network.
    """
    data, first = checked(data, kind, max_pixels), preprocess[0]
    if first.decode == "fast" and kind == "JPEG" and (found := _decode_fast(data, first, max_pixels)) is not None:
        return [found[0]], found[1]
    _takes_cut.on = cut
    try:
        with _opened(data, kind, max_pixels) as image:
            check_pixels(image.width, image.height, max_pixels, len(data), kind)
            deep = image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
            with reserved_memory(image.width * image.height):
                image.load()
                if deep and _is_dark(image):
                    notes.append(DARK)
                method = _UPRIGHT.get(_orientation(image))
                rgb = _to_rgb(image.transpose(method) if method is not None else image)
                made = [resized(rgb, way) for way in preprocess]
                return [pixels for pixels, _ in made], made[0][1]
    except DecodeError:
        raise
    except UnidentifiedImageError as error:
        if is_cut_off(data, kind):
            raise DecodeError("truncated", "the picture is cut off") from error
        what = "an AVIF" if kind == "AVIF" else f"a {kind}"
        raise DecodeError("broken", f"it starts like {what} file, but its header is damaged") from error
    except Exception as error:  # Pillow's plugins raise all sorts on damaged files
        if ran_out_of_memory(error):
            raise DecodeError("too-large", "not enough memory to decode it") from error
        text = " ".join(str(error).split()) or type(error).__name__
        if "truncated" in text.lower() or is_cut_off(data, kind):
            raise DecodeError("truncated", f"the picture is cut off ({text})") from error
        raise DecodeError("broken", f"the picture is damaged ({text})") from error
    finally:
        _takes_cut.on = _takes_cut.before


def _is_dark(image: Image.Image) -> bool:
    """Return whether the values of a picture of 16 or more bits all lie in the lowest eighth of the 16-bit range."""
    extrema = image.getextrema()
    if image.mode.startswith("I"):
        return extrema[1] < 0xFFFF // _DARK_SHARE  # type: ignore[operator]
    colours = extrema[:3] if image.mode.startswith("RGB") else extrema[:1]
    return all(high < 0xFF // _DARK_SHARE for _, high in colours)  # type: ignore[misc]


def upright_size(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return the (height, width) of a picture that stands upright, by its header; a DecodeError if Pillow does not know it."""
    kind = kind_of(data)
    data = checked(data, kind, max_pixels)
    try:
        with _opened(data, kind, max_pixels) as image:
            lying = _orientation(image) >= _FIRST_ON_ITS_SIDE
            # Pillow turns TIFF files by itself, some versions when they are opened and others when they are loaded
            width, height = (image.tag_v2[256], image.tag_v2[257]) if kind == "TIFF" else image.size  # type: ignore[attr-defined]
            return (width, height) if lying else (height, width)
    except Exception as error:  # Pillow's plugins raise all sorts on damaged files
        raise DecodeError("not-an-image", "Pillow cannot read its header") from error


def _opened(data: bytes, kind: str, max_pixels: int) -> Image.Image:
    """Open a picture with the one plugin for its kind; others would run Ghostscript, or guess."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # for the whole process; Pillow refuses twice as many
    try:
        return Image.open(io.BytesIO(data), formats=(kind,))
    except Image.DecompressionBombError as error:
        raise DecodeError("too-large", f"more than {max_pixels:,} pixels (--max-pixels)") from error
    except KeyError as error:  # an older Pillow
        raise DecodeError("unsupported", f"this version of Pillow reads no {kind} files; install a newer one") from error


def _decode_fast(data: bytes, preprocess: PreprocessSpec, max_pixels: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the pixels of a JPEG file by the short way, as ``_decoded`` does; None for whatever is odd about it."""
    from ffe.images.decode_fast import decode_reduced, shrunk

    orientation = 1
    head = data[:_METADATA_BYTES]
    if b"Exif" in head or b"Orientation" in head:  # Pillow takes a while to look for it
        try:
            with _opened(data, "JPEG", max_pixels) as image:
                orientation = _orientation(image)
        except Exception:  # the exact way says what is wrong with it
            return None
    lying, method = orientation >= _FIRST_ON_ITS_SIDE, _UPRIGHT.get(orientation)
    try:
        if (found := decode_reduced(data, preprocess, lying, max_pixels)) is None:
            return None
        pixels, full = found
        if preprocess.whole and preprocess.interpolation == "bilinear":
            pixels = shrunk(pixels, preprocess.size[::-1] if lying else preprocess.size)
            if method is not None:
                pixels = np.asarray(Image.fromarray(pixels).transpose(method))
            return pixels, pixels
        picture = Image.fromarray(pixels)
        return resized(picture if method is None else picture.transpose(method), preprocess, full)
    except ValueError:  # simplejpeg takes sound files only; Pillow says what to make of the others
        return None
    except Exception as error:  # OpenCV's own, and a want of memory: another way would give other pixels
        raise DecodeError("too-large", f"not enough memory to decode it ({type(error).__name__})") from error


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; damaged EXIF counts as 1."""
    exif = image.info.get("exif", b"")
    if isinstance(exif, bytes) and not tags_are_bounded(exif, 6 if exif.startswith(b"Exif\0\0") else 0):
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF: the picture itself is sound, and 1 is what viewers assume
        return 1
    return orientation if isinstance(orientation, int) and orientation in _UPRIGHT else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to RGB: alpha over white, 16-bit grey scaled."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    rows = max(1, _STRIP_PIXELS // image.width)
    if image.height <= rows:
        return _strip_to_rgb(image)
    result = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        result.paste(_strip_to_rgb(image.crop(box)), box)
    return result


def _strip_to_rgb(image: Image.Image) -> Image.Image:
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
