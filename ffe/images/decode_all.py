"""All images of a source, decoded once: for training that looks at them again and again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ffe.base.arrays import empty_array
from ffe.base.text import none_could
from ffe.errors import SourceError
from ffe.images.limits import Limits
from ffe.images.loader import ImageStream
from ffe.images.sources import ImageRecord
from ffe.specs import Decode

log = logging.getLogger("ffe")


@dataclass(frozen=True, eq=False)
class DecodedSource:
    """The images that could be read.

    Attributes:
        pixels: uint8 (N, H, W, 3), RGB; a memory map of a temporary file where memory is short.
        records: N of them.
        sha256: N digests.
        phash: uint64 (N,).
        skipped: (path, reason) of the others.
    """

    pixels: np.ndarray
    records: tuple[ImageRecord, ...]
    sha256: tuple[str, ...]
    phash: np.ndarray
    skipped: tuple[tuple[str, str], ...]


def decode_source(
    records: Sequence[ImageRecord],
    size: tuple[int, int],
    how: Decode = "exact",
    *,
    limits: Limits = Limits(),  # noqa: B008 (a frozen value)
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DecodedSource:
    """Decode images once: options as of ``ImageStream``; ``progress`` is called with how many are done, of how many.

    Raises:
        SourceError: none of them could be read.
        DiskFullError: neither memory nor the temporary folder has the room.
    """
    pixels = empty_array((len(records), *size, 3), np.uint8, "pixels")
    kept: list[ImageRecord] = []
    sha256: list[str] = []
    phash: list[int] = []
    skipped: list[tuple[str, str]] = []
    with ImageStream((record.file for record in records), size, how=how, workers=workers, limits=limits) as images:
        for item in images:
            record = records[item.index]
            if item.pixels is None:
                skipped.append((record.path, str(item.error)))
            else:
                pixels[len(kept)] = item.pixels
                kept.append(record)
                sha256.append(item.sha256)
                phash.append(item.phash)
            progress(item.index + 1, len(records))
        for text in images.note_texts(lambda index: records[index].path):
            log.warning("%s", text)
    if not kept:
        first = f" (the first, '{skipped[0][0]}': {skipped[0][1]})" if skipped else ""
        none = none_could(len(records), "image")
        raise SourceError(f"{none} be read{first}; check the paths, and that they are pictures.")
    return DecodedSource(pixels[: len(kept)], tuple(kept), tuple(sha256), np.asarray(phash, np.uint64), tuple(skipped))
