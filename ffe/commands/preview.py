"""Photos and their views -> one picture of them all: what augmentation makes of one's own photos, before it is used."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffe.base.arrays import check_fits
from ffe.base.digests import bytes_digest
from ffe.base.urls import path_or_url, url_name
from ffe.errors import DecodeError, SourceError, SpecError
from ffe.images.archive_sources import is_archive, member_at
from ffe.images.augment import apply, draw
from ffe.images.augment_text import augment_text, parse_augment
from ffe.images.decode import decode, read_image
from ffe.images.file_names import ByName
from ffe.images.folder_layout import has_image_suffix
from ffe.images.records import UNLABELLED, ImageRecord
from ffe.images.sources import Scan, image_at, scan
from ffe.redaction import redacted
from ffe.report.contact_sheet import Strip, Tile, check_picture, contact_sheet, write_sheet
from ffe.specs import AugmentSpec, PreprocessSpec

log = logging.getLogger("ffe")

VIEWS_OF_ONE, VIEWS_OF_EACH = 19, 7  # with the picture itself 4 rows of 5, and rows of 8
MOST_VIEWS = 199
MOST_CLASSES = 12
UNLABELLED_PICTURES = 4
_COLUMNS = 5
_COLUMNS_OF_EACH = 8
_CSV = {".csv", ".tsv"}


@dataclass(frozen=True)
class PreviewRow:
    """One picture on the sheet: its path in the source, its class if any, and what each view changes (``unchanged``: nothing)."""

    path: str
    label: str | None
    views: tuple[str, ...]


@dataclass(frozen=True)
class PreviewResult:
    """What ``ffe preview`` drew."""

    output: str  # the picture
    augment: str  # the changes, as ``--augment`` takes them
    size: tuple[int, int]  # (height, width) of each view, as a backbone would see it
    rows: tuple[PreviewRow, ...]  # the pictures

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe preview --json`` prints."""
        return asdict(self)


class _Picture(NamedTuple):
    path: str
    label: str | None
    data: bytes
    pixels: np.ndarray


def preview(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    augment: str | AugmentSpec,
    size: int | tuple[int, int] = 224,
    views: int | None = None,
    image: int | str | None = None,
) -> PreviewResult:
    """Draw pictures beside their views, as extraction would make them.

    Of one picture, 19 views, in 4 rows of 5 with the picture itself; of a
    source, the first picture of each class and 7 views in a row.

    Args:
        source: a picture; or a folder or CSV, see ``ffe.images.sources``.
        output: the picture to write; its ending names the format.
        augment: the changes, or their text; see ``ffe.images.augment_text``.
        size: pixels of each side, or (height, width).
        views: how many views of each picture, 1 to 199.
        image: one picture of the source: its path there, or its number in the
            order of the paths, from 1 on.

    Raises:
        SpecError: the changes, the size or the number of views cannot be used.
        SourceError: there is no such picture.
        DecodeError: it cannot be read.
        ReportError: the output cannot be written.
    """
    spec = parse_augment(augment) if isinstance(augment, str) else augment
    side = PreprocessSpec((size, size) if isinstance(size, int) else size, "none").size
    if views is not None and not 1 <= views <= MOST_VIEWS:
        raise SpecError(f"views is {views}, but must be from 1 to {MOST_VIEWS}.")
    place = check_picture(Path(output))
    path = path_or_url(source)
    check_fits(
        3 * side[0] * side[1] * (1 + (views or VIEWS_OF_EACH)),
        f"A picture of {side[0]}x{side[1]} pixels with its views",
        "give a smaller --size, or fewer --views",
    )
    name = path.name if isinstance(path, Path) else redacted(url_name(path))
    if _is_one(path, name):
        if image is not None:
            raise SourceError(f"'{path}' is a picture already; leave --image out, or give the folder that holds it.")
        chosen = [_read(ImageRecord(name, image_at("", os.fspath(path)), UNLABELLED, ""), (), side)]
    else:
        found = scan(path, place)
        chosen = _of_each_class(found, side) if image is None else [_chosen(found, image, side)]
    one = len(chosen) == 1
    count = views or (VIEWS_OF_ONE if one else VIEWS_OF_EACH)
    rows, strips = [], []
    for picture in chosen:
        drawn = [draw(spec, bytes_digest(picture.data), view) for view in range(1, count + 1)]
        words = [change.words or ("unchanged",) for change in drawn]
        tiles = [Tile(apply(picture.pixels, change, spec.fill), said) for change, said in zip(drawn, words, strict=True)]
        heading = "" if one else f"{picture.label}: {picture.path}" if picture.label else picture.path
        strips.append(Strip(heading, [Tile(picture.pixels, ("the picture itself",), marked=True), *tiles]))
        rows.append(PreviewRow(picture.path, picture.label, tuple(map(", ".join, words))))
    text = augment_text(spec)
    note = f"{text.replace(',', ', ')}  ({side[0]}x{side[1]} pixels)"
    cells = count + 1
    columns = max(_COLUMNS, ceil(sqrt(1.25 * cells))) if one else _COLUMNS_OF_EACH  # rows of 5 alone could make a tower
    title = chosen[0].path if one else name or str(path)
    write_sheet(place, contact_sheet(title, note, strips, min(cells, columns)))
    return PreviewResult(str(place), text, side, tuple(rows))


