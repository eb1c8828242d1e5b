"""A Page -> what its template needs beside it, section by section. None means: the section has nothing to show."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from ffe.base.text import THIN, counted, is_are, percent, span
from ffe.evaluation.learning_curve import LearningCurve
from ffe.evaluation.temperature import Bin
from ffe.report.charts import Axis, Line, line_chart
from ffe.report.confusion import Cell, matrix_of
from ffe.report.projection import Projection
from ffe.report.scatter import classes_told_apart, map_legend, scatter
from ffe.report.thumbnails import Album, Shot
from ffe.report.values import Curves, Duplicates, Page, Picture
from ffe.wording.results import METRIC_NAMES, TIED, choice_text, shown_trials

TOP_TRIALS = 15
MAX_MISTAKES = 24
MAX_SUSPECTS = 48
MAX_GROUPS, MAX_MEMBERS = 24, 12
_FAR = 6  # times as far behind the best as the median is: such trials would press all others together
MAX_ON_MAP = 150  # mistakes whose picture the map shows and no other section does
_NEARLY_ONE = 0.05  # logarithm of a temperature that moves no dot so far that it is seen

NameOf = Callable[[int], str]


def names_of(class_names: Sequence[str]) -> NameOf:
    """Return what names a label, also one that has no class."""
    known = dict(enumerate(class_names))
    return lambda label: known.get(label, "no label" if label < 0 else f"class {label}")


def leaderboard(trials: Sequence[Mapping[str, Any]], metric: str = "accuracy") -> dict[str, Any] | None:
    """Return the first trials, the first of every head, which was chosen and why, and how the highest score rose."""
    if not trials:
        return None
    rows, count = shown_trials(trials, TOP_TRIALS), len(trials)
    which = f"All {count:,} trials" if count == len(rows) else f"{len(rows)} of {counted(count, 'trial')}"
    which += f", scored by {METRIC_NAMES[metric]} in validation"
    tied, choice = TIED if any(trial.get("tied") for trial in trials[1:]) else "", choice_text(trials, metric)
    chart = _search_chart(trials, metric)
    return {"rows": rows, "count": count, "which": which, "tied": tied, "choice": choice, "chart": chart}


def _search_chart(trials: Sequence[Mapping[str, Any]], metric: str) -> Markup:
    timed = [trial for trial in trials if trial["finished"] is not None and math.isfinite(trial["score"])]
    timed.sort(key=lambda trial: (trial["finished"], trial["score"]))
    if len(timed) < 2:
        return Markup("")
    scores = [float(trial["score"]) for trial in timed]
    best = np.maximum.accumulate(scores)
    lowest = best[-1] - max(_FAR * (best[-1] - statistics.median(scores)), 0.05)
    drawn = [trial for trial in timed if trial["score"] >= lowest]
    sign = -1 if metric == "log_loss" else 1
    highest = "lowest" if sign < 0 else "highest"
    lines = [Line(f"{highest} so far", [trial["finished"] for trial in timed], sign * np.maximum(best, lowest), "step", 6)]
    for i, head in enumerate(dict.fromkeys(trial["head"] for trial in trials)):
        own = [trial for trial in drawn if trial["head"] == head]
        times, heights = [trial["finished"] for trial in own], [sign * trial["score"] for trial in own]
        lines.append(Line(head, times, heights, "dots", i if i < 6 else i + 1))
    if trials[0] in drawn:
        lines.append(Line("chosen", [trials[0]["finished"]], [sign * trials[0]["score"]], "star", 7))
    unit = Axis(f"validation {METRIC_NAMES[metric]}", "percent" if sign > 0 else "number")
    far = len(timed) - len(drawn)
    note = f" ({counted(far, 'trial')} far behind {is_are(far)} not drawn)" if far else ""
    title, along = f"Every trial, and the {highest} so far{note}", Axis("time since the search began", "time", low=0)
    return line_chart(title, lines, along, unit)


def curves(found: Curves | None) -> list[Markup] | None:
    """Return the charts of loss and accuracy by epoch."""
    if found is None:
        return None

    def lines(train: Sequence[float], valid: Sequence[float]) -> list[Line]:
        epochs = range(found.first, found.first + max(len(train), len(valid)))
        return [Line("training", epochs[: len(train)], train, "line", 0), *validation(epochs[: len(valid)], valid)]

    def validation(x: Sequence[float], y: Sequence[float]) -> list[Line]:
        # dashed, so that what lies below it where the two meet is seen
        drawn = [Line("validation", x, y, "dashed", 1)]
        if found.kept is not None and found.kept < len(y):
            drawn.append(Line("the weights that are kept", [x[found.kept]], [y[found.kept]], "star", 2))
        return drawn

    epochs, share = Axis("epoch", "count", low=found.first), Axis("accuracy", "percent")
    over_time = validation([seconds for seconds, _ in found.over_time], [accuracy for _, accuracy in found.over_time])
    charts = [
        line_chart("Loss", lines(found.train_loss, found.valid_loss), epochs, Axis("loss", low=0)),
        line_chart("Accuracy", lines(found.train_accuracy, found.valid_accuracy), epochs, share),
        line_chart("Validation accuracy over time", over_time, Axis("time since the beginning", "time", low=0), share),
    ]
    return [chart for chart in charts if chart] or None


def confusion(page: Page, name_of: NameOf, album: Album) -> dict[str, Any] | None:
    """Return the matrix, and for every cell that has pictures the pictures."""
    test = page.evaluation
    if test is None:
        return None
    matrix = matrix_of(test["confusion"], page.pictures, test["confusion_intervals"])

    def shots(cell: Cell) -> list[Shot]:
        return [album.shot(p.file, p.path, percent(p.probability), wrong=not cell.right) for p in cell.pictures]

    def label(cell: Cell) -> str:
        """Return ``cat called dog: 12 photos (4.3 %; 95 %: 6 to 20 photos)``."""
        within = f"; 95{THIN}%: {text} photos" if (text := span(cell.interval, share=False)) else ""
        called = "rightly" if cell.right else name_of(cell.predicted)
        return f"{name_of(cell.true)} called {called}: {counted(cell.count, 'photo')} ({percent(cell.share)}{within})"

    panels = [(cell, shots(cell)) for cell in matrix.filled]
    return {"matrix": matrix, "panels": panels, "upright": len(matrix.classes) > 6, "label": label}


def mistakes(page: Page, name_of: NameOf, album: Album) -> dict[str, Any] | None:
    """Return the most confident mistakes; None if no test row is known."""
    if not page.pictures:
        return None
    wrong = surest_mistakes(page.pictures)
    shots = [_shot(picture, "is", "called", name_of, album) for picture in wrong[:MAX_MISTAKES]]
    return {"count": len(wrong), "shots": shots, "heat": any(shot.heat is not None for shot in shots)}


def surest_mistakes(pictures: Sequence[Picture]) -> list[Picture]:
    """Return the pictures that were named wrongly, the surest mistake first."""
    wrong = [picture for picture in pictures if picture.true != picture.predicted]
    return sorted(wrong, key=lambda picture: (-round(picture.probability, 9), picture.path))


def label_issues(page: Page, name_of: NameOf, album: Album) -> dict[str, Any] | None:
    """Return the photos whose label may be wrong; None if nothing is known of that."""
    found = page.label_issues
    if found is None:
        return None
    return {"count": len(found), "shots": [_shot(p, "labelled", "rather", name_of, album) for p in found[:MAX_SUSPECTS]]}


def _shot(picture: Picture, true: str, predicted: str, name_of: NameOf, album: Album) -> Shot:
    said = f"{true} {name_of(picture.true)}", f"{predicted} {name_of(picture.predicted)}", f"{percent(picture.probability)} sure"
    return album.shot(picture.file, picture.path, *said, wrong=True, heat=picture.heat)


def calibration(page: Page) -> dict[str, Any] | None:
    """Return the reliability chart, accuracy against the share answered, and a sentence on that."""
    if page.calibration is None:
        return None
    found = page.calibration
    once = abs(math.log(found.factor)) < _NEARLY_ONE
    lines = [] if once else [_reliability("before", found.before, 1)]
    lines.append(_reliability("as they are" if found.factor == 1 else "after", found.after, 0))
    axis, right = Axis("probability given", "percent", high=1), Axis("share right", "percent", high=1)
    answered, sentence = Markup(""), ""
    if known := [row for row in page.coverage if row.accuracy is not None and row.interval is not None]:
        points = [row.share for row in known], [row.accuracy or 0.0 for row in known]
        hints = [
            f"threshold {percent(row.threshold, 0)}: {percent(row.share)} answered, {percent(row.accuracy)} of them right"
            for row in known
        ]
        low, high = zip(*(row.interval for row in known), strict=True)
        answered = line_chart(
            "Answering only when sure",
            [Line("", *points), Line("a threshold", *points, "dots", 0, low, high, hints=hints)],
            Axis("share of photos answered", "percent", high=1),
            Axis("right among the answered", "percent", high=1),
        )
        near = min(known, key=lambda row: abs(row.threshold - 0.9))
        sentence = (
            f"Where only answers with at least {percent(near.threshold, 0)} are taken, {percent(near.share)} of the photos "
            f"are answered, and {percent(near.accuracy)} of these answers are right."
        )
    reliable = line_chart("Probability given, and how often it held", lines, axis, right, diagonal=True)
    return {"charts": [chart for chart in (reliable, answered) if chart], "sentence": sentence, "once": once}


def _reliability(name: str, bins: Sequence[Bin], colour: int) -> Line:
    columns = np.asarray([(row.confidence, row.accuracy, *row.interval, row.count) for row in bins]).reshape(-1, 5)
    confidence, accuracy, low, high, sizes = columns.T
    hints = [
        f"{name}: {counted(row.count, 'photo')} with {percent(row.confidence)}, of which {percent(row.accuracy)} right"
        for row in bins
    ]
    return Line(name, confidence, accuracy, "dots", colour, low, high, sizes, hints)


def duplicates(groups: Sequence[Duplicates] | None, album: Album) -> dict[str, Any] | None:
    """Return the groups of equal photos; None if nobody looked."""
    if groups is None:
        return None
    shown = groups[:MAX_GROUPS]
    photos = sum(len(group.members) for group in groups)
    shots = [[album.shot(file, path) for path, file in group.members[:MAX_MEMBERS]] for group in shown]
    rows = [(group.cause, len(group.members), own) for group, own in zip(shown, shots, strict=True)]
    return {"count": len(groups), "photos": photos, "left_out": len(groups) - len(shown), "groups": rows}


def feature_map(found: Projection | None, name_of: NameOf, album: Album) -> dict[str, Any] | None:
    """Return the map of features, its legend, and the pictures that only it shows."""
    if found is None:
        return None
    extra: list[Shot] = []

    def thumbnail_of(i: int) -> str | None:
        item = (found.files[i], found.paths[i])
        if item in album:
            return str(album.key(*item))
        if len(extra) == MAX_ON_MAP:
            return None
        extra.append(album.shot(*item))
        return str(extra[-1].key)

    return {
        "svg": scatter(found, name_of, thumbnail_of),
        "legend": map_legend(found, name_of),
        "extra": extra,
        "told_apart": classes_told_apart(found.labels),
    }


def learning_curve(found: LearningCurve | None) -> dict[str, Any] | None:
    """Return how accuracy grows with the number of photos."""
    if found is None:
        return None
    rows = [(point.size, point.accuracy, *point.interval) for point in found.points]
    sizes, accuracies, lows, highs = zip(*rows, strict=True)
    lines = [Line("measured", sizes, accuracies, "dots", 0, lows, highs)]
    if found.a is not None and found.b is not None and found.c is not None:
        along = np.geomspace(found.points[0].size, found.size, 40)
        lines.insert(0, Line("fitted", along, 1 - found.a - found.b * along**-found.c, "dashed", 6))
    if found.accuracy is not None and found.interval is not None:
        low, high = found.interval
        lines.append(Line("foreseen", [found.size], [found.accuracy], "dots", 1, [low], [high]))
        rows.append((found.size, found.accuracy, low, high))
    axes = Axis("training photos", "count", log=True), Axis("accuracy", "percent")
    chart = line_chart("Accuracy by number of training photos", lines, *axes)
    return {"chart": chart, "sentence": f"{found.sentence[:1].upper()}{found.sentence[1:]}.", "rows": rows}
