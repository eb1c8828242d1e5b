"""Which views a run makes of which images."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterable, Sequence

from ffe.base.text import counted
from ffe.dataset.class_checks import check_labelled
from ffe.errors import SpecError
from ffe.images.augment_text import augment_text, parse_augment
from ffe.images.records import UNLABELLED, ImageRecord
from ffe.specs import AugmentSpec, ViewsSpec

log = logging.getLogger("ffe")

_EXAMPLE = "--augment flip,zoom=0.8-1.2,rotate=15"


def views_text(views: ViewsSpec) -> str:
    """Return ``4 views of each image that trains (flip,rotate=15)``."""
    return f"{counted(views.count, 'view')} of each image that trains ({augment_text(views.augment)})"


def requested_views(count: int | None, augment: str | AugmentSpec | None, existing: ViewsSpec | None) -> ViewsSpec | None:
    """Return the views that a run is to make, of what the user names and the file that is there has (``existing``)."""
    spec = parse_augment(augment) if isinstance(augment, str) else augment
    if count == 0:
        if spec is not None:
            raise SpecError("--views 0 makes no views, so there is nothing for --augment to say; leave one of them out.")
        return None
    many = existing.count if count is None and existing is not None else count
    how = existing.augment if spec is None and existing is not None else spec
    if many is None:
        if how is not None:
            raise SpecError("--augment says how views differ, but not how many there are; add --views 4, for example.")
        return None
    if how is None:
        raise SpecError(f"--views needs --augment, which says how the views differ; add {_EXAMPLE}, for example.")
    asked = ViewsSpec(many, how)
    if count is None and spec is None:
        log.info("the feature file has %s, and keeps them, also of new images; --views 0 drops them", views_text(asked))
    return asked


def check_trains(records: Sequence[ImageRecord], root: object, views: ViewsSpec | None) -> None:
    """Make sure that there are images to make views of."""
    if views is None:
        return
    so = ", so none of them trains, and only those that train get views"
    labelled = any(record.label != UNLABELLED for record in records)
    check_labelled(labelled, root, so=so, end=", or do without views (--views 0).")
    if not any(trains(record) for record in records):
        log.warning("no image of '%s' trains, so none gets views", root)


def trains(record: ImageRecord) -> bool:
    """Return whether an image may train: it has a label, and the source does not keep it for choosing or testing."""
    return record.label != UNLABELLED and record.split in {"", "train"}


def count_of(record: ImageRecord, views: ViewsSpec | None) -> int:
    """Return how many views an image gets."""
    return views.count if views is not None and trains(record) else 0


def counts_of(records: Iterable[ImageRecord], views: ViewsSpec | None, many: int) -> Sequence[int]:
    """Return how many views each of so many images gets; without views they are not looked at."""
    return bytes(many) if views is None else array("H", (count_of(record, views) for record in records))


def shared_count(asked: ViewsSpec | None, made: ViewsSpec | None) -> int:
    """Return the highest number of a view that is asked for, where a feature file has such views; 0 where these differ."""
    return asked.count if asked is not None and made is not None and asked.augment == made.augment else 0
