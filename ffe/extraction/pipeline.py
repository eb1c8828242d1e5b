"""Files -> decoded images -> batches -> features. Extraction and prediction both run on this."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffe.engines.base import Engine
from ffe.errors import DataError, DecodeError, SpecError
from ffe.images.stream import DecodedImage, stream


@dataclass(frozen=True)
class ImageFeatures:
    """What became of one file.

    Attributes:
        index: position among the files given.
        sha256: digest of the file's content; empty if it could not be read.
        features: float32 (D,); None if they were known already, or the file failed.
        error: why it failed, or None.
    """

    index: int
    sha256: str
    features: np.ndarray | None
    error: DecodeError | None = None


def compute_features(
    files: Iterable[Path | bytes],
    size: tuple[int, int],
    engine: Callable[[], Engine],
    *,
    batch_size: int,
    workers: int | None = None,
    dtype: str = "float32",
    known: Callable[[str], bool] | None = None,
) -> Iterator[list[ImageFeatures]]:
    """Push files through the backbone in batches; yield what became of them, batch by batch, in order.

    Args:
        files: paths, or the bytes of image files.
        size: (height, width) that the backbone takes.
        engine: opens the engine; called once, when the first image needs it.
        batch_size: images in a batch; the engine takes as many.
        workers: threads that decode.
        dtype: type that the features are stored in; they are rounded to it
            here, so that prediction sees what training saw.
        known: says of a digest that its features are there already. Where it is
            given, files of equal content are computed once.

    Raises:
        SpecError: the batch size is below 1.
        DataError: a feature is NaN or infinite, or becomes so in ``dtype``.
    """
    if batch_size < 1:
        raise SpecError(f"batch_size is {batch_size}, but must be at least 1.")
    opened: Engine | None = None
    taken: set[str] = set()
    waiting: list[DecodedImage] = []
    wanted = 0

    def skip(sha256: str) -> bool:
        return known is not None and (sha256 in taken or known(sha256))

    def flush() -> list[ImageFeatures]:
        nonlocal opened, waiting, wanted
        pixels = [item.pixels for item in waiting if item.pixels is not None]
        rows: Iterator[np.ndarray] = iter(())
        if pixels:
            if opened is None:
                opened = engine()
            with np.errstate(over="ignore"):  # what does not fit is refused below
                features = opened.extract(np.stack(pixels)).astype(dtype).astype(np.float32)
            if not np.isfinite(features).all():
                hint = "use --dtype float32" if dtype != "float32" else "check the weights, or use --precision float32"
                raise DataError(f"The backbone gave features that are NaN or too large for {dtype}; {hint}.")
            rows = iter(features)
        done = [
            ImageFeatures(item.index, item.sha256, next(rows) if item.pixels is not None else None, item.error)
            for item in waiting
        ]
        waiting, wanted = [], 0
        return done

    for item in stream(files, size, workers=workers, ahead=2 * batch_size, known=skip):
        if item.pixels is not None and skip(item.sha256):  # an equal file came by since it was decoded
            item = DecodedImage(item.index, item.sha256, None)
        if item.pixels is not None:
            taken.add(item.sha256)
            wanted += 1
        waiting.append(item)
        if wanted == batch_size or len(waiting) == 64 * batch_size:
            yield flush()
    if waiting:
        yield flush()
