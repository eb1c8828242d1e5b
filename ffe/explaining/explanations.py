"""Photos and a model -> what each part of a photo adds to a class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from ffe.base.text import composed, did_you_mean, few, quoted
from ffe.errors import DecodeError, ModelMismatchError
from ffe.explaining.area import Window, area_of, on_grid
from ffe.explaining.heatmap import by_leaving_out, heat_map
from ffe.images.decode import decode, decode_for_all, read_image
from ffe.images.image_handle import ImageFile
from ffe.images.input_files import Picture, named_images
from ffe.images.loader import packed
from ffe.predictor import Predictor

Way = Literal["exact", "features", "pixels"]

_PIXEL_GRID = (7, 7)  # areas of a picture that are covered where the features have no places


@dataclass(frozen=True, eq=False)
class Explanation:
    """What each part of one photo adds to a class.

    Attributes:
        path: the photo, as it was named.
        label: the most probable class; None if the photo could not be read.
        class_name: the class that is explained; None on error.
        probability: of that class, in [0, 1]; None on error.
        log_odds: of that class: log(p / (1 - p)); None on error.
        bias: of an exact map, the log-odds before any part of the photo is seen: the cells and it add up to ``log_odds``.
        cells: float32 (h, w), log-odds, from the top left of ``pixels``: above 0 speaks for the class, below 0
            against it; None on error. See ``ffe.explaining.heatmap.HeatMap``.
        way: ``exact``: the head is linear in the cells. ``features``: areas of the features were left out. ``pixels``: areas of
            the picture were covered, for a head that looks at no places.
        picture: the file that shows it, or None.
        error: why there is no answer, or None.
        pixels: uint8 (H, W, 3), RGB, what the network sees, or the whole photo, stretched, where several backbones see other
            parts of it; None on error.
    """

    path: str
    label: str | None = None
    class_name: str | None = None
    probability: float | None = None
    log_odds: float | None = None
    bias: float | None = None
    cells: np.ndarray | None = field(default=None, repr=False)
    way: Way | None = None
    picture: str | None = None
    error: str | None = None
    pixels: np.ndarray | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe explain --json`` prints: all but the pixels, the class under ``class``, cells to six digits."""
        shown = {"class" if name == "class_name" else name: value for name, value in vars(self).items() if name != "pixels"}
        return shown | {"cells": None if self.cells is None else np.round(self.cells.astype(np.float64), 6).tolist()}


def explanations(
    predictor: Predictor, photos: Picture | Iterable[Picture], class_name: str | None = None
) -> Iterator[Explanation]:
    """Yield what each part of every photo adds to a class, in order; memory stays flat.

    A photo that cannot be read gives an explanation with ``error``, and no exception.

    Args:
        predictor: a model that is open.
        photos: as ``Predictor.predict`` takes them.
        class_name: the class; None = for each photo the most probable one.

    Raises:
        ModelMismatchError: the model has no such class.
        SourceError, WeightsError: see ``Predictor.predict``.
    """
    label = None if class_name is None else class_number(predictor, class_name)
    taken: dict[int, tuple[str, ImageFile | bytes]] = {}

    def noted() -> Iterator[ImageFile | bytes]:
        for index, (name, file) in enumerate(named_images(photos, predictor.limits.bytes)):
            taken[index] = name, file
            yield file

    for batch in predictor.answers(noted()):
        for item, row in batch:
            name, file = taken.pop(item.index)
            if row is None or item.features is None:
                yield Explanation(name, error=str(item.error))
                continue
            try:
                found = _explained(predictor, file, item.features, row, label)
            except DecodeError as error:  # it has changed, or gone, since it was predicted
                found = Explanation(name, error=str(error))
            yield replace(found, path=name)


def class_number(predictor: Predictor, class_name: str) -> int:
    """Return the column of a class among the probabilities; a ModelMismatchError says that the model has no such class."""
    known = predictor.class_names
    if composed(class_name) not in known:
        raise ModelMismatchError(
            f"The model '{predictor.bundle.path}' has no class '{class_name}'; it knows {few(quoted(known), 5)}."
            f"{did_you_mean(class_name, known)}"
        )
    return known.index(composed(class_name))


def _explained(
    predictor: Predictor, file: ImageFile | bytes, features: np.ndarray, row: np.ndarray, label: int | None
) -> Explanation:
    """Explain one photo, from its features, float32 (D,), and the probabilities of its classes, float64 (K,)."""
    manifest = predictor.bundle.manifest
    chosen = int(row.argmax()) if label is None else label
    data = read_image(file, predictor.limits.bytes)
    area = area_of(manifest.backbones, data, predictor.limits.pixels)
    pixels = decode(data, area.shown, predictor.limits)
    found = heat_map(predictor.head, manifest.layout, features, chosen, manifest.temperature, area.parts)
    way: Way = "exact" if found is not None and found.exact else "features"
    if found is None:
        way = "pixels"
        pictures, _ = decode_for_all(data, [spec.preprocess for spec, _ in manifest.backbones], predictor.limits)

        def ask(areas: np.ndarray) -> np.ndarray:
            each = [covered(picture, areas, window) for picture, window in zip(pictures, area.windows, strict=True)]
            return predictor.head.predict_proba(_features_of(predictor, np.stack([*map(packed, zip(*each, strict=True))])))

        found = by_leaving_out(ask, _PIXEL_GRID, chosen, manifest.temperature)
    return Explanation(
        path="",
        label=predictor.class_names[int(row.argmax())],
        class_name=predictor.class_names[chosen],
        probability=float(row[chosen]),
        log_odds=found.log_odds,
        bias=found.bias,
        cells=found.cells,
        way=way,
        pixels=pixels,
    )


def covered(pixels: np.ndarray, areas: np.ndarray, window: Window) -> np.ndarray:
    """Return a picture, uint8 (H, W, 3), with each area of a map, bool (n, h, w), in its mean colour: uint8 (n, H, W, 3)."""
    out = on_grid(areas, window.size, window)[..., None]
    return np.where(out, pixels.mean(axis=(0, 1)).round().astype(np.uint8), pixels)


def _features_of(predictor: Predictor, pictures: np.ndarray) -> np.ndarray:
    """Return float32 (n, D) of pictures, uint8 (n, H, W, 3), or as several backbones take them, rounded as stored ones are."""
    engine, manifest = predictor.engine(), predictor.bundle.manifest
    batches = [engine.extract(pictures[i : i + engine.batch_size]) for i in range(0, len(pictures), engine.batch_size)]
    dtype = "float32" if manifest.beside else manifest.spec.dtype  # several are rounded where they are joined
    return np.concatenate(batches).astype(dtype).astype(np.float32)