def _is_one(path: Path | str, name: str) -> bool:
    """Return whether a path is that of one picture, and not of a source."""
    if not isinstance(path, Path):
        return has_image_suffix(name)
    if member_at(str(path)) is not None:
        return True
    return path.is_file() and path.suffix.lower() not in _CSV and not is_archive(path)


def _read(record: ImageRecord, class_names: Sequence[str], size: tuple[int, int]) -> _Picture:
    """Read one picture; the message of a DecodeError names it."""
    label = None if record.label == UNLABELLED else class_names[record.label]
    try:
        data = read_image(record.file)
        return _Picture(record.path, label, data, decode(data, PreprocessSpec(size, "none")))
    except DecodeError as error:
        raise DecodeError(error.reason, f"'{record.file}' cannot be read: {error}.") from error


def _chosen(found: Scan, image: int | str, size: tuple[int, int]) -> _Picture:
    """Return the picture of a source that has a path, or a number."""
    record = ByName((record.path, record) for record in found.records).get(str(image))
    if record is None and str(image).isdecimal() and 1 <= int(image) <= len(found.records):
        record = found.records[int(image) - 1]
    if record is None:
        raise SourceError(
            f"There is no picture '{image}' in '{found.root}'; give a number from 1 to {len(found.records)}, "
            f"or a path in it, such as '{found.records[0].path}'."
        )
    return _read(record, found.class_names, size)


def _of_each_class(found: Scan, size: tuple[int, int]) -> list[_Picture]:
    """Return the first picture of each class that can be read; without classes, the first few."""
    of_class: dict[int, list[ImageRecord]] = {}
    for record in found.records:
        of_class.setdefault(record.label, []).append(record)
    if len(found.class_names) > MOST_CLASSES:
        log.info("the first %d of %d classes are shown; --image shows one picture", MOST_CLASSES, len(found.class_names))
    shown = range(len(found.class_names))[:MOST_CLASSES] or [UNLABELLED]
    most = 1 if found.class_names else UNLABELLED_PICTURES
    pictures = [picture for label in shown for picture in _first(found, of_class[label], most, size)]
    if not pictures:
        raise SourceError(f"No picture in '{found.root}' could be read; 'ffe scan' says why.")
    return pictures


def _first(found: Scan, records: Sequence[ImageRecord], count: int, size: tuple[int, int]) -> list[_Picture]:
    """Return the first few of some pictures that can be read."""
    pictures: list[_Picture] = []
    unread: list[str] = []
    for record in records:
        if len(pictures) == count:
            break
        try:
            pictures.append(_read(record, found.class_names, size))
        except DecodeError as error:
            unread.append(str(error).rstrip("."))
    if unread:
        more = f"; {len(unread) - 1:,} more cannot be read, and 'ffe scan' names them" if len(unread) > 1 else ""
        log.warning("%s%s", unread[0], more)
    return pictures
