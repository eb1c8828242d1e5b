"""What a scan found -> its page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ffe.base.system import bytes_text
from ffe.images.probe import ImageLook
from ffe.images.sources import ImageRecord
from ffe.report.scan_page import ClassRow, ScanPage, spread_row, write_page
from ffe.report.values import Duplicates
from ffe.report.words import counted

if TYPE_CHECKING:
    from ffe.commands.scan import ScanResult, Twins

MAX_SAMPLES = 480
SAMPLES_OF_ONE, SAMPLES_UNLABELLED = 8, 24


@dataclass(frozen=True)
class _Found:
    record: ImageRecord
    look: ImageLook


def write_scan_page(place: Path, result: ScanResult, records: Sequence[ImageRecord], looks: Sequence[ImageLook]) -> None:
    """Write the page of a scan.

    Args:
        place: the HTML file.
        result: what was found.
        records: all files of the source.
        looks: what each of them is.

    Raises:
        ReportError: it cannot be written.
    """
    good = [_Found(record, look) for record, look in zip(records, looks, strict=True) if look.error is None]
    files = {record.path: record.file for record in records}
    samples = max(1, min(SAMPLES_OF_ONE, MAX_SAMPLES // max(1, len(result.classes))))
    page = ScanPage(
        title=f"The photos of {os.path.basename(os.path.abspath(result.source))}",
        facts=_facts(result),
        advice=[(advice.level, advice.text) for advice in result.advice],
        classes=[
            ClassRow(c.name, c.photos, c.splits, c.skipped, _spread_over([f for f in good if f.record.label == label], samples))
            for label, c in enumerate(result.classes)
        ],
        samples=[] if result.classes else _spread_over(good, SAMPLES_UNLABELLED),
        sizes=[(found.look.width, found.look.height) for found in good],
        size=result.size,
        spreads=_spreads(result),
        formats=result.formats,
        colours=result.colours,
        other_endings=[(other.path, other.format) for other in result.other_endings],
        skipped=[(file.path, file.reason, file.message_and_line()) for file in result.skipped],
        left_out=result.left_out,
        duplicates=[Duplicates(_cause(twins), [(path, files[path]) for path in twins.paths]) for twins in result.twins],
    )
    write_page(place, page)


def _spread_over(found: Sequence[_Found], count: int) -> list[tuple[str, Path]]:
    """Return some photos, evenly spread over all."""
    chosen = [found[i * len(found) // count] for i in range(count)] if len(found) > count else found
    return [(each.record.path, each.record.file) for each in chosen]


def _cause(twins: Twins) -> str:
    also = ", in different classes" if len(set(twins.labels) - {None}) > 1 else ""
    return f"{twins.cause}{also}{', in different splits' if len(set(twins.splits)) > 1 else ''}"


def _facts(result: ScanResult) -> dict[str, str]:
    facts = {
        "photos": f"{result.photos:,} of {counted(result.files, 'file')}, {bytes_text(result.bytes)}",
        "source": result.kind,
        "classes": f"{len(result.classes):,}" if result.classes else "none",
        "input": f"{result.backbone} at {result.size[0]}x{result.size[1]}",
    }
    if result.classes and result.unlabelled:
        facts["without a label"] = counted(result.unlabelled, "photo")
    if result.splits:
        facts["splits"] = ", ".join(f"{name} {count:,}" for name, count in result.splits.items())
    return facts


def _spreads(result: ScanResult) -> list[tuple[str, str, str, str]]:
    if result.dimensions is None:
        return []
    named = (("width", "width"), ("height", "height"), ("aspect", "width / height"))
    spreads = ((what, getattr(result.dimensions, name)) for name, what in named)
    return [spread_row(what, spread.least, spread.median, spread.most) for what, spread in spreads]
