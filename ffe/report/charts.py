"""Numbers -> charts, as SVG that takes its colours and fonts from the page around it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from markupsafe import Markup, escape

from ffe.base.text import duration, is_number, number, percent, plain, shorten

COLOURS = 8  # .k0 to .k7 in page.css

_WIDTH, _HEIGHT = 420, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 36, 10, 46  # left: at the least; right: half of the longest label of a tick, "1 min 30 s"
_NAME, _DIGIT = 26, 7.4  # how wide the name of the upright axis is, with its gaps, and a letter of a tick in the larger font

Numbers = Sequence[float] | np.ndarray
Kind = Literal["line", "step", "dashed", "dots", "rings", "star"]


@dataclass(frozen=True, eq=False)
class Line:
    """One row of N points."""

    name: str  # for the legend
    # x, y: numbers; a point that is not finite is left out
    x: Numbers
    y: Numbers
    kind: Kind = "line"  # ``line``, ``step`` (holds until the next point), ``dashed``, ``dots``, ``rings``, or ``star``
    colour: int = 0  # in [0, COLOURS)
    # low, high: ends of the interval around each y; empty = none
    low: Numbers = ()
    high: Numbers = ()
    sizes: Numbers = ()  # how much each dot stands for; empty = all alike
    hints: Sequence[str] = ()  # words that are shown over each dot; empty = its numbers
    labels: Sequence[str] = ()  # what stands beside each point; empty = nothing


@dataclass(frozen=True)
class Axis:
    """What a direction means."""

    label: str  # in words
    unit: Literal["number", "count", "percent", "time"] = "number"  # how its numbers are written
    # low, high: where it ends at the latest, whatever the numbers are; None = where they end
    low: float | None = None
    high: float | None = None
    log: bool = False  # whether equal steps are equal factors

    def text(self, value: float, step: float = 0.0) -> str:
        """Return a number on this axis for people; with a step, with as many digits as its ticks need."""
        if self.unit == "time":
            return duration(value)
        if self.unit == "percent":
            return percent(value, min(3, max(0, -math.floor(math.log10(100 * step) + 1e-9)))) if step else percent(value)
        if step:
            return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
        return number(value)


def line_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis, *, diagonal: bool = False) -> Markup:
    """Return a ``<figure>`` of lines and dots on two axes, and of y = x if asked for; empty if there is no finite point."""
    shown = [line for line in map(_finite, lines) if line.x]
    if not shown:
        return Markup("")
    heights = [v for line in shown for v in (*line.y, *line.low, *line.high)]
    up = _scale(heights, y, _HEIGHT - _BOTTOM, _TOP)
    left = max(_LEFT, _NAME + max((_DIGIT * len(y.text(tick, up.step)) for tick in up.ticks), default=0.0))
    along = _scale([v for line in shown for v in line.x], x, left, _WIDTH - _RIGHT)
    parts = [_axes(along, up, x, y)]
    low, high = max(along.low, up.low), min(along.high, up.high)
    if diagonal and low < high:
        parts.append(f'<path class="even" d="M{along.at(low):.1f} {up.at(low):.1f}L{along.at(high):.1f} {up.at(high):.1f}"/>')
    parts += [_draw(line, along, up, x, y) for line in shown]
    parts += _labels(shown, along, up)
    said = "; ".join(
        f"{line.name}: {y.text(line.y[0])} at {x.text(line.x[0])}"
        + (f" to {y.text(line.y[-1])} at {x.text(line.x[-1])}" if len(line.x) > 1 else "")
        for line in shown[:12]
    )
    legend = "".join(
        f'<li><svg class="key k{line.colour % COLOURS}" viewBox="0 0 22 10" aria-hidden="true">{_KEYS[line.kind]}</svg>'
        f"{escape(plain(line.name, 60))}</li>"
        for line in shown
        if line.name
    )
    return Markup(
        f'<figure class="chart"><figcaption>{escape(plain(title))}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(plain(f"{title}. {said}", 1500))}">'
        f'{"".join(parts)}</svg><ul class="legend">{legend}</ul></figure>'
    )


def bar(value: float | None, interval: Sequence[float] | None = None, colour: int = 0) -> Markup:
    """Draw a share in [0, 1] as a bar, with a line for its interval; empty where there is none."""
    if value is None or not is_number(value):
        return Markup("")
    width = 100 * min(max(value, 0.0), 1.0)
    parts = f'<rect class="rail" width="100" height="10"/><rect class="fill" width="{width:.1f}" height="10"/>'
    if interval is not None and all(map(is_number, interval)):
        low, high = (100 * min(max(end, 0.0), 1.0) for end in interval)
        parts += f'<path class="whisker" d="M{low:.1f} 5H{high:.1f}M{low:.1f} 2V8M{high:.1f} 2V8"/>'
    return Markup(
        f'<svg class="bar k{colour % COLOURS}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{parts}</svg>'
    )


_KEYS = {
    "line": '<path d="M1 5H21"/>',
    "step": '<path d="M1 8H11V2H21"/>',
    "dashed": '<path class="dashed" d="M1 5H21"/>',
    "dots": '<circle cx="11" cy="5" r="4"/>',
    "rings": '<circle class="ring" cx="11" cy="5" r="4"/>',
    "star": '<path d="M11 0V10M7 2.5L15 7.5M7 7.5L15 2.5"/>',
}


class _Scale(NamedTuple):
    """Numbers -> places on the picture."""

    low: float
    high: float
    ticks: tuple[float, ...]
    step: float
    at: Callable[[float], float]


def _scale(values: Sequence[float], axis: Axis, start: float, end: float) -> _Scale:
    low, high = min(values), max(values)
    if axis.log and low > 0:
        return _log_scale(low, high, start, end)
    low = low if axis.low is None else min(low, axis.low)
    high = high if axis.high is None else max(high, axis.high)
    share = axis.unit == "percent" and low >= 0 and high <= 1
    if high <= low:
        margin = 0.05 if axis.unit == "percent" else abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
        if share:
            low, high = max(low, 0.0), min(high, 1.0)
    step = _nice((high - low) / 4, whole=axis.unit == "time")
    if axis.unit == "count":
        step = max(step, 1.0)
    least, most = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    if share:
        most = min(most, 1.0)
    count = math.floor((most - least) / step + 1e-9)
    ticks = tuple(round(least + i * step, 12) for i in range(count + 1))
    return _Scale(least, most, ticks, step, lambda value: start + (value - least) / (most - least) * (end - start))


def _log_scale(low: float, high: float, start: float, end: float) -> _Scale:
    low, high = low / 1.1, high * 1.1
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for leads in ((1, 2, 5), (1, 3), (1,)):
        ticks = [lead * 10.0**power for power in decades for lead in leads if low <= lead * 10.0**power <= high]
        if len(ticks) <= 7:
            break
    if len(ticks) < 2:  # they lie close together
        step = _nice((high - low) / 4)
        ticks = [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    ratio = math.log(high / low)
    return _Scale(low, high, tuple(ticks), 0.0, lambda value: start + math.log(value / low) / ratio * (end - start))


def _nice(step: float, *, whole: bool = False) -> float:
    """Return the least of 1, 2, 5 times a power of ten (for times also 15, 30, 60 ...) that is not below a step."""
    if whole and step > 10:
        for seconds in (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400):
            if step <= seconds:
                return seconds
    power = 10.0 ** math.floor(math.log10(step))
    return next(lead * power for lead in (1, 2, 5, 10) if step <= lead * power * (1 + 1e-9))


def _axes(along: _Scale, up: _Scale, x: Axis, y: Axis) -> str:
    floor, left = _HEIGHT - _BOTTOM, along.at(along.low)
    parts, end = list[str](), -math.inf
    for tick, place in zip(up.ticks, map(up.at, up.ticks), strict=True):
        parts.append(f'<path class="grid" d="M{left:.1f} {place:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="y" x="{left - 6:.1f}" y="{place + 4:.1f}">{escape(y.text(tick, up.step))}</text>')
    for tick, place in zip(along.ticks, map(along.at, along.ticks), strict=True):
        parts.append(f'<path class="grid" d="M{place:.1f} {floor}v4"/>')
        text = x.text(tick, along.step)
        half = _DIGIT * len(text) / 2
        if place - half >= end:  # else it would lie over the one before
            parts.append(f'<text class="x" x="{place:.1f}" y="{floor + 18}">{escape(text)}</text>')
            end = place + half
    centre, middle = (left + _WIDTH - _RIGHT) / 2, (_TOP + floor) / 2
    return (
        f'{"".join(parts)}<path class="axis" d="M{left:.1f} {floor}H{_WIDTH - _RIGHT}"/>'
        f'<text class="x name" x="{centre:.0f}" y="{_HEIGHT - 6}">{escape(x.label)}</text>'
        f'<text class="x name" transform="translate(11 {middle:.0f}) rotate(-90)">{escape(y.label)}</text>'
    )


def _finite(line: Line) -> Line:
    """Return a line without the points that cannot be drawn, as lists of numbers."""
    columns = {name: np.asarray(getattr(line, name), np.float64) for name in ("x", "y", "low", "high", "sizes")}
    keep = np.flatnonzero(np.isfinite(columns["x"]) & np.isfinite(columns["y"]))
    kept = {name: values[keep].tolist() if len(values) else [] for name, values in columns.items()}
    if len(line.low) != len(line.high) or not np.isfinite([*kept["low"], *kept["high"]]).all():
        kept |= {"low": [], "high": []}
    hints, labels = ([texts[i] for i in keep.tolist()] if texts else [] for texts in (line.hints, line.labels))
    return replace(line, **kept, hints=hints, labels=labels)


def _draw(line: Line, along: _Scale, up: _Scale, x: Axis, y: Axis) -> str:
    points = [(along.at(a), up.at(b)) for a, b in zip(line.x, line.y, strict=True)]
    hints = line.hints or [f"{line.name}: {y.text(b)} at {x.text(a)}" for a, b in zip(line.x, line.y, strict=True)]
    titles = [f"<title>{escape(plain(hint))}</title>" for hint in hints]
    parts = []
    ends = [(px, up.at(low), up.at(high)) for (px, _), low, high in zip(points, line.low, line.high, strict=False)]
    if line.kind in {"dots", "rings"}:
        for px, low, high in ends:
            parts.append(
                f'<path class="whisker" d="M{px:.1f} {low:.1f}V{high:.1f}M{px - 4:.1f} {low:.1f}h8M{px - 4:.1f} {high:.1f}h8"/>'
            )
    elif ends:
        edge = [(px, high) for px, _, high in ends] + [(px, low) for px, low, _ in ends][::-1]
        parts.append(f'<path class="band" d="M{_joined(edge)}Z"/>')
    if line.kind == "star":
        for (px, py), title in zip(points, titles, strict=True):
            arms = "".join(f"M{px - dx:.1f} {py - dy:.1f}L{px + dx:.1f} {py + dy:.1f}" for dx, dy in ((0, 6), (5, 3), (5, -3)))
            parts.append(f'<path d="{arms}">{title}</path>')
    elif line.kind in {"dots", "rings"} or len(points) == 1:
        ring = 'class="ring" ' if line.kind == "rings" else ""
        most = max(line.sizes, default=0) or 1
        radii = [2.5 + 4.5 * math.sqrt(max(size, 0) / most) for size in line.sizes] or [4.0] * len(points)
        for (px, py), radius, title in zip(points, radii, titles, strict=True):
            parts.append(f'<circle {ring}cx="{px:.1f}" cy="{py:.1f}" r="{radius:.1f}">{title}</circle>')
    elif line.kind == "step":
        steps = "".join(f"H{px:.1f}V{py:.1f}" for px, py in points[1:])
        parts.append(f'<path d="M{_joined(points[:1])}{steps}"/>')
    else:
        dashed = ' class="dashed"' if line.kind == "dashed" else ""
        parts.append(f'<path{dashed} d="M{_joined(points)}"/>')
    return f'<g class="k{line.colour % COLOURS}">{"".join(parts)}</g>'


_LETTER, _LABEL_HEIGHT = 6.6, 14.0  # how wide a letter of a label is on average, and how high a line
_LONGEST_LABEL = 24
Box = tuple[float, float, float, float]  # left, top, right, bottom


def _labels(lines: Sequence[Line], along: _Scale, up: _Scale) -> list[str]:
    """Return the labels of all points, each where it hides least of points, whiskers and other labels."""
    points = [
        (along.at(a), up.at(b), line, i)
        for line in lines
        if line.labels
        for i, (a, b) in enumerate(zip(line.x, line.y, strict=True))
    ]
    taken: list[Box] = [(px - 5, py - 5, px + 5, py + 5) for px, py, _, _ in points]
    taken += [(px - 1, up.at(line.high[i]), px + 1, up.at(line.low[i])) for px, _, line, i in points if line.low]
    for line in lines:
        if line.kind == "step":
            corners = [(along.at(a), up.at(b)) for a, b in zip(line.x, line.y, strict=True)]
            for (ax, ay), (bx, by) in itertools.pairwise(corners):
                taken += [(min(ax, bx), ay - 2, max(ax, bx), ay + 2), (bx - 2, min(ay, by), bx + 2, max(ay, by))]
    parts, written, edge = [], list[Box](), along.at(along.low)
    for px, py, line, i in sorted(points, key=lambda point: point[:2]):
        text = shorten(plain(line.labels[i]), _LONGEST_LABEL)
        width = _LETTER * len(text)
        places: list[Box] = []
        for rise in sorted((half / 2 for half in range(-10, 11)), key=abs):
            top = py - _LABEL_HEIGHT / 2 + rise * _LABEL_HEIGHT
            places += [(left, top, left + width, top + _LABEL_HEIGHT) for left in (px + 8, px - 8 - width)]
        box = min(places, key=lambda box: _hidden(box, written, taken) + 4 * abs(_middle(box) - py) + 1000 * _outside(box, edge))
        written.append(box)
        x, anchor = (box[0], "start") if box[0] > px else (box[2], "end")
        if abs(_middle(box) - py) > _LABEL_HEIGHT / 2:  # so far away that a line must say whose it is
            parts.append(f'<path class="leader" d="M{px:.1f} {py:.1f}L{x:.1f} {_middle(box):.1f}"/>')
        parts.append(f'<text class="label" text-anchor="{anchor}" x="{x:.1f}" y="{box[1] + 11:.1f}">{escape(text)}</text>')
    return parts


def _middle(box: Box) -> float:
    return (box[1] + box[3]) / 2


def _hidden(box: Box, written: Sequence[Box], drawn: Sequence[Box]) -> float:
    """Return how much a label would hide: other labels count most."""
    return 1000 * sum(_shared(box, other) for other in written) + sum(_shared(box, other) for other in drawn)


def _shared(one: Box, other: Box) -> float:
    """Return the area that two boxes share."""
    wide, high = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)


def _outside(box: Box, edge: float) -> float:
    """Return how far a box reaches beyond the picture's plane, whose left ``edge`` is given."""
    left, top, right, bottom = box
    edges = (edge - left, right - _WIDTH, _TOP - 8 - top, bottom - (_HEIGHT - _BOTTOM))
    return sum(max(0.0, beyond) for beyond in edges)


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
