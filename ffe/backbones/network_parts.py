"""Which axes of the inputs and outputs of a network are what, told from their shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ffe.base.feature_layout import Part

InputAxes = Literal["NCHW", "NHWC"]
OutputAxes = Literal["NCHW", "NHWC", "NTC", "NC"]

_MOST_PREFIX = 16  # tokens before a grid: a class token and some registers
_REGISTERS = 4  # registers come by so many: vit_*_reg4_gap of timm has them and no class token, DINOv2 and DINOv3 one more
_LEAST_PATCH = 4  # pixels along a side of what one token stands for


def input_axes(shape: Sequence[int | None]) -> tuple[InputAxes, int] | None:
    """Return the axes of an image input of four axes, and its channels, 1 or 3; None where it has none, or could have both.

    ``shape`` is of the whole batch; a None in it is free.
    """
    first, last = ((n if n in {1, 3} else None) for n in (shape[1], shape[3]))
    if first == last or (first is not None and last is not None):
        return None
    return ("NCHW", first) if first is not None else ("NHWC", last or 0)


def part_of(
    shape: Sequence[int], size: tuple[int, int], axes: InputAxes, prefix: int | None = None
) -> tuple[OutputAxes, Part] | None:
    """Return the axes of an output, and how it lies in a row; None where it is no grid, no tokens and no vector.

    ``shape`` is without the batch, ``size`` the (height, width) of the picture, ``axes`` those of the input, which decide
    where a grid could be read both ways. ``prefix`` tokens stand before the grid; None = as many as its shape leaves over.
    The first of them is taken for the class token, unless they are 4, 8, 12 or 16: so many are registers alone.
    """
    if len(shape) == 1:
        return "NC", Part(1, 1, shape[0])
    if len(shape) == 2:
        tokens, channels = shape
        grid = _grid_of_tokens(tokens, size, prefix)
        if grid is None:
            return None
        left = tokens - grid[0] * grid[1]
        return "NTC", Part(grid[0], grid[1], channels, left, left % _REGISTERS != 0)
    if len(shape) != 3:
        return None
    grids: dict[InputAxes, Part] = {"NCHW": Part(shape[1], shape[2], shape[0]), "NHWC": Part(shape[0], shape[1], shape[2])}
    fitting = [way for way, part in grids.items() if _is_like(part, size)]
    if not fitting:
        return None
    way = axes if axes in fitting else fitting[0]
    return way, grids[way]


def _is_like(part: Part, size: tuple[int, int]) -> bool:
    """Return whether a grid has the shape of a picture, but for one cell more or less, and no more cells than it has pixels."""
    height, width = size
    fits = part.height <= height and part.width <= width
    return fits and abs(part.height * width - part.width * height) <= height + width


def _grid_of_tokens(tokens: int, size: tuple[int, int], prefix: int | None) -> tuple[int, int] | None:
    """Return the largest grid of square patches that so many tokens hold, with no more than a few left over."""
    height, width = size
    for patch in range(_LEAST_PATCH, min(size) + 1):
        grid = (height // patch, width // patch)
        left = tokens - grid[0] * grid[1]
        if left >= 0 and height % patch == width % patch == 0:
            return grid if (left <= _MOST_PREFIX if prefix is None else left == prefix) else None
    return None
