"""A Page -> the text of one HTML file. Nothing in it is loaded from elsewhere, and it says so to the browser."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ffe.base.text import counted, plain, prose, short_path
from ffe.report.thumbnails import Album


def document(template: str, context: Mapping[str, Any], album: Album, script: str = "") -> str:
    """Return a page from its template, once the pictures of its album are made.

    Args:
        template: a file beside ``page.html``.
        context: what it shows.
        album: its pictures.
        script: what runs in it; empty = none may.
    """
    album.make()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(
            context,
            album=album,
            style=Markup(_part("page.css")),
            script=Markup(script),
            policy="default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
            + (f"script-src 'sha256-{digest}'; " if script else "")
            + "base-uri 'none'; form-action 'none'",
        )
    )


def _environment() -> Environment:
    """Return templates that escape all they are given, and show only what can be shown."""
    environment = Environment(
        loader=PackageLoader("ffe.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else plain(value, 4000),
    )
    environment.filters |= {"prose": prose, "short_path": short_path, "plain": plain, "counted": counted}
    return environment


def _part(name: str) -> str:
    return files("ffe.report").joinpath("templates", name).read_text("utf-8").strip()
