"""The pictures of a page: asked for while it is laid out, made small all at once, each only once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ffe.report.thumbnails import Thumbnail, thumbnails


@dataclass(frozen=True)
class Shot:
    """A picture on the page with what stands below it.

    Attributes:
        key: its number in the album.
        path: its whole name.
        notes: short lines below it.
        wrong: whether it shows a mistake.
    """

    key: int
    path: str
    notes: tuple[str, ...] = ()
    wrong: bool = False


class Album:
    """Collects the pictures that a page shows."""

    def __init__(self) -> None:
        self._keys: dict[tuple[Path | None, str], int] = {}
        self._made: list[Thumbnail] = []

    def __contains__(self, item: tuple[Path | None, str]) -> bool:
        return item in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, file: Path | None, path: str) -> int:
        """Return the number of a picture; it is taken into the album if it is new."""
        return self._keys.setdefault((file, path), len(self._keys))

    def shot(self, file: Path | None, path: str, *notes: str, wrong: bool = False) -> Shot:
        """Return a picture with the lines below it."""
        return Shot(self.key(file, path), path, notes, wrong)

    def make(self) -> None:
        """Make all pictures that were asked for."""
        self._made = thumbnails(list(self._keys))

    def __getitem__(self, key: int) -> Thumbnail:
        return self._made[key]

    @property
    def gone(self) -> int:
        """Pictures that could not be shown."""
        return sum(not picture.found for picture in self._made)
