"""JPEG -> uint8 RGB of one size, the short way: libjpeg-turbo decodes at n/8 of the size, n = 1 to 8, then a small resize.

The pixels differ from those of the exact way, by two or three of 255 on average on photos: the way is part of the cache key.
"""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

from ffe.images.decode_memory import reserved_memory

_LINEAR_UP_TO = 1.5  # larger steps would skip pixels; they are averaged over areas


def decode_jpeg(data: bytes, size: tuple[int, int], most_pixels: int) -> np.ndarray | None:
    """Return a JPEG file at a size, uint8 (height, width, 3), RGB; None if it is large or CMYK, a ValueError if unsound."""
    height, width = size
    full_height, full_width, colours, _ = simplejpeg.decode_jpeg_header(data)
    if full_height * full_width > most_pixels or colours not in {"Gray", "YCbCr", "RGB"}:
        return None
    with reserved_memory(full_height * full_width):
        pixels = simplejpeg.decode_jpeg(
            data, "RGB", fastdct=True, fastupsample=True, min_height=height, min_width=width, min_factor=1
        )
    step = max(pixels.shape[0] / height, pixels.shape[1] / width)
    if pixels.shape[:2] != (height, width):
        filter_ = cv2.INTER_LINEAR if step <= _LINEAR_UP_TO else cv2.INTER_AREA
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=filter_))
    return pixels
