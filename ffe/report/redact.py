"""A page of ours without some of its photos: their pictures, names and points on maps are taken out."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

PAGE_LENGTHS = (200, 120)  # what names are shortened to: below pictures, and on maps
_FIGURE = re.compile(r'<li><figure class="[^"]*" title="([^"]*)">.*?</figure></li>\n?', re.DOTALL)
_POINT = re.compile(r"<use [^>]*><title>([^<]*)</title></use>")
_MISTAKE = re.compile(r'<g class="miss"[^>]*><title>([^<]*)</title>.*?</g>')
_LINE = re.compile(r'<tr><td class="parameters"><bdi>([^<]*)</bdi></td>.*?</tr>\n?', re.DOTALL)
_PHOTOS = (_FIGURE, _POINT, _MISTAKE, _LINE)
_KEY = re.compile(r'data-picture="(\d+)"')


def photos_in_page(text: str) -> set[str]:
    """Return the names of all photos that a page shows or lists, as it writes them: long ones are shortened."""
    return {_name(found) for pattern in _PHOTOS for found in pattern.finditer(text)}


def without_photos(text: str, wanted: Callable[[str], bool]) -> str:
    """Return a page without the photos whose names, as the page writes them, are wanted; counts and scores stay as they were."""
    keys: set[str] = set()

    def drop(found: re.Match[str]) -> str:
        if not wanted(_name(found)):
            return found[0]
        keys.update(_KEY.findall(found[0]))
        return ""

    for pattern in _PHOTOS:
        text = pattern.sub(drop, text)
    if not keys:
        return text
    return re.sub(rf'<img [^>]*data-picture="(?:{"|".join(sorted(keys))})"[^>]*>', "", text)


def _name(found: re.Match[str]) -> str:
    name = html.unescape(found[1])
    return name.rsplit(" (mistake; labelled ", 1)[0] if found.re is _MISTAKE else name
