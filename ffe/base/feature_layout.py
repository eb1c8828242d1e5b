"""How the features of one image lie in a row of a feature file."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Self

from ffe.base.text import counted


@dataclass(frozen=True)
class Part:
    """What one layer gives of an image: tokens before the grid, then the cells of the grid, row by row; channels innermost."""

    height: int
    width: int
    channels: int
    prefix: int = 0  # tokens before the grid, of a transformer: the class token first, if there is one, then registers
    class_token: bool = True  # whether the first of these is the class token; always False where there are none

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_token", self.class_token and self.prefix > 0)

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

    @property
    def columns(self) -> list[slice]:
        """Where each part lies in a row."""
        ends = list(itertools.accumulate(part.dims for part in self.parts))
        return [slice(end - part.dims, end) for part, end in zip(self.parts, ends, strict=True)]

    @property
    def grid(self) -> tuple[int, int, int] | None:
        """(h, w, c) where a row is one grid without tokens; else None."""
        part = self.parts[0]
        return (part.height, part.width, part.channels) if len(self.parts) == 1 and not part.prefix else None

    def __str__(self) -> str:
        """Say it in words: ``7x7x1280``, ``257 tokens of 384 (class token, 16x16)``, ``2 layers: 14x14x256; 7x7x1280``."""
        texts = []
        for part in self.parts:
            grid, registers = f"{part.height}x{part.width}", part.prefix - part.class_token
            if not part.prefix:
                texts.append(f"{grid}x{part.channels}")
                continue
            before = ["class token"] * part.class_token + [counted(registers, "register")] * (registers > 0)
            inside = ", ".join([*before, grid])
            texts.append(f"{part.prefix + part.height * part.width} tokens of {part.channels} ({inside})")
        return texts[0] if len(texts) == 1 else f"{counted(len(texts), 'layer')}: {'; '.join(texts)}"

    def to_json(self) -> list[Any]:
        """Return [h, w, c] for one grid without tokens, as in older files; else [h, w, c, prefix] for each part.

        Where some part has tokens before its grid and no class token, each has a fifth value: 1 with a class token, 0 without.
        """
        if self.grid is not None:
            return list(self.grid)
        usual = all(part.class_token or not part.prefix for part in self.parts)
        return [[int(n) for n in astuple(part)[: 4 if usual else 5]] for part in self.parts]

    @classmethod
    def of_shape(cls, shape: Sequence[int]) -> Self:
        """Return the layout of an output of ``shape``, the batch left out: a grid, or a vector, which is a grid of one cell."""
        *space, channels = (int(n) for n in shape)
        return cls((Part(space[0] if space else 1, math.prod(space[1:]), channels),))

    @classmethod
    def of_shapes(cls, shapes: Iterable[Sequence[int]]) -> Self:
        """Return the layout of several outputs, side by side; see ``of_shape``."""
        return cls(tuple(part for shape in shapes for part in cls.of_shape(shape).parts))

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Rebuild a layout; a ValueError where it is none."""
        parts = value if isinstance(value, Sequence) and value and isinstance(value[0], Sequence) else [value]
        found = []
        for numbers in parts:
            if not isinstance(numbers, Sequence) or len(numbers) not in {3, 4, 5} or not all(type(n) is int for n in numbers):
                raise ValueError(f"layout {value!r}")
            every: list[int] = list(numbers) + [0, 1][len(numbers) - 3 :]
            part = Part(every[0], every[1], every[2], every[3], bool(every[4]))
            if min(numbers[:3]) < 1 or part.prefix < 0 or (len(numbers) == 5 and int(part.class_token) != numbers[4]):
                raise ValueError(f"layout {value!r}")
            found.append(part)
        return cls(tuple(found))
