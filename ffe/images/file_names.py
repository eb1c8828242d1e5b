"""Names of files and classes: the same for people, though not for the machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

from ffe.base.text import composed

_T = TypeVar("_T")


def printable(path: str) -> str:
    """Return a path as valid text: bytes that are no UTF-8 show as ``\\xe9``."""
    if path.isascii():
        return path
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_text(path: str) -> bool:
    """Return whether all bytes of a path are UTF-8, so that it can be stored as text."""
    return path.isascii() or printable(path) == path


def on_disk(path: Path) -> Path:
    """Return a path as the disk spells it, in whichever form of Unicode; one that is not there comes back as it was."""
    text = os.fspath(path)
    if text.isascii() or os.path.lexists(text):
        return path
    found = Path(path.anchor)
    for part in path.parts[1 if path.anchor else 0 :]:
        if not part.isascii() and not os.path.lexists(found / part):
            try:
                alike = sorted(name for name in os.listdir(found) if composed(name) == composed(part))
            except OSError:
                return path
            if not alike:
                return path
            part = alike[0]
        found /= part
    return found


class ByName(Generic[_T]):
    """Values by name: those of the very name, else those of one that looks the same; of equal names the last counts."""

    def __init__(self, items: Iterable[tuple[str, _T]]) -> None:
        self._exact = dict(items)
        self._alike = {composed(name): name for name in self._exact if not name.isascii()}

    def __contains__(self, name: str) -> bool:
        return self.spelt(name) is not None

    def items(self) -> Iterable[tuple[str, _T]]:
        """Return each name and its value, in the order in which they came."""
        return self._exact.items()

    def spelt(self, name: str) -> str | None:
        """Return a name as it is spelt here; None = there is none like it."""
        if name in self._exact:
            return name
        return None if name.isascii() else self._alike.get(composed(name))

    def get(self, name: str) -> _T | None:
        """Return the value of a name, or None."""
        spelt = self.spelt(name)
        return None if spelt is None else self._exact[spelt]
