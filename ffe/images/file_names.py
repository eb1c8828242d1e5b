"""Names of files and classes: the same for people, though not for the machine."""

from __future__ import annotations

import os
from collections import UserDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ffe.base.columns import in_pieces, sorted_rows, zeros
from ffe.base.digests import KEY_BYTES, key_of
from ffe.base.text import composed

if TYPE_CHECKING:  # it is imported where it is needed: listing is part of the start of every command
    import numpy as np

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
                part = min(name for name in os.listdir(found) if composed(name) == composed(part))
            except (OSError, ValueError):  # no such folder, or no such name in it
                return path
        found /= part
    return found


class ByName(UserDict[str, _T]):
    """Values by name: those of the very name, else those of one that looks the same; of equal names the last counts."""

    def __init__(self, items: Iterable[tuple[str, _T]]) -> None:
        super().__init__(items)
        self._alike = {composed(name): name for name in self.data if not name.isascii()}

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.spelt(name) is not None

    def __missing__(self, name: str) -> _T:
        return self.data[self.spelt(name) or name]

    def spelt(self, name: str) -> str | None:
        """Return a name as it is spelt here; None = there is none like it."""
        if name in self.data:
            return name
        return None if name.isascii() else self._alike.get(composed(name))


def places_of(names: Sequence[str], among: Sequence[str]) -> np.ndarray:
    """Return where each name stands among others: int64 (N,), -1 = nowhere. On either side all are different.

    The very name goes first, as in ``ByName``; a place that no name has so is that of one that looks the same. Digests of the
    names lie in columns; where a name that is not ASCII has no place yet, all of ``among`` that are not are held in memory, too.
    """
    import numpy as np

    found, taken = zeros((len(names),), np.int64), zeros((len(among),), bool)
    keys = sorted_rows(map(key_of, among), KEY_BYTES, len(among))
    for place, wanted in in_pieces(map(key_of, names), keys["text"].dtype, len(names) if among else 0):
        at = keys[np.searchsorted(keys["text"], wanted) % len(keys)]
        same = at["text"] == wanted
        found[place], taken[at["position"][same]] = np.where(same, at["position"].astype(np.int64), -1), True
    if not among:
        found[:] = -1
    odd = [i for i in np.flatnonzero(found < 0).tolist() if not names[i].isascii()]
    if odd:
        alike = {composed(name): place for place, name in enumerate(among) if not (taken[place] or name.isascii())}
        found[odd] = [alike.pop(composed(names[i]), -1) for i in odd]
    return found
