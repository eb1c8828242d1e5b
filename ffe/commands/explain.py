"""``explain``: photos in; what each part of them adds to a class, out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ffe.base.file_access import takes_files, unwritable
from ffe.base.output_file import PICTURE_MARK, check_output_folder, may_be_replaced
from ffe.base.text import composed
from ffe.bundle.io import Bundle
from ffe.errors import ReportError, unwritten
from ffe.explaining.explanations import Explanation, class_number, explanations
from ffe.images.input_files import NAMELESS, Picture
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Truncated
from ffe.predictor import Predictor
from ffe.report.contact_sheet import write_sheet
from ffe.report.heat_sheet import heat_sheet

_LONGEST_NAME = 200  # bytes, before a number and the ending


def explain(
    model: str | os.PathLike[str] | Bundle,
    images: Picture | Iterable[Picture],
    *,
    output: str | os.PathLike[str] | None = None,
    class_name: str | None = None,
    weights: str = "imagenet",
    engine: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    truncated: Truncated = "skip",
) -> Iterator[Explanation]:
    """Say what each part of photos adds to a class, for any head on any backbone; see ``ffe.explaining.heatmap.heat_map``.

    A photo that cannot be read gives an explanation with ``error``, and no exception.

    Args:
        model: a model file, or one that is open.
        images: one photo or several, as ``ffe.Predictor.predict`` takes them.
        output: a folder for pictures, made if it is missing: of each photo what the network sees, and the same under its map.
            None = none. Earlier pictures of ``explain`` are replaced, other files never.
        class_name: the class to explain; None = for each photo the most probable one.
        weights, engine, batch_size, workers, max_pixels, max_bytes, truncated: see ``ffe.Predictor``.

    Returns:
        For each photo, in order, its explanation.

    Raises:
        BundleError, SpecError: see ``ffe.Predictor``.
        ModelMismatchError: the model has no such class.
        SourceError: something else than pictures is given.
        WeightsError: the model has no backbone, and its weights are not on this machine.
        ReportError: the pictures cannot be written.
    """
    given = locals()
    return Explainer(**{name: value for name, value in given.items() if name != "images"}).explain(images)


class Explainer:
    """Explains photos of one model; ``options`` are those of ``Predictor``, the rest see ``explain``."""

    def __init__(
        self,
        model: str | os.PathLike[str] | Bundle,
        *,
        output: str | os.PathLike[str] | None = None,
        class_name: str | None = None,
        **options: Any,
    ) -> None:
        self.predictor = Predictor(model, **options)
        self.class_name = class_name
        if class_name is not None:
            class_number(self.predictor, class_name)
        self.folder = None if output is None else _made(Path(output))

    def explain(self, images: Picture | Iterable[Picture]) -> Iterator[Explanation]:
        """Yield the explanation of each photo, in order, once its picture is written."""
        numbers: dict[str, int] = {}
        for found in explanations(self.predictor, images, self.class_name):
            if self.folder is None or found.error is not None:
                yield found
                continue
            place = _place(self.folder, found.path, numbers)
            write_sheet(place, heat_sheet(found, several=bool(self.predictor.bundle.manifest.beside)))
            yield replace(found, picture=str(place))


def _made(folder: Path) -> Path:
    """Return a folder for pictures, made if it is missing; a ReportError says why it cannot be used."""
    check_output_folder(folder, "output", ReportError, holds=" for the pictures")
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise ReportError(
            f"The output '{folder}' lies in a folder that does not exist ('{folder.parent}'); create it first."
        ) from error
    except OSError as error:
        raise ReportError(unwritten(folder, error, "folder")) from error
    if not takes_files(folder):
        raise ReportError(unwritable(folder, False))
    return folder


def _place(folder: Path, name: str, numbers: dict[str, int]) -> Path:
    """Return where the picture of a photo goes: ``anna.png``, or ``anna-2.png`` where that is another photo's, or none of ours.

    ``numbers`` are the last ones taken, by name; disks may take capitals, and the two forms of Unicode, for the same.
    """
    stem = "photo" if name == NAMELESS else os.fsdecode(os.fsencode(Path(name).stem)[:_LONGEST_NAME])
    while True:
        key = composed(stem).lower()
        numbers[key] = number = numbers.get(key, 0) + 1
        file = stem if number == 1 else f"{stem}-{number}"
        if number > 1:  # a photo may have this very name
            if (taken := composed(file).lower()) in numbers:
                continue
            numbers[taken] = 1
        place = folder / f"{file}.png"
        if not os.path.lexists(place) or (place.is_file() and may_be_replaced(place, PICTURE_MARK)):
            return place
