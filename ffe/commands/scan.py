"""A look at a source before anything is learnt from it: classes, sizes, formats, what cannot be read, what is there twice."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from ffe.backbones.catalog import DEFAULT, check_size, find
from ffe.backbones.registry import check_of_keras
from ffe.base.output_file import check_output
from ffe.dataset.advice import advise
from ffe.dataset.scan_result import ClassCount, Dimensions, OtherEnding, ScanResult, SkippedFile, Spread, Twins
from ffe.images.decode import NOTES
from ffe.images.loader import note_text
from ffe.images.probe import ImageProbe, ending_format, probe_files
from ffe.images.records import UNLABELLED, ImageRecord
from ffe.images.sources import Scan, list_images
from ffe.redaction import redacted
from ffe.specs import PreprocessSpec
from ffe.splits.groups import Groups, find_groups
from ffe.splits.holdout import TEST, TRAIN, VALID

COPIES, RESAVED = "the same file", "saved again or resized"
SPLITS = (TRAIN, VALID, TEST)

Photo = tuple[ImageRecord, ImageProbe]


def scan(
    source: str | os.PathLike[str],
    *,
    backbone: str = DEFAULT,
    size: int | tuple[int, int] | None = None,
    report: str | os.PathLike[str] | None = None,
    on_look: Callable[[int, int], None] = lambda done, total: None,
) -> ScanResult:
    """Look at every file of a source, and say what is worth knowing before features are extracted.

    Args:
        source: photos; see ``ffe.images.sources``.
        backbone, size: what the photos are for; see ``ffe.extract``.
        report: an HTML page to write, with pictures; None = none.
        on_look: told after each file how many of how many are done.

    Raises:
        SourceError: the source is missing or empty, or no list of images.
        BackboneError, SpecError: there is no such backbone, or the size does not suit it.
        ReportError: the page cannot be written.
    """
    started = time.monotonic()
    check_of_keras(backbone, "a scan does not know what it needs")
    row = find(backbone)
    side = PreprocessSpec((size, size) if isinstance(size, int) else size or (row.size, row.size), row.mode).size
    check_size(row, side)
    place = None if report is None else check_output(report)
    listed = list_images(source, place)
    looks = []
    with contextlib.closing(probe_files([record.file for record in listed.records])) as seen:  # so that Ctrl-C stops the threads
        for look in seen:
            looks.append(look)
            on_look(len(looks), len(listed.records))
    photos = [(record, look) for record, look in zip(listed.records, looks, strict=True) if look.error is None]
    found = _result(redacted(os.fspath(source)), listed, looks, photos, row.name, side)
    noted = ((kind, [record.path for record, look in photos if kind in look.notes]) for kind in NOTES)
    advice = advise(found, row.min_size, [note_text(kind, names) for kind, names in noted if names])
    result = replace(found, advice=advice, seconds=time.monotonic() - started)
    if place is not None:
        from ffe.report.scan_page import write_scan_page

        write_scan_page(place, result, photos)
    return result


def _result(
    source: str, listed: Scan, looks: Sequence[ImageProbe], photos: Sequence[Photo], backbone: str, size: tuple[int, int]
) -> ScanResult:
    """Return what was found, without advice and time; ``looks`` are of all files, ``photos`` those that can be read."""
    splits, good = [record.split for record, _ in photos], [look for _, look in photos]
    groups = None
    if photos:
        hashes, names = np.asarray([look.phash for look in good], np.uint64), [record.group for record, _ in photos]
        groups = find_groups([look.sha256 for look in good], hashes, None, names)
    bad = [(record, look.error) for record, look in zip(listed.records, looks, strict=True) if look.error is not None]
    return ScanResult(
        source=source,
        kind=listed.kind,
        files=len(listed.records),
        photos=len(photos),
        unlabelled=sum(record.label == UNLABELLED for record, _ in photos),
        bytes=sum(look.bytes for look in good),
        classes=_classes(listed.class_names, photos, groups, Counter(record.label for record, _ in bad)),
        splits={name: splits.count(name) for name in SPLITS if name in splits},
        formats=_counted(look.format for look in good),
        colours=_counted(look.colours for look in good),
        animated=sum(look.animated for look in good),
        dimensions=_dimensions(good, size) if good else None,
        twins=() if groups is None else _twins(listed.class_names, photos, groups),
        skipped=tuple(SkippedFile(record.path, error.reason, str(error), record.line) for record, error in bad),
        left_out=listed.left_out,
        other_endings=tuple(
            OtherEnding(record.path, look.format)
            for record, look in photos
            if (named := ending_format(record.path)) and look.format and named != look.format
        ),
        findings=listed.findings,
        backbone=backbone,
        size=size,
        advice=(),
        seconds=0.0,
    )


def _counted(names: Iterable[str]) -> dict[str, int]:
    """Return name -> how often, the most frequent first."""
    return dict(Counter(sorted(names)).most_common())


def _classes(
    names: Sequence[str], photos: Sequence[Photo], groups: Groups | None, skipped: Counter[int]
) -> tuple[ClassCount, ...]:
    labels = np.asarray([record.label for record, _ in photos], np.int64)
    splits = {record.split for record, _ in photos}
    found = []
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(len(names) + 1))
    for label, name in enumerate(names):
        rows = order[starts[label] : starts[label + 1]]
        different = 0 if groups is None else len(np.unique(groups.ids[rows]))
        counts = Counter(photos[i][0].split for i in rows.tolist())
        found.append(ClassCount(name, len(rows), different, {s: counts[s] for s in SPLITS if s in splits}, skipped[label]))
    return tuple(found)


def _spread(values: np.ndarray) -> Spread:
    return Spread(float(values.min()), float(np.median(values)), float(values.max()))


def _dimensions(looks: Sequence[ImageProbe], size: tuple[int, int]) -> Dimensions:
    height, width = np.asarray([(look.height, look.width) for look in looks]).T
    aspect = width / height
    smaller, elongated = (height < size[0]) | (width < size[1]), (aspect > 2) | (aspect < 0.5)
    return Dimensions(_spread(width), _spread(height), _spread(aspect), int(smaller.sum()), int(elongated.sum()))


def _twins(class_names: Sequence[str], photos: Sequence[Photo], groups: Groups) -> tuple[Twins, ...]:
    """Return the photos that are the same or nearly; not those that the source names together."""
    members: dict[int, list[Photo]] = {}
    for photo, group in zip(photos, groups.levels["re-encoded"].tolist(), strict=True):
        members.setdefault(group, []).append(photo)
    found = [
        Twins(
            COPIES if len({look.sha256 for _, look in twins}) == 1 else RESAVED,
            tuple(record.path for record, _ in twins),
            tuple(None if record.label == UNLABELLED else class_names[record.label] for record, _ in twins),
            tuple(record.split for record, _ in twins),
        )
        for twins in members.values()
        if len(twins) > 1
    ]
    return tuple(sorted(found, key=lambda twins: (-len(twins.paths), twins.paths)))
