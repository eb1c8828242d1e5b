"""The page of a scan: a ScanResult and its photos -> one HTML file."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Sequence

from markupsafe import Markup

from ffe.base.output_file import check_output, write_output
from ffe.base.text import bytes_text, counted
from ffe.dataset.scan_result import ScanResult, Twins
from ffe.images.probe import ImageProbe
from ffe.images.records import ImageRecord
from ffe.report.charts import Axis, Line, line_chart
from ffe.report.html import document
from ffe.report.sections import duplicates
from ffe.report.thumbnails import Album
from ffe.report.values import Duplicates

MAX_ROWS = 200  # of a table
MAX_DOTS = 600
MAX_SAMPLES = 480
SAMPLES_OF_ONE, SAMPLES_UNLABELLED = 8, 24
_FAR_APART = 8  # times: sizes that differ more stand on axes of equal factors

_Photos = Sequence[tuple[ImageRecord, ImageProbe]]


def write_scan_page(path: str | os.PathLike[str], result: ScanResult, photos: _Photos) -> int:
    """Write the page of a scan as one HTML file that needs nothing else; return its bytes. ``photos``: all that can be read."""
    return write_output(check_output(path), render(result, photos).encode())


def render(result: ScanResult, photos: _Photos) -> str:
    """Return the page as HTML; equal results give equal text."""
    album = Album()
    files = {record.path: record.file for record, _ in photos}
    groups = [Duplicates(_cause(twins), [(path, files[path]) for path in twins.paths]) for twins in result.twins]
    context = {
        "result": result,
        "title": f"The photos of {os.path.basename(os.path.abspath(result.source))}",
        "about": _facts(result),
        "samples": [
            (name, [album.shot(r.file, r.path) for r, _ in chosen]) for name, chosen in _samples(result, photos) if chosen
        ],
        "chart": _size_chart([(look.width, look.height) for _, look in photos], result.size),
        "duplicates": duplicates(groups, album),
        "most": MAX_ROWS,
    }
    return document("scan.html", context, album)


def _samples(result: ScanResult, photos: _Photos) -> list[tuple[str, _Photos]]:
    """Return some photos of each class, evenly spread over all of it; without classes, of all."""
    if not result.classes:
        return [("", _spread_over(photos, SAMPLES_UNLABELLED))]
    each = max(1, min(SAMPLES_OF_ONE, MAX_SAMPLES // len(result.classes)))
    of_class: dict[int, list[tuple[ImageRecord, ImageProbe]]] = defaultdict(list)
    for photo in photos:
        of_class[photo[0].label].append(photo)
    return [(row.name, _spread_over(of_class[label], each)) for label, row in enumerate(result.classes)]


def _spread_over(photos: _Photos, count: int) -> _Photos:
    return [photos[i * len(photos) // count] for i in range(count)] if len(photos) > count else photos


def _size_chart(sizes: Sequence[tuple[int, int]], size: tuple[int, int]) -> Markup:
    """Return a chart of (width, height) around the input (height, width); photos of one size are one dot."""
    dots = different = Counter(sizes)
    step = 1.02
    while len(dots) > MAX_DOTS:  # sizes that differ by a few per cent become one
        dots = Counter()
        for (width, height), count in different.items():
            dots[round(step ** round(math.log(width, step))), round(step ** round(math.log(height, step)))] += count
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
