"""What a bake-off of backbones came to -> one HTML file, with the frontier of accuracy over rate as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from ffe._version import __version__
from ffe.base.text import counted, duration, percent
from ffe.comparing.bakeoff_result import BakeoffResult
from ffe.report.charts import Axis, Line, bar, line_chart
from ffe.report.html import document
from ffe.report.thumbnails import Album
from ffe.report.values import headline_of, photos_fact, title_of
from ffe.wording.bakeoff_text import advice, cells_of, frontier_text, notes, rate_text, rows_text, verdict

_FRONTIER, _BEATEN = 0, 5  # colours


def bakeoff_page(result: BakeoffResult, source: str) -> str:
    """Return the page of a bake-off on images that come from a source as HTML; equal results give equal text."""
    record = result.to_json()
    done = sorted((one for one in record["backbones"] if not one["reason"]), key=lambda one: -one["evaluation"]["accuracy"])
    take = next((one for one in done if one["name"] == result.take), None)
    facts = {
        "photos": photos_fact(result.rows),
        "backbones": str(len(result.backbones)),
        "took": duration(result.seconds) + (", interrupted" if result.interrupted else ""),
        "ffe": __version__,
    }
    made = {
        "source": source,
        "backbones": ", ".join(one.name for one in result.backbones),
        "seconds": f"{result.budget:g} s",
        "seed": str(result.seed),
    }
    context = {
        "page": {"title": f"{title_of(result.classes)}: backbones compared", "facts": facts, "made": made},
        "headline": None if take is None else headline_of(take["name"], take["evaluation"]),
        "rows": [_row(one, record) for one in [*done, *(one for one in record["backbones"] if one["reason"])]],
        "sentences": [text for text in (advice(record), verdict(record)) if text],
        "frontier": frontier_text(record),
        "notes": " ".join(text for text in (rows_text(record), notes(record)) if text),
        "chart": _chart(done, result),
    }
    return document("bakeoff.html", context, Album())


def _row(one: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    row = {"name": one["name"], "reason": one["reason"], "take": one["name"] == record["take"]}
    if one["reason"]:
        return row
    test = one["evaluation"]
    shown = bar(test["accuracy"], test["intervals"]["accuracy"], _BEATEN if one["dominated_by"] else _FRONTIER)
    height, width = one["size"]
    about = f"{height}x{width} pixels, {counted(one['features'], 'value')} a photo, head {one['head']}"
    return {**row, "cells": cells_of(one, record), "bar": shown, "about": about}


def _chart(done: Sequence[Mapping[str, Any]], result: BakeoffResult) -> Markup:
    """Return accuracy over rate: the frontier as steps, those beaten in both as rings."""
    known = [one for one in done if one["images_per_second"] is not None]
    frontier = [one.name for one in result.frontier]
    steps = sorted((one for one in known if one["name"] in frontier), key=lambda one: -one["images_per_second"])
    beaten = [one for one in known if one["name"] not in frontier]
    edge = Line("", [one["images_per_second"] for one in steps], [one["evaluation"]["accuracy"] for one in steps], "step")
    lines = [edge] if len(steps) > 1 else []
    for name, some, kind, colour in (
        ("beaten in accuracy and rate", beaten, "rings", _BEATEN),
        ("on the frontier", steps, "dots", _FRONTIER),
    ):
        if some:
            lines.append(_points(name, some, kind, colour, result.take))
    rate = Axis("photos a second on this machine (log scale)", log=True)
    return line_chart("Accuracy over rate", lines, rate, Axis("test accuracy", "percent"))


def _points(name: str, some: Sequence[Mapping[str, Any]], kind: Any, colour: int, take: str) -> Line:
    tests = [one["evaluation"] for one in some]
    intervals = [test["intervals"]["accuracy"] or (test["accuracy"],) * 2 for test in tests]
    return Line(
        name,
        [one["images_per_second"] for one in some],
        [test["accuracy"] for test in tests],
        kind,
        colour,
        low=[low for low, _ in intervals],
        high=[high for _, high in intervals],
        hints=[
            f"{one['name']}: {percent(one['evaluation']['accuracy'])} at {rate_text(one['images_per_second'])} a second"
            for one in some
        ],
        labels=[f"{one['name']} (take)" if one["name"] == take else one["name"] for one in some],
    )
