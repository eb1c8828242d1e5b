"""Points on a plane -> a map as SVG: one colour and shape for each class, mistakes ringed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup, escape

from ffe.base.text import counted, plain
from ffe.report.charts import COLOURS
from ffe.report.values import FeatureMap2D

SHAPES = 5  # with eight colours: forty classes that look different
_WIDTH, _HEIGHT, _MARGIN = 840, 560, 14

# drawn around the origin
_OUTLINES = (
    '<circle r="3.6"/>',
    '<path d="M-3.3-3.3h6.6v6.6h-6.6z"/>',
    '<path d="M0-4.4 4.2 3H-4.2z"/>',
    '<path d="M0-4.8 4.1 0 0 4.8-4.1 0z"/>',
    '<path d="M-1.5-4.4h3v2.9h2.9v3h-2.9v2.9h-3v-2.9h-2.9v-3h2.9z"/>',
)


def scatter(view: FeatureMap2D, name_of: Callable[[int], str], thumbnail_of: Callable[[int], str | None]) -> Markup:
    """Draw the map of features.

    Args:
        view: the points.
        name_of: label -> name of the class.
        thumbnail_of: number of a point -> id of the ``<img>`` that shows it, or None; asked for mistakes only.

    Returns:
        An ``<svg>``; empty if no point is finite.
    """
    x, y = np.asarray(view.x, np.float64), np.asarray(view.y, np.float64)
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not len(known):
        return Markup("")
    px, py = _place(x, known, _MARGIN, _WIDTH - _MARGIN), _place(y, known, _HEIGHT - _MARGIN, _MARGIN)
    wrong = np.zeros(len(x), bool) if view.correct is None else ~np.asarray(view.correct, bool)
    right = [int(i) for i in known if not wrong[i]]
    missed = [int(i) for i in known if wrong[i]]
    points = "".join(_point(view, i, px[i], py[i], name_of) for i in right)
    rings = "".join(_mistake(view, i, px[i], py[i], name_of, thumbnail_of(i)) for i in missed)
    ringed = counted(len(missed), "mistake is", "mistakes are")
    said = f"Map of {counted(len(known), 'photo')} by their features, made with {view.method}; {ringed} ringed."
    return Markup(
        f'<svg class="map" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(plain(said))}"><defs>'
        + "".join(f'<g id="shape{i}" class="shape">{outline}</g>' for i, outline in enumerate(_OUTLINES))
        + f"</defs>{points}{rings}</svg>"
    )


def map_legend(view: FeatureMap2D, name_of: Callable[[int], str]) -> Markup:
    """Return the legend of a map: the classes that are on it, and how mistakes look."""
    labels = np.asarray(view.labels, np.int64)
    items = "".join(
        f"<li>{_sample(label)}<bdi>{escape(plain(name_of(label), 60))}</bdi> <small>{int((labels == label).sum()):,}</small></li>"
        for label in sorted(set(labels.tolist()))
    )
    if view.correct is not None and not np.all(view.correct):
        items += (
            '<li><svg class="key" viewBox="-9 -9 18 18" aria-hidden="true"><circle class="ring" r="7.5"/></svg>'
            f"mistake <small>{int((~np.asarray(view.correct, bool)).sum()):,}</small></li>"
        )
    return Markup(f'<ul class="legend">{items}</ul>')


def _sample(label: int) -> str:
    return f'<svg class="key {_colour(label)}" viewBox="-9 -9 18 18" aria-hidden="true">{_OUTLINES[label % SHAPES]}</svg>'


def _colour(label: int) -> str:
    return f"k{label % COLOURS}" if label >= 0 else "none"


def _place(values: np.ndarray, known: np.ndarray, start: float, end: float) -> np.ndarray:
    low, high = float(values[known].min()), float(values[known].max())
    if high <= low:
        return np.full(len(values), (start + end) / 2)
    return start + (values - low) / (high - low) * (end - start)


def _point(view: FeatureMap2D, i: int, x: float, y: float, name_of: Callable[[int], str]) -> str:
    label = int(view.labels[i])
    return (
        f'<use class="{_colour(label)}" href="#shape{label % SHAPES}" x="{x:.1f}" y="{y:.1f}">'
        f"<title>{escape(plain(view.paths[i], 120))}</title></use>"
    )


def _mistake(view: FeatureMap2D, i: int, x: float, y: float, name_of: Callable[[int], str], thumbnail: str | None) -> str:
    label = int(view.labels[i])
    shown = f' data-picture="{escape(thumbnail)}"' if thumbnail is not None else ""
    title = f"{plain(view.paths[i], 120)} (mistake; labelled {plain(name_of(label), 60)})"
    return (
        f'<g class="miss" transform="translate({x:.1f} {y:.1f})"{shown}><title>{escape(title)}</title>'
        f'<circle class="ring" r="7.5"/><use class="{_colour(label)}" href="#shape{label % SHAPES}"/></g>'
    )


def classes_told_apart(labels: Sequence[int] | np.ndarray) -> bool:
    """Return whether every class on a map has a colour and shape of its own."""
    return len({(int(label) % COLOURS, int(label) % SHAPES) for label in labels}) == len({int(label) for label in labels})
