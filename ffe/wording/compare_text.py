"""What a comparison of roads came to -> text for people, from ``CompareResult.to_json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffe.base.text import THIN, bytes_text, counted, duration, is_are, listed, share_text
from ffe.wording.results import comparison_text, table

SCORES = ("road", "test accuracy", "95 %", "behind the best", "validation")
COSTS = ("road", "time", "best at", "learnt", "model")


def compare_text(record: Mapping[str, Any]) -> str:
    """Return the tables of roads, one of scores and one of costs, and what follows from them."""
    best = record["best"]
    done = [road for road in record["roads"] if not road["reason"]]
    cells = {f"{road['name']} *" if road["name"] == best else road["name"]: cells_of(road) for road in done}
    parts = []
    for header, right in ((SCORES, (1, 3, 4)), (COSTS, (1, 2, 4))) if cells else ():
        rows = [(name, *(row[title] for title in header[1:])) for name, row in cells.items()]
        parts.append(table(header, rows, right=right))
    parts += [f"{road['name']}: {road['reason']}" for road in record["roads"] if road["reason"]]
    parts += filter(None, (rows_text(record), verdict(record), advice(record), note(record), meaning(record)))
    if record["agreement"]:
        titles = ("test images", "both right", f"only {best}", f"only {record['second']}", "both wrong")
        parts.append(table(titles, agreement_rows(record), right=(1, 2, 3, 4)))
    return "\n\n".join(parts)


def cells_of(road: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands below each title of ``SCORES`` and ``COSTS``, of a road that has a result."""
    interval = road["evaluation"]["intervals"]["accuracy"]
    compared = road["comparison"]
    epochs = road["epochs"]
    learnt = counted(road["trials"], "trial") if epochs is None else f"{road['kept']} of {counted(epochs, 'epoch')}"
    more = " +" if road["reused"] else ""
    return {
        "test accuracy": share_text(road["evaluation"]["accuracy"]),
        "95 %": "" if interval is None else f"{share_text(interval[0]).removesuffix(' %')} to {share_text(interval[1])}",
        "behind the best": "" if compared is None else behind(compared),
        "validation": share_text(road["valid_accuracy"]),
        "time": _time(road["seconds"]) + more,
        "best at": _time(road["best_at"]) + more,
        "learnt": learnt,
        "model": bytes_text(road["size"]),
    }


def behind(comparison: Mapping[str, Any]) -> str:
    """Return ``2.9 (real)`` or ``0.4 (chance?)``: points of accuracy, from ``Comparison.to_json`` of the best and another."""
    points = f"{100 * comparison['difference']:.1f}"
    return points if not comparison["difference"] else f"{points} ({'real' if comparison['real'] else 'chance?'})"


def rows_text(record: Mapping[str, Any]) -> str:
    """Return how many images train, validate and test."""
    rows = record["rows"]
    left = ""
    if rows["left_out"]:
        left = f"; {counted(rows['left_out'], 'belongs to others and is', 'belong to others and are')} left out"
    train = counted(rows["train"], "image")
    return f"All learn from the same {train}, choose by {rows['valid']}, and are tested on {rows['test']}{left}."


def verdict(record: Mapping[str, Any]) -> str:
    """Return whether the best two really differ; empty where there are not two."""
    if record["comparison"] is None:
        return f"Only {record['best']} has a result." if record["best"] else "No road has a result."
    best, tie = record["best"], ""
    if equal := [road["name"] for road in record["roads"] if road["comparison"] and not road["comparison"]["difference"]]:
        others = f"{listed(equal, 'and').capitalize()} {is_are(len(equal))}"
        tie = f" {others} right as often as {best}, which comes first because its log loss is lower."
    return f"The best two: {comparison_text(record['comparison'], best, record['second'])}.{tie}"


def advice(record: Mapping[str, Any]) -> str:
    """Return which road is the quickest of those that are as good as the best; empty where that is the best itself."""
    if record["quickest"] in {"", record["best"]}:
        return ""
    road = next(road for road in record["roads"] if road["name"] == record["quickest"])
    return f"As good as {record['best']}, as far as these images tell, and quicker: {road['name']}, in {_time(road['seconds'])}."


def _time(seconds: float) -> str:
    return duration(seconds).replace(THIN, " ")


def note(record: Mapping[str, Any]) -> str:
    """Return what the times and the marks in the table mean."""
    done = [road for road in record["roads"] if not road["reason"]]
    notes = []
    if any(road["starts_from"] or road["trials"] is not None for road in done):
        notes.append(
            "Times include all that a road needs: the features, and the model that it starts from; "
            "'best at' is when the version that is kept was reached."
        )
    if any(road["kept"] == 0 for road in done):
        notes.append("0 of so many epochs: none was better than what the road began with, so its model is that.")
    if any(road["reused"] for road in done):
        notes.append("+: without features or activations that an earlier run had computed.")
    return " ".join(notes)


def meaning(record: Mapping[str, Any]) -> str:
    """Return what the words behind the differences mean; empty where there are none."""
    if not any(road["comparison"] and road["comparison"]["difference"] for road in record["roads"]):
        return ""
    return (
        "“Real” means that the interval of the difference leaves out 0 and McNemar's test is below 0.05; “chance?” that the "
        "difference may be luck. The best of several roads is a little lucky too: it was found on these very images."
    )


def agreement_rows(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return how often each of the best two is right where the other is wrong: all test images, then class by class."""
    counts = ("both", "only_first", "only_second", "neither")
    return [(found["name"] or "all", *(f"{found[name]:,}" for name in counts)) for found in record["agreement"]]
