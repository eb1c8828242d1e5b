"""What a comparison of roads came to -> one HTML file, with the building blocks of the page of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from ffe._version import __version__
from ffe.base.text import counted, duration, percent
from ffe.comparing.compare_result import CompareResult
from ffe.dataset.assign_sides import ImageSplit
from ffe.report.charts import COLOURS, Axis, Line, bar, line_chart
from ffe.report.html import document
from ffe.report.thumbnails import Album
from ffe.report.values import headline_of, photos_fact, title_of
from ffe.splits.holdout import TEST
from ffe.wording.compare_text import advice, agreement_rows, cells_of, meaning, note, rows_text, verdict

MAX_SHOTS = 24  # of each gallery


def compare_page(result: CompareResult, assigned: ImageSplit, source: str) -> str:
    """Return the page of a comparison of images that come from a source as HTML; equal results give equal text."""
    album, record = Album(), result.to_json()
    colours = {road.name: i % COLOURS for i, road in enumerate(result.roads)}
    best = next((road for road in record["roads"] if road["name"] == result.best), None)
    counts = record["agreement"][0] if result.agreement else {}
    (height, width), (scratch_height, scratch_width) = result.size, result.scratch_size
    facts = {
        "backbone": f"{result.backbone} at {height}x{width}",
        "convnets from scratch": f"at {scratch_height}x{scratch_width}",
        "photos": photos_fact(result.rows),
        "took": duration(result.seconds) + (", interrupted" if result.interrupted else ""),
        "ffe": __version__,
    }
    made = {
        "source": source,
        "roads": ", ".join(road.name for road in result.roads),
        "seconds": "as long as it takes" if result.budget is None else f"{result.budget:g} s",
        "seed": str(result.seed),
    }
    context = {
        "page": {"title": f"{title_of(result.classes)}: roads compared", "facts": facts, "made": made},
        "headline": None if best is None else headline_of(best["name"], best["evaluation"]),
        "roads": [_row(road, result.best, colours[road["name"]]) for road in record["roads"]],
        "sentences": [text for text in (verdict(record), advice(record)) if text],
        "notes": " ".join(text for text in (rows_text(record), note(record)) if text),
        "meaning": meaning(record),
        "chart": _chart(record["roads"], colours),
        "agreement": agreement_rows(record) if counts else [],
        "galleries": [
            {
                "right": right,
                "wrong": wrong,
                "count": counts[count],
                "counted": counted(counts[count], "photo"),
                "shots": _mistakes(right, wrong, result, assigned, album),
            }
            for right, wrong, count in (
                (result.best, result.second, "only_first"),
                (result.second, result.best, "only_second"),
            )
            if counts
        ],
    }
    return document("compare.html", context, album)


def _row(road: Mapping[str, Any], best: str, colour: int) -> dict[str, Any]:
    row = {"name": road["name"], "what": road["what"], "reason": road["reason"], "colour": colour, "best": road["name"] == best}
    if road["reason"]:
        return row
    test = road["evaluation"]
    return {**row, "cells": cells_of(road), "bar": bar(test["accuracy"], test["intervals"]["accuracy"], colour)}


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
    time = "time, without what an earlier run had computed" if reused else "time since the first photo was read"
    accuracy = Axis("validation accuracy", "percent")
    return line_chart("Validation accuracy over time", lines, Axis(time, "time", low=0), accuracy)


def _mistakes(right: str, wrong: str, result: CompareResult, assigned: ImageSplit, album: Album) -> list[Any]:
    """Return shots of the test images that one road has right and the other wrong, the surest mistakes first, then by path."""
    tested, answers = assigned.images.take(assigned.rows(TEST)), result.road(wrong).probabilities
    labels, said, sure = tested.labels, answers.argmax(axis=1), answers.max(axis=1)
    places = np.flatnonzero((result.road(right).probabilities.argmax(axis=1) == labels) & (said != labels)).tolist()
    chosen = sorted(places, key=lambda i: (-round(float(sure[i]), 9), tested.paths[i]))[:MAX_SHOTS]
    notes = {i: f"{result.classes[labels[i]]}, not {result.classes[said[i]]}" for i in chosen}
    return [album.shot(tested.files[i], tested.paths[i], notes[i], percent(float(sure[i])), wrong=True) for i in chosen]
