"""All images of a source, decoded once: for training that looks at them again and again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ffe.base.arrays import empty_array
from ffe.base.text import none_could
from ffe.errors import SourceError
from ffe.images.limits import Limits
from ffe.images.loader import DecodedImage, ImageStream
from ffe.images.sources import ImageRecord
from ffe.specs import PreprocessSpec

log = logging.getLogger("ffe")


def decode_source(
    records: Sequence[ImageRecord],
    preprocess: PreprocessSpec,
    *,
    limits: Limits = Limits(),  # noqa: B008 (a frozen value)
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, list[DecodedImage], dict[int, str]]:
    """Decode images once: options as of ``ImageStream``; ``progress`` is called with how many are done, of how many.

    Returns:
        pixels uint8 (N, H, W, 3), RGB, of those that could be read: a memory map of a temporary file where memory is short;
        what else is known of these N; and why the others could not be read, by position. That none could is a SourceError.
    """
    pixels = empty_array((len(records), *preprocess.size, 3), np.uint8, "pixels")
    read: list[DecodedImage] = []
    failed: dict[int, str] = {}
    with ImageStream((record.file for record in records), preprocess, workers=workers, limits=limits) as images:
        for item in images:
            if item.pixels is None:
                failed[item.index] = str(item.error)
            else:
                pixels[len(read)] = item.pixels
                read.append(replace(item, pixels=None))
            progress(item.index + 1, len(records))
        for text in images.note_texts(lambda index: records[index].path):
            log.warning("%s", text)
    if not read:
        first = next((f" (the first, '{records[i].path}': {why})" for i, why in failed.items()), "")
        none = none_could(len(records), "image")
        raise SourceError(f"{none} be read{first}; check the paths, and that they are pictures.")
    return pixels[: len(read)], read, failed
