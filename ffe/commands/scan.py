"""A look at a source before anything is learnt from it: classes, sizes, formats, what cannot be read, what is there twice."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ffe.backbones.catalog import DEFAULT, check_size, find
from ffe.base.output_file import check_output
from ffe.dataset.advice import Advice, Facts, advise
from ffe.dataset.scan_result import ClassCount, Dimensions, OtherEnding, ScanResult, SkippedFile, Spread, Twins
from ffe.images.decode import NOTES
from ffe.images.loader import remark
from ffe.images.probe import ImageLook, ending_format, survey
from ffe.images.sources import UNLABELLED, ImageRecord, Scan
from ffe.images.sources import look as list_images
from ffe.specs import PreprocessSpec
from ffe.splits.groups import Groups, find_groups

COPIES, RESAVED = "the same file", "saved again or resized"


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
    row = find(backbone)
    side = PreprocessSpec((size, size) if isinstance(size, int) else size or (row.size, row.size), row.mode).size
    check_size(row, side)
    place = None if report is None else check_output(report)
    found = list_images(source, place)
    looks = []
    with contextlib.closing(survey([record.file for record in found.records])) as going:  # so that Ctrl-C stops the threads
        for look in going:
            looks.append(look)
            on_look(len(looks), len(found.records))
    seen = _Seen(found, looks)
    result = _result(str(source), seen, row.name, side, row.min_size, started)
    if place is not None:
        from ffe.report.scan_page import write_scan_page

        write_scan_page(place, result, found.records, looks)
    return result


class _Seen:
    """The photos that can be read, as columns."""

    def __init__(self, found: Scan, looks: Sequence[ImageLook]) -> None:
        self.scan = found
        pairs = list(zip(found.records, looks, strict=True))
        self.good = [(record, look) for record, look in pairs if look.error is None]
        self.bad = [(record, look.error) for record, look in pairs if look.error is not None]
        self.labels = np.asarray([record.label for record, _ in self.good], np.int64)
        self.splits: list[str] = [record.split for record, _ in self.good]
        self.groups: Groups | None = None
        if self.good:
            digests = [look.sha256 for _, look in self.good]
            names = [record.group for record, _ in self.good]
            self.groups = find_groups(digests, np.asarray([look.phash for _, look in self.good], np.uint64), None, names)

    def name(self, label: int) -> str | None:
        return None if label == UNLABELLED else self.scan.class_names[label]


def _result(source: str, seen: _Seen, backbone: str, size: tuple[int, int], min_size: int, started: float) -> ScanResult:
    good, looks = seen.good, [look for _, look in seen.good]
    classes = _classes(seen)
    given: dict[str, int] = {name: seen.splits.count(name) for name in ("train", "valid", "test") if name in seen.splits}
    dimensions = _dimensions(looks, size) if looks else None
    twins = tuple(_twins(seen))
    skipped = tuple(SkippedFile(record.path, error.reason, str(error), record.line) for record, error in seen.bad)
    endings = tuple(
        OtherEnding(record.path, look.format)
        for record, look in good
        if (named := ending_format(record.path)) and look.format and named != look.format
    )
    colours = _counted(look.colours for look in looks)
    training = np.asarray([split in {"", "train"} for split in seen.splits], bool)
    facts = Facts(
        classes=[(c.name, c.photos, c.different) for c in classes],
        training=np.bincount(seen.labels[training & (seen.labels >= 0)], minlength=len(classes)).tolist() if classes else [],
        splits=given,
        skipped=_counted(file.reason for file in skipped),
        unreadable=[file.path for file in skipped],
        left_out=[path for path, _ in seen.scan.left_out],
        twins=[(twin.paths, twin.labels, twin.splits) for twin in twins],
        medians=None if dimensions is None else (dimensions.height.median, dimensions.width.median),
        smaller=0 if dimensions is None else dimensions.smaller,
        elongated=0 if dimensions is None else dimensions.elongated,
        photos=len(good),
        jpegs=sum(look.format == "JPEG" for look in looks),
        other_endings=len(endings),
        transparent=sum(count for name, count in colours.items() if "transparent" in name),
        animated=sum(look.animated for look in looks),
        remarks=[
            remark(kind, names) for kind in NOTES if (names := [record.path for record, look in good if kind in look.notes])
        ],
        backbone=backbone,
        size=size,
        min_size=min_size,
    )
    return ScanResult(
        source=source,
        kind=seen.scan.kind,
        files=len(seen.scan.records),
        photos=len(good),
        unlabelled=int((seen.labels == UNLABELLED).sum()),
        bytes=sum(look.bytes for look in looks),
        classes=classes,
        splits=given,
        formats=_counted(look.format for look in looks),
        colours=colours,
        animated=facts.animated,
        dimensions=dimensions,
        twins=twins,
        skipped=skipped,
        left_out=seen.scan.left_out,
        other_endings=endings,
        findings=seen.scan.findings,
        backbone=backbone,
        size=size,
        advice=tuple(advise(facts, [Advice(finding.level, _sentence(finding.text)) for finding in seen.scan.findings])),
        seconds=time.monotonic() - started,
    )


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text[:1].upper()}{text[1:]}."


def _counted(names: Iterable[str]) -> dict[str, int]:
    """Return name -> how often, the most frequent first."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _classes(seen: _Seen) -> tuple[ClassCount, ...]:
    unreadable = Counter(record.label for record, _ in seen.bad)
    splits = [name for name in ("train", "valid", "test") if name in seen.splits]
    found = []
    for label, name in enumerate(seen.scan.class_names):
        rows = np.flatnonzero(seen.labels == label)
        different = 0 if seen.groups is None else len(np.unique(seen.groups.ids[rows]))
        of_split = Counter(seen.splits[i] for i in rows.tolist())
        found.append(ClassCount(name, len(rows), different, {s: of_split[s] for s in splits}, unreadable[label]))
    return tuple(found)


def _spread(values: np.ndarray) -> Spread:
    return Spread(float(values.min()), float(np.median(values)), float(values.max()))


def _dimensions(looks: Sequence[ImageLook], size: tuple[int, int]) -> Dimensions:
    height, width = (np.asarray([getattr(look, name) for look in looks]) for name in ("height", "width"))
    aspect = width / height
    return Dimensions(
        width=_spread(width),
        height=_spread(height),
        aspect=_spread(aspect),
        smaller=int(((height < size[0]) | (width < size[1])).sum()),
        elongated=int(((aspect > 2) | (aspect < 0.5)).sum()),
    )


def _twins(seen: _Seen) -> list[Twins]:
    """Return the photos that are the same or nearly; not those that the source names together."""
    if seen.groups is None:
        return []
    members: dict[int, list[int]] = {}
    for i, group in enumerate(seen.groups.levels["re-encoded"].tolist()):
        members.setdefault(group, []).append(i)

    def twins(rows: Sequence[int]) -> Twins:
        records: list[ImageRecord] = [seen.good[i][0] for i in rows]
        same = len({seen.good[i][1].sha256 for i in rows}) == 1
        return Twins(
            COPIES if same else RESAVED,
            tuple(record.path for record in records),
            tuple(seen.name(record.label) for record in records),
            tuple(record.split for record in records),
        )

    groups = [twins(rows) for rows in members.values() if len(rows) > 1]
    return sorted(groups, key=lambda group: (-len(group.paths), group.paths))
