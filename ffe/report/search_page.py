"""The page of a search: a Page -> one HTML file."""

from __future__ import annotations

import os

from ffe.base.output_file import check_output, write_output
from ffe.report import sections
from ffe.report.html import document
from ffe.report.thumbnails import Album
from ffe.report.values import Page


def write_page(path: str | os.PathLike[str], page: Page) -> int:
    """Write the page as one HTML file that needs nothing else; it is written beside its place, and renamed.

    Args:
        path: the HTML file; replaced if it exists.
        page: what it shows.

    Returns:
        Bytes written.

    Raises:
        ReportError: the place is a folder, lies in none, or cannot be written to.
    """
    place = check_output(path)
    return write_output(place, render(page).encode())


def render(page: Page) -> str:
    """Return the page as HTML that can be written as UTF-8; equal pages give equal text."""
    album, name_of = Album(), sections.names_of(page)
    context = {
        "page": page,
        "name_of": name_of,
        "headline": sections.headline(page),
        "leaderboard": sections.leaderboard(page.leaderboard, page.metric),
        "curves": sections.curves(page.curves),
        "scores": sections.scores(page, name_of),
        "confusion": sections.confusion(page, name_of, album),
        "mistakes": sections.mistakes(page, name_of, album),
        "label_issues": sections.label_issues(page, name_of, album),
        "calibration": sections.calibration(page),
        "duplicates": sections.duplicates(page.duplicates, album),
        "map": sections.feature_map(page.map, name_of, album),
        "growth": sections.growth(page.growth),
    }
    return document("page.html", context, album, "page.js")
