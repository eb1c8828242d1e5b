"""A Page -> what its template needs, section by section. None means: the section has nothing to show."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ffe.base.text import THIN, bytes_text, counted, duration, is_number, number, of_a_hundred, percent, span
from ffe.report.charts import Axis, Line, bar, line_chart
from ffe.report.confusion import Cell, Matrix, matrix_of
from ffe.report.scatter import classes_told_apart, map_legend, scatter
from ffe.report.thumbnails import Album, Shot
from ffe.report.values import Curves, Duplicates, FeatureMap2D, GrowthView, Page, Picture
from ffe.wording.results import METRIC_NAMES, parameters_lines

TOP_TRIALS = 15
MAX_MISTAKES = 24
MAX_SUSPECTS = 48
MAX_GROUPS, MAX_MEMBERS = 24, 12
_FAR = 6  # times as far behind the best as the median is: such trials would press all others together
MAX_ON_MAP = 150  # mistakes whose picture the map shows and no other section does

SCORES = (
    ("accuracy", "Accuracy", True, "photos named rightly"),
    ("balanced_accuracy", "Balanced accuracy", True, "the same, each class counting alike"),
    ("auc", "AUC", False, "how well the classes are ranked: 0.5 by chance, 1 at best"),
    ("log_loss", "Log loss", False, "how far the probabilities are off; 0 at best"),
    (
        "expected_calibration_error",
        "Calibration error",
        True,
        "how far the probabilities are from the share that is right",
    ),
)


@dataclass(frozen=True)
class Names:
    """Names of classes, also for labels that have none."""

    names: Sequence[str]

    def __call__(self, label: int) -> str:
        """Return the name of a class."""
        if 0 <= label < len(self.names):
            return self.names[label]
        return "no label" if label < 0 else f"class {label}"


def names_of(page: Page) -> Names:
    """Return the names of the classes."""
    return Names(list(page.class_names or (page.evaluation or {}).get("class_names", ())))


def headline(page: Page) -> dict[str, Any] | None:
    """Return the accuracy with its interval, and in words."""
    test = page.evaluation or {}
    accuracy = test.get("accuracy")
    if accuracy is None or not is_number(accuracy):
        return None
    interval = (test.get("intervals") or {}).get("accuracy")
    return {
        "accuracy": percent(accuracy),
        "interval": span(interval),
        "words": of_a_hundred(accuracy, interval, int(test.get("n", len(page.pictures)))),
    }


def leaderboard(trials: Sequence[Mapping[str, Any]], metric: str = "accuracy") -> dict[str, Any] | None:
    """Return the best trials, the best of every head, and how the best score rose."""
    if not trials:
        return None
    share = metric != "log_loss"
    heads = list(dict.fromkeys(str(trial["head"]) for trial in trials))
    rows, met = [], set()
    for rank, trial in enumerate(trials, start=1):
        first = trial["head"] not in met
        met.add(trial["head"])
        if rank <= TOP_TRIALS or first:
            rows.append(
                {
                    "rank": rank,
                    "head": str(trial["head"]),
                    "first": first,
                    "colour": heads.index(str(trial["head"])),
                    "score": percent(trial.get("score"), 2) if share else number(_positive(trial.get("score"))),
                    "spread": "" if trial.get("spread") is None else f"± {(100 if share else 1) * trial['spread']:.2f}",
                    "fit": duration(trial.get("fit_seconds")),
                    "size": "–" if trial.get("size") is None else bytes_text(trial["size"]),
                    "parameters": parameters_lines(trial.get("parameters") or {}),
                }
            )
    count = len(trials)
    which = (
        f"The best of {counted(count, 'trial')}"
        if count > len(rows)
        else "The only trial"
        if count == 1
        else f"All {count:,} trials"
    )
    return {
        "rows": rows,
        "count": count,
        "which": f"{which}, by {METRIC_NAMES.get(metric, metric)} in validation",
        "chart": _search_chart(trials, heads, metric),
    }


def _positive(score: float | None) -> float | None:
    return None if score is None else -score


def _search_chart(trials: Sequence[Mapping[str, Any]], heads: Sequence[str], metric: str) -> Markup:
    timed = sorted(
        (t for t in trials if is_number(t.get("finished")) and is_number(t.get("score"))),
        key=lambda t: (t["finished"], t["score"]),
    )
    if len(timed) < 2:
        return Markup("")
    times: list[float] = []
    best: list[float] = []
    for trial in timed:
        times.append(float(trial["finished"]))
        best.append(max(float(trial["score"]), best[-1] if best else -math.inf))
    middle = statistics.median(float(t["score"]) for t in timed)
    lowest = best[-1] - max(_FAR * (best[-1] - middle), 0.05)
    drawn = [t for t in timed if t["score"] >= lowest]
    sign = -1 if metric == "log_loss" else 1
    lines = [Line("best so far", times, [sign * max(score, lowest) for score in best], "step", 6)]
    for i, head in enumerate(heads):
        own = [t for t in drawn if t["head"] == head]
        x, y = [t["finished"] for t in own], [sign * t["score"] for t in own]
        lines.append(Line(head, x, y, "dots", i if i < 6 else i + 1))
    name = METRIC_NAMES.get(metric, metric)
    axes = Axis("time since the search began", "time", low=0), Axis(f"validation {name}", "percent" if sign > 0 else "number")
    far = len(timed) - len(drawn)
    note = f" ({counted(far, 'trial')} far behind {'is' if far == 1 else 'are'} not drawn)" if far else ""
    return line_chart(f"Every trial, and the best so far{note}", lines, *axes)


def curves(found: Curves | None) -> list[Markup] | None:
    """Return the charts of loss and accuracy by epoch."""
    if found is None:
        return None

    def lines(train: Sequence[float], valid: Sequence[float]) -> list[Line]:
        epochs = range(found.first, found.first + max(len(train), len(valid)))
        drawn = [Line("training", epochs[: len(train)], train, "line", 0)]
        return [*drawn, *validation(epochs[: len(valid)], valid)]

    def validation(x: Sequence[float], y: Sequence[float]) -> list[Line]:
        # dashed, so that what lies below it where the two meet is seen
        drawn = [Line("validation", x, y, "dashed", 1)]
        if found.kept is not None and found.kept < len(y):
            drawn.append(Line("the weights that are kept", [x[found.kept]], [y[found.kept]], "star", 2))
        return drawn

    epochs = Axis("epoch", "count", low=found.first)
    charts = [
        line_chart("Loss", lines(found.train_loss, found.valid_loss), epochs, Axis("loss", low=0)),
        line_chart("Accuracy", lines(found.train_accuracy, found.valid_accuracy), epochs, Axis("accuracy", "percent")),
        line_chart(
            "Validation accuracy over time",
            validation([seconds for seconds, _ in found.over_time], [share for _, share in found.over_time]),
            Axis("time since the beginning", "time", low=0),
            Axis("accuracy", "percent"),
        ),
    ]
    return [chart for chart in charts if chart] or None


def scores(page: Page, name_of: Names) -> dict[str, Any] | None:
    """Return the scores of the test and of every class, with intervals."""
    test = page.evaluation
    if not test:
        return None
    intervals = test.get("intervals") or {}
    rows = [
        {
            "name": name,
            "value": percent(test[key]) if share else number(test[key]),
            "span": span(intervals.get(key), share=share),
            "bar": bar(test[key], intervals.get(key)) if key in {"accuracy", "balanced_accuracy", "auc"} else Markup(""),
            "meaning": meaning,
        }
        for key, name, share, meaning in SCORES
        if is_number(test.get(key))
    ]
    return {"rows": rows, "n": test.get("n"), "classes": _classes(test, name_of)}


def _classes(test: Mapping[str, Any], name_of: Names) -> list[dict[str, Any]]:
    precision, recall = list(test.get("precision") or ()), list(test.get("recall") or ())
    if not precision and not recall:
        return []
    confusion = test.get("confusion") or ()

    def score(values: Sequence[float | None], spans: Sequence[Sequence[float] | None] | None, i: int) -> dict[str, Any]:
        value = values[i] if i < len(values) else None
        interval = spans[i] if spans and i < len(spans) and value is not None else None
        return {"value": percent(value), "span": span(interval), "bar": bar(value, interval)}

    return [
        {
            "name": name_of(i),
            "count": f"{sum(confusion[i]):,}" if i < len(confusion) else "",
            "recall": score(recall, test.get("recall_intervals"), i),
            "precision": score(precision, test.get("precision_intervals"), i),
        }
        for i in range(max(len(precision), len(recall)))
    ]


def confusion(page: Page, name_of: Names, album: Album) -> dict[str, Any] | None:
    """Return the matrix, and for every cell that has pictures the pictures."""
    test = page.evaluation or {}
    counts = test.get("confusion")
    if not counts:
        return None
    matrix: Matrix = matrix_of(counts, page.pictures, test.get("confusion_intervals"))

    def panel(cell: Cell) -> dict[str, Any]:
        shown = len(cell.pictures)
        which = "least certain" if cell.right else "most certain"
        return {
            "cell": cell,
            "note": f"the {shown} {which}" if shown < cell.count else "",
            "shots": [
                album.shot(picture.file, picture.path, percent(picture.probability), wrong=not cell.right)
                for picture in cell.pictures
            ],
        }

    return {
        "matrix": matrix,
        "panels": [panel(cell) for cell in matrix.filled],
        "upright": len(matrix.classes) > 6,
        "label": lambda cell: cell_label(cell, name_of),
    }


def cell_label(cell: Cell, name_of: Names) -> str:
    """Return a cell in words: ``cat called dog: 12 photos (4.3 %; 95 %: 6 to 20 photos)``."""
    within = f"; 95{THIN}%: {text} photos" if (text := span(cell.interval, share=False)) else ""
    called = "rightly" if cell.right else name_of(cell.predicted)
    return f"{name_of(cell.true)} called {called}: {counted(cell.count, 'photo')} ({percent(cell.share)}{within})"


def mistakes(page: Page, name_of: Names, album: Album) -> dict[str, Any] | None:
    """Return the most confident mistakes; None if no test row is known."""
    if not page.pictures:
        return None
    wrong = [picture for picture in page.pictures if picture.true != picture.predicted]
    worst = sorted(wrong, key=lambda picture: (-round(picture.probability, 9), picture.path))[:MAX_MISTAKES]

    def shot(picture: Picture) -> Shot:
        said = f"is {name_of(picture.true)}", f"called {name_of(picture.predicted)}", f"{percent(picture.probability)} sure"
        return album.shot(picture.file, picture.path, *said, wrong=True)

    return {"count": len(wrong), "shots": [shot(picture) for picture in worst]}


def label_issues(page: Page, name_of: Names, album: Album) -> dict[str, Any] | None:
    """Return the photos whose label may be wrong; None if nothing is known of that."""
    if page.label_issues is None:
        return None
    shots = [
        album.shot(
            suspect.file,
            suspect.path,
            f"labelled {name_of(suspect.given)}",
            f"rather {name_of(suspect.suggested)}",
            f"{percent(suspect.probability)} sure",
            wrong=True,
        )
        for suspect in page.label_issues[:MAX_SUSPECTS]
    ]
    return {"count": len(page.label_issues), "shots": shots}


def calibration(page: Page) -> dict[str, Any] | None:
    """Return the reliability chart, and accuracy against the share answered."""
    view, test = page.calibration, (page.evaluation or {}).get("expected_calibration_error")
    if view is None:
        return None
    lines = [
        Line(
            name,
            [confidence for confidence, _, _ in bins],
            [accuracy for _, accuracy, _ in bins],
            "dots",
            colour,
            *_ends(intervals),
            sizes=[count for _, _, count in bins],
            hints=[
                f"{name}: {counted(int(count), 'photo')} with {percent(confidence)}, of which {percent(accuracy)} right"
                for confidence, accuracy, count in bins
            ],
        )
        for name, bins, intervals, colour in (
            ("before", view.before, view.before_intervals, 1),
            ("after", view.after, view.after_intervals, 0),
        )
    ]
    axis = Axis("probability given", "percent", high=1)
    known = [i for i, row in enumerate(view.coverage) if row[2] is not None]
    rows = [view.coverage[i] for i in known]
    low, high = _ends([view.coverage_intervals[i] for i in known] if view.coverage_intervals else ())
    answered = line_chart(
        "Answering only when sure",
        [
            Line(
                "",
                [share for _, share, _ in rows],
                [accuracy or 0.0 for _, _, accuracy in rows],
                "line",
                0,
            ),
            Line(
                "a threshold",
                [share for _, share, _ in rows],
                [accuracy or 0.0 for _, _, accuracy in rows],
                "dots",
                0,
                low,
                high,
                hints=[f"threshold {percent(t, 0)}: {percent(s)} answered, {percent(a)} of them right" for t, s, a in rows],
            ),
        ],
        Axis("share of photos answered", "percent", high=1),
        Axis("right among the answered", "percent", high=1),
    )
    reliable = line_chart(
        "Probability given, and how often it held", lines, axis, Axis("share right", "percent", high=1), diagonal=True
    )
    return {
        "factor": None if view.factor == 1 else number(view.factor),
        "before": percent(view.ece_before),
        "after": percent(view.ece_after),
        "test": percent(test) if is_number(test) else "",
        "charts": [chart for chart in (reliable, answered) if chart],
        "coverage": [(percent(t, 0), percent(share), percent(accuracy)) for t, share, accuracy in view.coverage],
        "sentence": _coverage_sentence(view.coverage),
    }


def _ends(intervals: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [low for low, _ in intervals], [high for _, high in intervals]


def _coverage_sentence(coverage: Sequence[tuple[float, float, float | None]]) -> str:
    known = [row for row in coverage if row[2] is not None]
    if not known:
        return ""
    threshold, share, accuracy = min(known, key=lambda row: abs(row[0] - 0.9))
    return (
        f"Where only answers with at least {percent(threshold, 0)} are taken, {percent(share)} of the photos are answered, "
        f"and {percent(accuracy)} of these answers are right."
    )


def duplicates(groups: Sequence[Duplicates] | None, album: Album) -> dict[str, Any] | None:
    """Return the groups of equal photos; None if nobody looked."""
    if groups is None:
        return None
    shown = sorted(groups, key=lambda group: -len(group.members))[:MAX_GROUPS]
    return {
        "count": len(groups),
        "photos": sum(len(group.members) for group in groups),
        "left_out": len(groups) - len(shown),
        "groups": [
            {
                "cause": group.cause,
                "count": len(group.members),
                "shots": [album.shot(file, path) for path, file in group.members[:MAX_MEMBERS]],
            }
            for group in shown
        ],
    }


def feature_map(view: FeatureMap2D | None, name_of: Names, album: Album) -> dict[str, Any] | None:
    """Return the map of features, its legend, and the pictures that only it shows."""
    if view is None or not len(view.x):
        return None
    extra: list[Shot] = []

    def thumbnail_of(i: int) -> str | None:
        item = (view.files[i], view.paths[i])
        if item in album:
            return str(album.key(*item))
        if len(extra) == MAX_ON_MAP:
            return None
        extra.append(album.shot(*item))
        return str(extra[-1].key)

    return {
        "svg": scatter(view, name_of, thumbnail_of),
        "legend": map_legend(view, name_of),
        "extra": extra,
        "method": view.method,
        "count": len(view.x),
        "told_apart": classes_told_apart(view.labels),
    }


def growth(view: GrowthView | None) -> dict[str, Any] | None:
    """Return how accuracy grows with the number of photos."""
    if view is None:
        return None
    lines = [Line("measured", view.sizes, view.accuracy, "dots", 0, view.low, view.high)]
    if view.fit:
        lines.insert(0, Line("fitted", [x for x, _ in view.fit], [y for _, y in view.fit], "dashed", 6))
    if view.twice is not None:
        size, accuracy, low, high = view.twice
        lines.append(Line("foreseen", [size], [accuracy], "dots", 1, [low], [high]))
    axes = Axis("training photos", "count", log=True), Axis("accuracy", "percent")
    chart = line_chart("Accuracy by number of training photos", lines, *axes)
    rows = [(f"{size:,.0f}", percent(accuracy), span((low, high))) for size, accuracy, low, high in _growth_rows(view)]
    return {"chart": chart, "sentence": view.sentence, "rows": rows, "foreseen": view.twice is not None}


def _growth_rows(view: GrowthView) -> list[tuple[float, float, float, float]]:
    ranged = len(view.low) == len(view.high) == len(view.sizes)
    missing = [float("nan")] * len(view.sizes)
    low, high = (view.low, view.high) if ranged else (missing, missing)
    return [*zip(view.sizes, view.accuracy, low, high, strict=True), *([view.twice] if view.twice else [])]
