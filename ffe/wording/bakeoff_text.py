"""What a bake-off of backbones came to -> text for people, from ``BakeoffResult.to_json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffe.base.text import THIN, bytes_text, counted, duration, is_are, listed, share_text
from ffe.wording.compare_text import behind
from ffe.wording.results import comparison_text, table

TITLES = ("backbone", "accuracy", "95 %", "photos/s", "a photo", "model", "time", "")
_LEFT = {"backbone", "95 %", ""}


def bakeoff_text(record: Mapping[str, Any]) -> str:
    """Return the table of backbones, the most accurate first, what follows from it, and which one to take."""
    done = sorted((one for one in record["backbones"] if not one["reason"]), key=_order)
    rows = [tuple(cells_of(one, record)[title] for title in TITLES) for one in done]
    parts = [table(TITLES, rows, right=[i for i, title in enumerate(TITLES) if title not in _LEFT])] if rows else []
    parts.append("\n".join(f"{one['name']}: {one['reason']}" for one in record["backbones"] if one["reason"]))
    parts += (rows_text(record), verdict(record), frontier_text(record), notes(record), advice(record))
    return "\n\n".join(filter(None, parts))


def _order(one: Mapping[str, Any]) -> tuple[float, float]:
    return -round(one["evaluation"]["accuracy"], 9), round(one["evaluation"]["log_loss"], 9)


def cells_of(one: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands below each of ``TITLES``, of a backbone that has a result."""
    interval = one["evaluation"]["intervals"]["accuracy"]
    more = " +" if one["reused"] or one["searched_before"] else ""
    seconds = one["seconds"]
    return {
        "backbone": one["name"],
        "accuracy": share_text(one["evaluation"]["accuracy"]),
        "95 %": "" if interval is None else " to ".join(share_text(end).removesuffix(" %") for end in interval),
        "behind": "" if one["comparison"] is None else behind(one["comparison"]),
        "photos/s": "≥" * one["rate_is_rough"] + rate_text(one["images_per_second"]),
        "a photo": bytes_text(one["bytes_per_photo"]),
        "model": bytes_text(one["model_bytes"]),
        "time": (f"{seconds:.0f} s" if seconds < 1000 else duration(seconds).replace(THIN, " ")) + more,
        "": mark(one, record),
    }


def rate_text(rate: float | None) -> str:
    """Return ``92`` or ``4.1``; ``unknown`` where no run has measured it."""
    return "unknown" if rate is None else f"{rate:,.0f}" if rate >= 9.95 else f"{rate:.1f}"


def mark(one: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Return whether a backbone is the one to take, on the frontier, or beaten by another in both accuracy and rate."""
    if one["name"] == record["take"]:
        return "take"
    if one["on_frontier"]:
        return "frontier"
    return "beaten" if one["dominated_by"] else ""


def rows_text(record: Mapping[str, Any]) -> str:
    """Return how many images learn and test; empty where none were split."""
    rows = record["rows"]
    if not rows:
        return ""
    choose = f", choose by {rows['valid']}," if rows["valid"] else ", choose by cross-validation on them"
    left = f"; {counted(rows['left_out'], 'image is', 'images are')} left out" if rows["left_out"] else ""
    return f"All learn from the same {counted(rows['train'], 'image')}{choose} and are tested on the same {rows['test']}{left}."


def verdict(record: Mapping[str, Any]) -> str:
    """Return whether the best two really differ; empty where there are not two."""
    if record["comparison"] is None:
        return f"Only {record['best']} has a result." if record["best"] else "No backbone has a result."
    return f"The best two: {comparison_text(record['comparison'], record['best'], record['second'])}."


def frontier_text(record: Mapping[str, Any]) -> str:
    """Return what the frontier is; empty where there are not two results."""
    if not record["second"] or not record["frontier"]:
        return ""
    names = listed(record["frontier"], "and")
    one = len(record["frontier"]) == 1
    return f"On the frontier, where no other is as accurate and faster: {names}{' alone' if one else ''}."


def advice(record: Mapping[str, Any]) -> str:
    """Return in one sentence which backbone to take, and how sure that is; empty where there is no result."""
    best, take = record["best"], record["take"]
    if not best:
        return ""
    by_name = {one["name"]: one for one in record["backbones"]}
    if not record["second"]:
        return f"Take {best}: no other has a result to compare it with."
    if take != best:
        return (
            f"Take {take}, the faster one: these photos cannot tell it from {best}, "
            f"and it is {_times(by_name[take]['images_per_second'], by_name[best]['images_per_second'])}."
        )
    others = [one for one in record["backbones"] if not one["reason"] and one["name"] != best]
    rate = by_name[best]["images_per_second"]
    if rate is not None and all(rate >= (one["images_per_second"] or 0.0) for one in others):
        return f"Take {best}: no other is right more often, and none is faster."
    unsure = [one["name"] for one in others if not one["as_good"] and not one["comparison"]["real"]]
    alike = [one["name"] for one in others if one["as_good"]]
    if unsure:
        return (
            f"Take {best}: it is right most often, but {counted(record['rows']['test'], 'test photo is', 'test photos are')} "
            f"too few to say that {listed(unsure, 'or')} {is_are(len(unsure))} worse."
        )
    if alike:
        return f"Take {best}, the fastest of those that these photos cannot tell apart: {listed([best, *alike], 'and')}."
    return f"Take {best}: it is really better than {listed([one['name'] for one in others], 'and')}."


def _times(fast: float | None, slow: float | None) -> str:
    ratio = (fast or 0.0) / (slow or 1.0)
    return f"{ratio:.1f} times as fast" if ratio < 9.95 else f"{ratio:.0f} times as fast"


def notes(record: Mapping[str, Any]) -> str:
    """Return what the columns and marks mean."""
    if not record["best"]:
        return ""
    text = (
        "Photos/s is the rate of extraction on this machine, decoding included; 'a photo' is what its features take on disk; "
        "the model holds backbone and head; the time is that of features and search. 'Beaten': another is as accurate and as "
        "fast, and better in one of the two."
    )
    if any(one["reused"] or one["searched_before"] for one in record["backbones"]):
        text += " +: features or models of an earlier run were taken; the time is what they took then."
    if any(one["rate_is_rough"] for one in record["backbones"]):
        text += " ≥: few photos were timed, and to begin takes a share of so short a time; the rate is that or higher."
    trials = [one["trials"] for one in record["backbones"] if not one["reason"]]
    if 2 * min(trials) < max(trials):
        fewest, most = min(trials), counted(max(trials), "trial")
        text += f" The time was short: the searches made from {fewest} to {most}; give more with --seconds."
    if any(one["comparison"] and one["comparison"]["difference"] for one in record["backbones"]):
        text += " 'Real' means that chance alone hardly makes such a difference, 'chance?' that it may."
    return text
