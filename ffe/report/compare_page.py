"""What a comparison of roads came to -> one HTML file, with the building blocks of the page of a search."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from ffe._version import __version__
from ffe.base.output_file import check_output, write_output
from ffe.base.text import counted, duration, of_a_hundred, percent, span
from ffe.comparing.compare_result import CompareResult
from ffe.comparing.roads import Road
from ffe.dataset.assign import ImageSplit
from ffe.report.charts import COLOURS, Axis, Line, bar, line_chart
from ffe.report.html import document
from ffe.report.thumbnails import Album
from ffe.report.values import title_of
from ffe.splits.holdout import TEST
from ffe.wording.compare_text import advice, agreement_rows, behind, cells_of, meaning, note, rows_text, verdict

MAX_SHOTS = 24  # of each gallery


@dataclass(frozen=True)
class Differing:
    """A test photo that one of the best two has right, and the other wrong.

    Attributes:
        path: the name to show.
        file: where the picture lies.
        true: name of its class.
        said: name of the class that the wrong one gives it.
        probability: of that class, in [0, 1].
    """

    path: str
    file: Path | None
    true: str
    said: str
    probability: float


@dataclass(frozen=True)
class ComparePage:
    """All that the page of a comparison shows.

    Attributes:
        title: the head line.
        record: from ``CompareResult.to_json``.
        facts: what stands below the head line.
        only_first, only_second: photos that the best alone has right, or the second alone; the surest mistakes first.
        made: how to make it again.
    """

    title: str
    record: Mapping[str, Any]
    facts: Mapping[str, str] = field(default_factory=dict)
    only_first: Sequence[Differing] = ()
    only_second: Sequence[Differing] = ()
    made: Mapping[str, str] = field(default_factory=dict)


def write_page(path: str | os.PathLike[str], page: ComparePage) -> int:
    """Write the page as one HTML file that needs nothing else; return its bytes.

    Raises:
        ReportError: the place is a folder, lies in none, or cannot be written to.
    """
    place = check_output(path)
    return write_output(place, render(page).encode())


def render(page: ComparePage) -> str:
    """Return the page as HTML; equal pages give equal text."""
    album, record = Album(), page.record
    colours = {road["name"]: i % COLOURS for i, road in enumerate(record["roads"])}
    best = next((road for road in record["roads"] if road["name"] == record["best"]), None)
    galleries = (
        (record["best"], record["second"], page.only_first, "only_first"),
        (record["second"], record["best"], page.only_second, "only_second"),
    )
    context = {
        "page": page,
        "headline": None if best is None else _headline(best),
        "roads": [_row(road, record["best"], colours[road["name"]]) for road in record["roads"]],
        "sentences": [text for text in (verdict(record), advice(record)) if text],
        "notes": " ".join(text for text in (rows_text(record), note(record)) if text),
        "meaning": meaning(record),
        "chart": _chart(record["roads"], colours),
        "agreement": agreement_rows(record) if record["agreement"] else [],
        "galleries": [
            {
                "right": right,
                "wrong": wrong,
                "count": record["agreement"][0][count],
                "counted": counted(record["agreement"][0][count], "photo"),
                "shots": [
                    album.shot(p.file, p.path, f"{p.true}, not {p.said}", percent(p.probability), wrong=True)
                    for p in shown[:MAX_SHOTS]
                ],
            }
            for right, wrong, shown, count in galleries
            if record["agreement"]
        ],
    }
    return document("compare.html", context, album)


def _headline(best: Mapping[str, Any]) -> dict[str, str]:
    test = best["evaluation"]
    interval = test["intervals"]["accuracy"]
    return {
        "name": best["name"],
        "accuracy": percent(test["accuracy"]),
        "interval": span(interval),
        "words": of_a_hundred(test["accuracy"], interval, test["n"]),
    }


def _row(road: Mapping[str, Any], best: str, colour: int) -> dict[str, Any]:
    row = {"name": road["name"], "what": road["what"], "reason": road["reason"], "colour": colour, "best": road["name"] == best}
    if road["reason"]:
        return row
    cells, test = cells_of(road), road["evaluation"]
    return {
        **row,
        "accuracy": cells["test accuracy"],
        "bar": bar(test["accuracy"], test["intervals"]["accuracy"], colour),
        "interval": cells["95 %"],
        "behind": "" if road["comparison"] is None else behind(road["comparison"]),
        "validation": cells["validation"],
        "time": cells["time"],
        "best_at": cells["best at"],
        "learnt": cells["learnt"],
        "model": cells["model"],
    }


def _chart(roads: Sequence[Mapping[str, Any]], colours: Mapping[str, int]) -> Markup:
    """Return validation accuracy over wall time, one line for each road."""
    lines = [
        Line(
            road["name"],
            [seconds for seconds, _ in road["curve"]],
            [share for _, share in road["curve"]],
            "line" if road["trials"] is None else "step",
            colours[road["name"]],
        )
        for road in roads
        if road["curve"]
    ]
    reused = any(road["reused"] for road in roads)
    return line_chart(
        "Validation accuracy over time",
        lines,
        Axis(
            "time, without what an earlier run had computed" if reused else "time since the first photo was read", "time", low=0
        ),
        Axis("validation accuracy", "percent"),
    )


def write_compare_page(place: Path, result: CompareResult, assigned: ImageSplit, source: str) -> None:
    """Write the page of a comparison.

    Args:
        place: the HTML file.
        result: what it came to.
        assigned: the images.
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
        only_first=() if first is None or second is None else _differing(first, second, result, assigned),
        only_second=() if first is None or second is None else _differing(second, first, result, assigned),
        made={
            "source": source,
            "roads": ", ".join(road.name for road in result.roads),
            "seconds": budget,
            "seed": str(result.seed),
        },
    )
    write_page(place, page)


def _differing(right: Road, wrong: Road, result: CompareResult, assigned: ImageSplit) -> list[Differing]:
    """Return the test images that one road has right and the other wrong.

    The surest mistakes come first, of equal ones (to nine digits) by path.
    """
    labels, rows = assigned.labels(TEST), assigned.rows(TEST)
    said, sure = wrong.probabilities.argmax(axis=1), wrong.probabilities.max(axis=1)
    places = np.flatnonzero((right.probabilities.argmax(axis=1) == labels) & (said != labels))
    return [
        Differing(
            assigned.images.paths[rows[i]],
            assigned.images.files[rows[i]],
            result.classes[labels[i]],
            result.classes[said[i]],
            float(sure[i]),
        )
        for i in sorted(places.tolist(), key=lambda i: (-round(float(sure[i]), 9), assigned.images.paths[rows[i]]))
    ]
