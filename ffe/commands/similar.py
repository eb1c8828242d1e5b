"""``similar``: a photo in; the photos of a feature file that look most like it, out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ffe.base.text import counted
from ffe.dataset.neighbours import nearest
from ffe.dataset.stored_rows import file_finder
from ffe.errors import DecodeError, SpecError
from ffe.extraction.pipeline import Pipeline, feature_rows
from ffe.extraction.stored_engine import open_stored_engine
from ffe.images.decode import decode, read_image
from ffe.images.image_handle import ImageFile
from ffe.images.loader import ImageStream
from ffe.images.sources import image_at
from ffe.report.contact_sheet import Strip, Tile, check_picture, contact_sheet, write_sheet
from ffe.specs import PreprocessSpec
from ffe.store.reader import FeatureStore

COUNT = 10
_COLUMNS = 5
_SHOWN = PreprocessSpec((224, 224), "none", resize="shortest")
_GONE = np.full((224, 224, 3), 236, np.uint8)


@dataclass(frozen=True)
class SimilarImage:
    """A photo of a feature file.

    Attributes:
        row: its row, from 0 on.
        path: the photo, relative to the source of the file.
        label: its class, or None.
        similarity: cosine of its pooled features to those of what was asked for, in [-1, 1].
        same: whether the two files are equal, byte for byte.
    """

    row: int
    path: str
    label: str | None
    similarity: float
    same: bool


@dataclass(frozen=True)
class SimilarResult:
    """What ``similar`` found: ``asked`` for a photo or for the path of a row; the nearest photos first; the picture, if any."""

    asked: str
    row: int | None
    images: tuple[SimilarImage, ...]
    sheet: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe similar --json`` prints."""
        return asdict(self)


def similar(
    features: str | os.PathLike[str],
    image: str | os.PathLike[str] | None = None,
    *,
    row: int | None = None,
    count: int = COUNT,
    sheet: str | os.PathLike[str] | None = None,
    weights: str = "imagenet",
    engine: str = "auto",
) -> SimilarResult:
    """Find the photos of a feature file that look most like one photo.

    They are compared by the cosine of their features, pooled as heads look at them by default. Every row is
    compared, in blocks: the result is exact, and memory does not grow with the file. Views are left out.

    Args:
        features: a feature file.
        image: the photo; it goes through the backbone of the file.
        row: instead of a photo, a row of the file, from 0 on; the row itself is not named.
        count: photos to find.
        sheet: a picture to draw: what was asked for, and what was found. Needs the photos where they were.
        weights: where the backbone's weights are; see ``ffe.extract``.
        engine: ``auto``, ``keras``, ``openvino`` or ``torch``; see ``ffe.extract``.

    Raises:
        SpecError: neither a photo nor a row is given, or both; or a number is out of range.
        StoreError: the file cannot be used.
        DecodeError: the photo cannot be read.
        ReportError: the picture cannot be drawn there.
        WeightsError, EngineError: the backbone cannot be had.
    """
    if image is None and row is None:
        raise SpecError("Nothing is asked for; give a photo, or the number of a row.")
    if image is not None and row is not None:
        raise SpecError("A photo and a row are asked for; give one of the two.")
    if count < 1:
        raise SpecError(f"The number of photos to find is {count}, but must be at least 1.")
    place = None if sheet is None else check_picture(Path(sheet))
    with FeatureStore(features) as store:
        if not len(store):
            raise SpecError(f"'{store.path}' holds no photos; extract some first.")
        file_of = file_finder(store)
        if row is not None:
            if not 0 <= row < len(store):
                raise SpecError(f"There is no row {row}: '{store.path}' has the rows 0 to {len(store) - 1}.")
            name, digest, asked = store.paths[row], store.sha256[row], store.features(np.asarray([row]))[0]
            file = file_of(row)
        else:
            file = image_at("", os.fsdecode(image or ""))
            name = str(file)
            digest, asked = _features_of(store, file, weights, engine)
        found = nearest(store, asked, count + (row is not None))
        rows = [one for one in found if one.row != row][:count]
        images = tuple(
            SimilarImage(
                one.row,
                store.paths[one.row],
                None if store.labels[one.row] < 0 else store.class_names[int(store.labels[one.row])],
                one.similarity,
                store.sha256[one.row] == digest,
            )
            for one in rows
        )
        if place is not None:
            _draw(place, name, file, images, [file_of(one.row) for one in rows])
    return SimilarResult(name, row, images, None if place is None else str(place))


def _features_of(store: FeatureStore, file: ImageFile, weights: str, engine: str) -> tuple[str, np.ndarray]:
    """Return the digest of a photo, and its features float32 (D,), as extraction would store them."""
    spec = store.spec
    with ImageStream([file], spec.preprocess) as stream:
        batches = list(Pipeline(stream, partial(open_stored_engine, store, weights, engine), dtype=spec.dtype))
    rows = feature_rows(batches, store.dims, lambda _, error: f"'{file}' cannot be read: {error}.")
    return batches[0][0].sha256, rows[0]


def _draw(
    place: Path, name: str, file: ImageFile | None, images: Sequence[SimilarImage], files: Sequence[ImageFile | None]
) -> None:
    """Draw what was asked for, and what was found."""
    asked, tiles = Tile(_pixels(file), ("asked for",), marked=True), []
    for one, its_file in zip(images, files, strict=True):
        pixels = _pixels(its_file)
        words = [f"{one.similarity:.3f}", one.label or "no label", *(["the same file"] if one.same else [])]
        tiles.append(Tile(pixels, [*words, *(["cannot be shown"] if pixels is _GONE else [])]))
    title = f"{counted(len(images), 'photo')} like {name}"
    write_sheet(place, contact_sheet(title, "", [Strip("", [asked]), Strip("The nearest first, by cosine", tiles)], _COLUMNS))


def _pixels(file: ImageFile | None) -> np.ndarray:
    """Return a photo for the sheet, uint8 (224, 224, 3): its middle; grey where it is gone or cannot be read."""
    try:
        return _GONE if file is None else decode(read_image(file), _SHOWN)
    except DecodeError:
        return _GONE
