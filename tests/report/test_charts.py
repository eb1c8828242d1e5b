"""Charts: what is drawn, and that nothing breaks them."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from ffe.report.charts import Axis, Line, bar, line_chart
from ffe.report.projection import Projection
from ffe.report.scatter import classes_told_apart, map_legend, scatter

X, Y = Axis("epoch", "count"), Axis("accuracy", "percent")


def parsed(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(markup)


def texts(chart: ElementTree.Element, kind: str) -> list[str]:
    return ["".join(t.itertext()).replace("\u202f", " ") for t in chart.iter("text") if t.get("class") == kind]


def inside(chart: ElementTree.Element) -> bool:
    """Whether all that is drawn lies on the picture."""
    numbers = [float(n) for path in chart.iter("path") for n in re.findall(r"-?[\d.]+", path.get("d") or "")]
    return all(math.isfinite(n) and -10 <= n <= 430 for n in numbers)


def test_a_line_chart_has_a_title_axes_a_legend_and_words() -> None:
    lines = [Line("training", [1, 2, 3], [0.5, 0.8, 0.9]), Line("validation", [1, 2, 3], [0.4, 0.6, 0.7], "dots", 1)]
    chart = parsed(line_chart("Accuracy", lines, X, Y))
    assert chart.findtext("figcaption") == "Accuracy"
    assert texts(chart, "x") == ["1", "2", "3"]
    assert texts(chart, "y") == ["40 %", "60 %", "80 %", "100 %"]
    assert texts(chart, "x name") == ["epoch", "accuracy"]
    assert ["".join(li.itertext()) for li in chart.iter("li")] == ["training", "validation"]
    figure = chart.find("svg")
    assert figure is not None
    assert figure.get("role") == "img"
    label = (figure.get("aria-label") or "").replace("\u202f", " ")
    assert label == "Accuracy. training: 50.0 % at 1 to 90.0 % at 3; validation: 40.0 % at 1 to 70.0 % at 3"
    titles = [title.text.replace("\u202f", " ") for title in chart.iter("title") if title.text]
    assert titles == ["validation: 40.0 % at 1", "validation: 60.0 % at 2", "validation: 70.0 % at 3"]
    assert inside(chart)


@pytest.mark.parametrize(
    "y",
    [[0.5, math.nan, 0.7], [1e-12, 1e12, 0], [5, 5, 5], [0, 0, 0], [-1, -2, -3], [1, 1, math.inf], [0.99991, 0.99992, 0.99993]],
)
@pytest.mark.parametrize("unit", ["number", "count", "percent", "time"])
@pytest.mark.parametrize("kind", ["line", "step", "dashed", "dots"])
def test_any_numbers_can_be_drawn(y: list[float], unit: str, kind: str) -> None:
    chart = parsed(line_chart("x", [Line("a", [1, 2, 3], y, kind)], Axis("x", log=True), Axis("y", unit)))  # type: ignore[arg-type]
    assert inside(chart)
    assert 1 <= len(texts(chart, "y")) <= 8


@pytest.mark.parametrize("count", [1, 2, 7, 33, 480, 12345])
def test_ticks_are_few_round_and_different(count: int) -> None:
    chart = parsed(line_chart("x", [Line("a", range(1, count + 1), np.linspace(0.9, 0.91, count))], X, Y))
    for kind in ("x", "y"):
        ticks = texts(chart, kind)
        assert 1 <= len(ticks) <= 8
        assert len(set(ticks)) == len(ticks)


def test_one_point_is_a_dot_and_no_point_is_nothing() -> None:
    assert len(list(parsed(line_chart("x", [Line("a", [1], [0.5])], X, Y)).iter("circle"))) == 1
    assert line_chart("x", [Line("a", [1], [math.nan]), Line("b", [], [])], X, Y) == ""
    assert line_chart("x", [], X, Y) == ""


def test_shares_that_are_all_the_same_stay_between_none_and_all() -> None:
    ticks = [texts(parsed(line_chart("x", [Line("a", [1, 2], [share, share])], X, Y)), "y") for share in (1, 0)]
    assert [ticks[0][-1], ticks[1][0]] == ["100 %", "0 %"]


def test_a_star_is_a_mark_of_its_own() -> None:
    lines = [Line("all", [0, 1], [0.5, 0.6]), Line("kept", [0], [0.5], "star", 2)]
    chart = parsed(line_chart("x", lines, X, Y))
    assert [title.text for title in chart.iter("title")] == ["kept: 50.0\u202f% at 0"]
    assert not list(chart.iter("circle"))
    assert inside(chart)


def test_intervals_are_whiskers_on_dots_and_a_band_on_lines() -> None:
    ends = Line("a", [1, 2], [0.5, 0.6], "dots", 0, [0.4, 0.5], [0.6, 0.7])
    assert line_chart("x", [ends], X, Y).count('class="whisker"') == 2
    assert line_chart("x", [replace(ends, kind="line")], X, Y).count('class="band"') == 1
    assert "whisker" not in line_chart("x", [replace(ends, low=[0.4, math.nan])], X, Y)


def test_charts_escape_what_they_show() -> None:
    name = "<b>&\"'"
    chart = line_chart(name, [Line(name, [1, 2], [0.5, 0.6], "dots", hints=[name, name])], X, Y)
    assert "<b>" not in chart
    assert [li.text or "" for li in parsed(chart).iter("title")] == [name, name]


def test_times_have_round_ticks() -> None:
    chart = parsed(line_chart("x", [Line("a", [0, 1700], [0.5, 0.6])], Axis("time", "time", low=0), Y))
    assert texts(chart, "x") == ["0 s", "10 min", "20 min", "30 min"]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([43, 46], ["40", "45", "50"]),
        ([5.6, 5.7], ["5.5", "6"]),
        ([0.31, 0.32], ["0.3", "0.32", "0.34"]),
        ([4, 400], ["5", "10", "20", "50", "100", "200"]),
    ],
)
def test_a_logarithmic_axis_has_two_ticks_at_least(values: list[float], ticks: list[str]) -> None:
    chart = parsed(line_chart("x", [Line("a", values, [0.5, 0.6], "dots")], Axis("rate", log=True), Y))
    assert texts(chart, "x") == ticks


@pytest.mark.parametrize("x", [Axis("t", "time", low=0), Axis("t", "count", log=True)])
@pytest.mark.parametrize("heights", [[0.9751, 0.9899], [0.02312, 0.02344], [12_345.0, 98_765.0]])
def test_no_name_or_label_lies_over_another(x: Axis, heights: list[float]) -> None:
    """Letters of the labels are 7.4 units wide at the most, and the name of the upright axis ends at 14."""
    y = Axis("accuracy", "percent" if max(heights) < 1 else "number")
    chart = parsed(line_chart("x", [Line("a", [200, 17_000], heights)], x, y))
    upright = [t for t in chart.iter("text") if t.get("class") == "y"]
    assert min(float(t.get("x", "")) - 7.4 * len(t.text or "") for t in upright) >= 14
    along = [(float(t.get("x", "")), 3.7 * len(t.text or "")) for t in chart.iter("text") if t.get("class") == "x"]
    assert len(along) >= 4
    assert all(a + half <= b - other for (a, half), (b, other) in itertools.pairwise(along))


def test_a_bar_is_as_long_as_its_share() -> None:
    rects = list(parsed(bar(0.25, (0.1, 1.2))).iter("rect"))
    assert [rect.get("width") for rect in rects] == ["100", "25.0"]
    assert 'd="M10.0 5H100.0' in bar(0.25, (0.1, 1.2))
    assert "whisker" not in bar(0.25)
    assert "whisker" not in bar(0.25, (0.1, math.nan))
    assert bar(None) == bar(math.nan) == ""


def projection(count: int = 6, classes: int = 3) -> Projection:
    places = np.arange(count, dtype=np.float32)
    labels = np.arange(count) % classes
    return Projection(
        np.stack([places, -places], axis=1), labels, labels != 1, [f"p{i}<&" for i in range(count)], [None] * count, "PCA"
    )


def test_a_map_has_a_point_for_every_photo_and_a_ring_for_every_mistake() -> None:
    asked: list[int] = []
    drawn = parsed(scatter(projection(), lambda label: "abc"[label], lambda i: asked.append(i) or str(i)))  # type: ignore[func-returns-value]
    assert len(list(drawn.iter("use"))) == 6
    missed = [g for g in drawn.iter("g") if g.get("class") == "miss"]
    assert [g.get("data-picture") for g in missed] == ["1", "4"]
    assert asked == [1, 4]
    assert [g.findtext("title") for g in missed] == ["p1<& (mistake; labelled b)", "p4<& (mistake; labelled b)"]
    assert drawn.get("aria-label") == "Map of 6 photos by their features, made with PCA; 2 mistakes are ringed."
    legend = ["".join(li.itertext()) for li in parsed(map_legend(projection(), lambda label: "abc"[label])).iter("li")]
    assert legend == ["a 2", "b 2", "c 2", "mistake in validation or test 2"]


def test_a_map_leaves_out_points_that_are_nowhere() -> None:
    places = np.asarray([[0, 0], [np.nan, 0], [2, 1], [3, 0], [np.inf, 1], [5, 0]], np.float32)
    assert scatter(replace(projection(), points=places, correct=np.ones(6, bool)), str, lambda i: None).count("<use ") == 4
    assert scatter(replace(projection(1), points=np.full((1, 2), np.nan)), str, lambda i: None) == ""
    assert scatter(replace(projection(2), points=np.zeros((2, 2))), str, lambda i: None).count("<use ") == 2


def test_forty_classes_look_different() -> None:
    assert classes_told_apart(np.arange(40))
    assert not classes_told_apart(np.arange(41))
