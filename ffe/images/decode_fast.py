"""JPEG -> uint8 RGB of one size, the short way: libjpeg-turbo decodes at n/8 of the size, n = 1 to 8, then a small resize.

That resize is OpenCV's for a picture that is stretched by ``bilinear``, and else Pillow's by the same filter as the exact way:
OpenCV's bicubic and Lanczos filters skip pixels where they shrink, and one that picks single pixels (``nearest``) would pick
from others. Such pictures are decoded exactly. The pixels differ from those of the exact way, by two or three of 255 on
average on photos: the way is part of the cache key.
"""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

from ffe.images.decode_memory import reserved_memory
from ffe.images.resize import resized_size
from ffe.specs import PreprocessSpec

_LINEAR_UP_TO = 1.5  # larger steps would skip pixels; they are averaged over areas


def decode_reduced(
    data: bytes, preprocess: PreprocessSpec, lying: bool, most_pixels: int
) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Decode a JPEG file at the least n/8 of its size that ``ffe.images.resize`` needs no more of.

    ``lying``: it has to be turned on its side to stand upright.

    Returns:
        uint8 (h, w, 3), RGB, not turned, and the (height, width) of the upright picture in full; None if it is larger than
        ``most_pixels``, CMYK, or resized by ``nearest``; a ValueError if it is unsound.
    """
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    if height * width > most_pixels or colours not in {"Gray", "YCbCr", "RGB"} or preprocess.interpolation == "nearest":
        return None
    full = (width, height) if lying else (height, width)
    least = resized_size(full, preprocess)
    min_height, min_width = least[::-1] if lying else least
    with reserved_memory(height * width):
        pixels = simplejpeg.decode_jpeg(
            data, "RGB", fastdct=True, fastupsample=True, min_height=min_height, min_width=min_width, min_factor=1
        )
    return pixels, full


def shrunk(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture, uint8 (h, w, 3), stretched to (height, width)."""
    height, width = size
    if pixels.shape[:2] == size:
        return pixels
    step = max(pixels.shape[0] / height, pixels.shape[1] / width)
    filter_ = cv2.INTER_LINEAR if step <= _LINEAR_UP_TO else cv2.INTER_AREA
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=filter_))
