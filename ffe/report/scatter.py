"""Points on a plane -> a map as SVG: one colour and shape for each class, mistakes ringed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from markupsafe import Markup, escape

from ffe.base.text import counted, plain
from ffe.report.charts import COLOURS
from ffe.report.projection import Projection

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


def scatter(found: Projection, name_of: Callable[[int], str], thumbnail_of: Callable[[int], str | None]) -> Markup:
    """Return the map of features as ``<svg>``; empty if no point is finite.

    Of a mistake, ``thumbnail_of`` the number of its point is the id of the ``<img>`` that shows it, or None.
    """
    places = np.asarray(found.points, np.float64)
    known = np.flatnonzero(np.isfinite(places).all(axis=1))
    if not len(known):
        return Markup("")
    px, py = _place(places[:, 0], known, _MARGIN, _WIDTH - _MARGIN), _place(places[:, 1], known, _HEIGHT - _MARGIN, _MARGIN)
    labels, missed = found.labels.tolist(), known[~found.correct[known]].tolist()

    def look(i: int) -> str:
        return f'class="{_colour(labels[i])}" href="#shape{labels[i] % SHAPES}"'

    def point(i: int) -> str:
        title = escape(plain(found.paths[i], 120))
        return f'<use {look(i)} x="{px[i]:.1f}" y="{py[i]:.1f}"><title>{title}</title></use>'

    def mistake(i: int) -> str:
        thumbnail = thumbnail_of(i)
        shown = f' data-picture="{escape(thumbnail)}"' if thumbnail is not None else ""
        title = f"{plain(found.paths[i], 120)} (mistake; labelled {plain(name_of(labels[i]), 60)})"
        return (
            f'<g class="miss" transform="translate({px[i]:.1f} {py[i]:.1f})"{shown}><title>{escape(title)}</title>'
            f'<circle class="ring" r="7.5"/><use {look(i)}/></g>'
        )

    points = "".join(map(point, known[found.correct[known]].tolist()))
    rings = "".join(map(mistake, missed))
    ringed = counted(len(missed), "mistake is", "mistakes are")
    said = f"Map of {counted(len(known), 'photo')} by their features, made with {found.method}; {ringed} ringed."
    return Markup(
        f'<svg class="map" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(plain(said))}"><defs>'
        + "".join(f'<g id="shape{i}" class="shape">{outline}</g>' for i, outline in enumerate(_OUTLINES))
        + f"</defs>{points}{rings}</svg>"
    )


def map_legend(found: Projection, name_of: Callable[[int], str]) -> Markup:
    """Return the legend of a map: the classes that are on it, and how mistakes look."""
    key = '<svg class="{}" viewBox="-9 -9 18 18" aria-hidden="true">{}</svg>'
    items = [
        f"{key.format(f'key {_colour(label)}', _OUTLINES[label % SHAPES])}"
        f"<bdi>{escape(plain(name_of(label), 60))}</bdi> <small>{count:,}</small>"
        for label, count in zip(*(column.tolist() for column in np.unique(found.labels, return_counts=True)), strict=True)
    ]
    if not found.correct.all():
        ring = key.format("key", '<circle class="ring" r="7.5"/>')
        items.append(f"{ring}mistake in validation or test <small>{(~found.correct).sum():,}</small>")
    return Markup(f'<ul class="legend">{"".join(f"<li>{item}</li>" for item in items)}</ul>')


def _colour(label: int) -> str:
    return f"k{label % COLOURS}" if label >= 0 else "none"


def _place(values: np.ndarray, known: np.ndarray, start: float, end: float) -> np.ndarray:
    low, high = float(values[known].min()), float(values[known].max())
    if high <= low:
        return np.full(len(values), (start + end) / 2)
    return start + (values - low) / (high - low) * (end - start)


def classes_told_apart(labels: np.ndarray) -> bool:
    """Return whether every class on a map has a colour and shape of its own."""
    different = np.unique(labels).tolist()
    return len({(label % COLOURS, label % SHAPES) for label in different}) == len(different)
