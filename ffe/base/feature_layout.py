"""How the features of one image lie in a row of a feature file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Part:
    """What one layer gives of an image: tokens before the grid, then the cells of the grid, row by row; channels innermost."""

    height: int
    width: int
    channels: int
    prefix: int = 0  # tokens before the grid, of a transformer: the class token first, then registers

    @property
    def dims(self) -> int:
        """Values of an image."""
        return (self.prefix + self.height * self.width) * self.channels


@dataclass(frozen=True)
class FeatureLayout:
    """The parts of a row, side by side: one for each layer whose output was taken."""

    parts: tuple[Part, ...]

    @property
    def dims(self) -> int:
        """Values of a row."""
        return sum(part.dims for part in self.parts)

    @property
    def channels(self) -> int:
        """Values that are left of a row where each part is averaged over its grid."""
        return sum(part.channels for part in self.parts)

    def to_json(self) -> list[Any]:
        """Return [h, w, c] for one grid without tokens, as in older files; else [h, w, c, prefix] for each part."""
        if len(self.parts) == 1 and not self.parts[0].prefix:
            return list(astuple(self.parts[0])[:3])
        return [list(astuple(part)) for part in self.parts]

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Rebuild a layout; a ValueError where it is none."""
        parts = value if isinstance(value, Sequence) and value and isinstance(value[0], Sequence) else [value]
        found = []
        for numbers in parts:
            if not isinstance(numbers, Sequence) or len(numbers) not in {3, 4} or not all(type(n) is int for n in numbers):
                raise ValueError(f"layout {value!r}")
            part = Part(*numbers)
            if min(numbers[:3]) < 1 or part.prefix < 0:
                raise ValueError(f"layout {value!r}")
            found.append(part)
        return cls(tuple(found))
