"""The page of a search, a training or an evaluation: a Page -> one HTML file."""

from __future__ import annotations

import os

from ffe.base.output_file import check_output, write_output
from ffe.report import sections
from ffe.report.html import document
from ffe.report.thumbnails import Album
from ffe.report.values import Page
from ffe.wording.results import never_right_text


def write_page(path: str | os.PathLike[str], page: Page) -> int:
    """Write the page as one HTML file that needs nothing else, in the place of an older one; return its bytes."""
    return write_output(check_output(path), render(page).encode())


def render(page: Page) -> str:
    """Return the page as HTML that can be written as UTF-8; equal pages give equal text."""
    album, name_of = Album(), sections.names_of(page.class_names)
    context = {
        "page": page,
        "test": page.evaluation,
        "never_right": "" if page.evaluation is None else never_right_text(page.evaluation),
        "name_of": name_of,
        "leaderboard": sections.leaderboard(page.leaderboard, page.metric),
        "curves": sections.curves(page.curves),
        "confusion": sections.confusion(page, name_of, album),
        "mistakes": sections.mistakes(page, name_of, album),
        "label_issues": sections.label_issues(page, name_of, album),
        "calibration": sections.calibration(page),
        "duplicates": sections.duplicates(page.duplicates, album),
        "map": sections.feature_map(page.map, name_of, album),
        "growth": sections.learning_curve(page.learning_curve),
    }
    return document("page.html", context, album, "page.js")
