"""Values and a template -> one HTML file. Nothing in it is loaded from elsewhere, and it says so to the browser."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ffe.base.text import bytes_text, counted, duration, number, of_a_hundred, percent, plain, prose, short_path, span
from ffe.report.charts import bar
from ffe.report.thumbnails import Album
from ffe.wording.results import parameters_lines, rank_text


def document(template: str, context: Mapping[str, Any], album: Album, script: str = "") -> str:
    """Return a page from its template, once its pictures are made; ``script`` is the file that runs in it, empty = none may."""
    album.make()
    code = _part(script) if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    policy += (f"script-src 'sha256-{digest}'; " if script else "") + "base-uri 'none'; form-action 'none'"
    given = {"album": album, "style": Markup(_part("page.css")), "script": Markup(code), "policy": policy}
    return _environment().get_template(template).render(context, **given)


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
    filters = (prose, short_path, plain, counted, percent, number, span, duration, bytes_text, of_a_hundred)
    environment.filters |= {function.__name__: function for function in (*filters, parameters_lines, rank_text)}
    environment.globals["bar"] = bar
    return environment


def _part(name: str) -> str:
    return files("ffe.report").joinpath("templates", name).read_text("utf-8").strip()
