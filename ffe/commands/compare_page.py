"""What a comparison of roads came to -> its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ffe._version import __version__
from ffe.comparing.result import CompareResult
from ffe.comparing.roads import Road
from ffe.dataset.assign import Dealt
from ffe.report.compare_page import ComparePage, Differing, write_page
from ffe.report.tune_page import title_of
from ffe.report.words import duration
from ffe.splits.holdout import TEST


def write_compare_page(place: Path, result: CompareResult, dealt: Dealt, source: str) -> None:
    """Write the page of a comparison.

    Args:
        place: the HTML file.
        result: what it came to.
        dealt: the images.
        source: where they come from, for people.

    Raises:
        ReportError: it cannot be written.
    """
    first, second = (result.road(name) if name else None for name in (result.best, result.second))
    height, width = result.size
    budget = "as long as it takes" if result.budget is None else f"{result.budget:g} s"
    page = ComparePage(
        title=f"{title_of(result.classes)}: roads compared",
        record=result.to_json(),
        facts={
            "backbone": f"{result.backbone} at {height}x{width}",
            "convnets from scratch": f"at {result.scratch_size[0]}x{result.scratch_size[1]}",
            "photos": ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in result.rows.items() if count),
            "took": duration(result.seconds) + (", interrupted" if result.interrupted else ""),
            "ffe": __version__,
        },
        only_first=() if first is None or second is None else _differing(first, second, result, dealt),
        only_second=() if first is None or second is None else _differing(second, first, result, dealt),
        made={
            "source": source,
            "roads": ", ".join(road.name for road in result.roads),
            "seconds": budget,
            "seed": str(result.seed),
        },
    )
    write_page(place, page)


def _differing(right: Road, wrong: Road, result: CompareResult, dealt: Dealt) -> list[Differing]:
    """Return the test images that one road has right and the other wrong.

    The surest mistakes come first, of equal ones (to nine digits) by path.
    """
    labels, rows = dealt.labels(TEST), dealt.rows(TEST)
    said, sure = wrong.probabilities.argmax(axis=1), wrong.probabilities.max(axis=1)
    places = np.flatnonzero((right.probabilities.argmax(axis=1) == labels) & (said != labels))
    return [
        Differing(
            dealt.photos.paths[rows[i]],
            dealt.photos.files[rows[i]],
            result.classes[labels[i]],
            result.classes[said[i]],
            float(sure[i]),
        )
        for i in sorted(places.tolist(), key=lambda i: (-round(float(sure[i]), 9), dealt.photos.paths[rows[i]]))
    ]
