"""What a look at photos showed -> one HTML file, with the building blocks of the page of a search."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ffe.base.output_file import check_output, write_output
from ffe.base.text import bytes_text, counted, number, percent
from ffe.images.probe import ImageLook
from ffe.images.sources import ImageRecord
from ffe.report.charts import Axis, Line, bar, line_chart
from ffe.report.html import document
from ffe.report.sections import duplicates
from ffe.report.thumbnails import Album
from ffe.report.values import Duplicates

if TYPE_CHECKING:
    from ffe.dataset.scan_result import ScanResult, Twins


MAX_ROWS = 200  # of a table
MAX_DOTS = 600
_FAR_APART = 8  # times: sizes that differ more stand on axes of equal factors


@dataclass(frozen=True)
class ClassRow:
    """One class: its name, its photos, those in each split, the files of it that cannot be read, and some photos to show."""

    name: str
    photos: int
    splits: Mapping[str, int]
    skipped: int
    samples: Sequence[tuple[str, Path]]


@dataclass(frozen=True)
class ScanPage:
    """All that the page of a scan shows.

    Attributes:
        title: the head line.
        facts: what stands below it.
        advice: (level, sentence), the gravest first; levels are ``refused``, ``warning`` and ``note``.
        classes: see ``ClassRow``; empty where there are no labels.
        samples: photos to show where there are no classes.
        sizes: (width, height) in pixels of every photo.
        size: (height, width) of the backbone's input.
        spreads: (what, least, median, largest), as text.
        formats, colours: name -> photos.
        other_endings: (path, what it holds) of photos that are named as another format.
        skipped: (path, reason, message) of files that cannot be read.
        left_out: (path, reason) of what is no photo.
        duplicates: groups of equal photos, the largest first.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    advice: Sequence[tuple[str, str]] = ()
    classes: Sequence[ClassRow] = ()
    samples: Sequence[tuple[str, Path]] = ()
    sizes: Sequence[tuple[int, int]] = ()
    size: tuple[int, int] = (224, 224)
    spreads: Sequence[tuple[str, str, str, str]] = ()
    formats: Mapping[str, int] = field(default_factory=dict)
    colours: Mapping[str, int] = field(default_factory=dict)
    other_endings: Sequence[tuple[str, str]] = ()
    skipped: Sequence[tuple[str, str, str]] = ()
    left_out: Sequence[tuple[str, str]] = ()
    duplicates: Sequence[Duplicates] = ()


def write_page(path: str | os.PathLike[str], page: ScanPage) -> int:
    """Write the page as one HTML file that needs nothing else; return its bytes.

    Raises:
        ReportError: the place is a folder, lies in none, or cannot be written to.
    """
    place = check_output(path)
    return write_output(place, render(page).encode())


def render(page: ScanPage) -> str:
    """Return the page as HTML; equal pages give equal text."""
    album = Album()
    tables = (
        ("Formats", "format", _shares(page.formats)),
        ("Colours", "colours", _shares(page.colours)),
    )
    context = {
        "page": page,
        "splits": list(dict.fromkeys(name for row in page.classes for name in row.splits)),
        "classes": _classes(page.classes),
        "samples": [(row.name, [album.shot(file, path) for path, file in row.samples]) for row in page.classes if row.samples]
        or ([("", [album.shot(file, path) for path, file in page.samples])] if page.samples else []),
        "chart": _size_chart(page.sizes, page.size),
        "tables": [table for table in tables if table[2]],
        "duplicates": duplicates(page.duplicates, album),
        "most": MAX_ROWS,
    }
    return document("scan.html", context, album)


def _classes(rows: Sequence[ClassRow]) -> list[dict[str, Any]]:
    most, total = max((row.photos for row in rows), default=0) or 1, sum(row.photos for row in rows) or 1
    return [
        {
            "name": row.name,
            "photos": f"{row.photos:,}",
            "share": percent(row.photos / total),
            "bar": bar(row.photos / most),
            "splits": row.splits,
            "skipped": f"{row.skipped:,}" if row.skipped else "",
        }
        for row in rows
    ]


def _shares(counts: Mapping[str, int]) -> list[tuple[str, str, str, Markup]]:
    total = sum(counts.values()) or 1
    return [(name, f"{count:,}", percent(count / total), bar(count / total)) for name, count in counts.items()]


def _size_chart(sizes: Sequence[tuple[int, int]], size: tuple[int, int]) -> Markup:
    """Return a chart of width and height; photos of one size are one dot."""
    dots = Counter(sizes)
    step = 1.02
    while len(dots) > MAX_DOTS:  # sizes that differ by a few per cent become one
        dots = Counter({})
        for width, height in sizes:
            dots[_rounded(width, step), _rounded(height, step)] += 1
        step *= 1.05
    if not dots:
        return Markup("")
    widths, heights = ([float(pair[i]) for pair in dots] for i in (0, 1))
    hints = [f"{width}x{height}: {counted(count, 'photo')}" for (width, height), count in dots.items()]
    ends = [*widths, *heights, *map(float, size)]
    apart = max(ends) > _FAR_APART * min(ends)
    lines = [
        Line("photos", widths, heights, "dots", 0, sizes=list(dots.values()), hints=hints),
        Line(f"the input, {size[0]}x{size[1]}", [size[1]], [size[0]], "dots", 1),
    ]
    return line_chart("Width and height of the photos", lines, Axis("width", log=apart), Axis("height", log=apart))


def _rounded(length: int, step: float) -> int:
    return round(step ** round(math.log(length, step)))


def spread_row(what: str, least: float, median: float, most: float) -> tuple[str, str, str, str]:
    """Return a row of ``ScanPage.spreads``."""
    return what, number(least), number(median), number(most)


MAX_SAMPLES = 480


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


SAMPLES_OF_ONE, SAMPLES_UNLABELLED = 8, 24
