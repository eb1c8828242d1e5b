"""Addresses of what lies on other machines, such as ``s3://bucket/photos``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ffe.redaction import redacted

_URL = re.compile(r"([a-z0-9]+::)*[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib leaves one slash of two; one letter is a drive of Windows


def is_url(path: object) -> bool:
    """Return whether a path is a URL, or several in each other (``zip://photos::s3://bucket/photos.zip``)."""
    return isinstance(path, str) and _URL.match(path) is not None


def path_or_url(source: str | os.PathLike[str]) -> Path | str:
    """Return a URL as it is, and anything else as a path."""
    source = local_file(source)
    return str(source) if is_url(source) else Path(source)


def local_file(url: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return what ``file://`` or ``local://`` names as a path of this machine; anything else as it is."""
    if isinstance(url, str) and "::" not in url:
        for start in ("file://", "local://"):
            if url.startswith(start):
                return url.removeprefix(start)
    return url


class UrlPath(str):
    """The URL of a folder, or of what lies in one, without its secrets; parts are put behind it as behind a ``Path``."""

    __slots__ = ()

    def __truediv__(self, name: str) -> UrlPath:
        return UrlPath(redacted(url_below(self, name)))


Place = Path | UrlPath  # where a source lies


def url_below(root: str, name: str) -> str:
    """Return the URL of something in the folder of a URL; a ``name`` that is a URL itself stays."""
    if is_url(name):
        return name
    first, chained, rest = root.partition("::")
    return f"{first if first.endswith('://') else first.rstrip('/') + '/'}{name}{chained}{rest}"


def url_parent(url: str) -> str:
    """Return the URL of the folder in which a file lies."""
    first, chained, rest = url.partition("::")
    start, slashes, path = first.partition("://")
    return f"{start}{slashes}{path.partition('?')[0].rstrip('/').rpartition('/')[0]}{chained}{rest}"


def url_name(url: str) -> str:
    """Return the last part of what a URL names: ``1.jpg`` of ``https://host/cat/1.jpg?width=300``."""
    path = url.partition("::")[0].partition("#")[0]
    if path.startswith(("http://", "https://")):
        path = path.partition("?")[0]
    return path.rstrip("/").rpartition("/")[2]
