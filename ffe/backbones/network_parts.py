"""Which axes of the inputs and outputs of a network are what, told from their shapes alone."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ffe.base.feature_layout import Part
from ffe.base.text import counted

InputAxes = Literal["NCHW", "NHWC"]
OutputAxes = Literal["NCHW", "NHWC", "NTC", "NC"]

log = logging.getLogger("ffe")

_MOST_PREFIX = 16  # tokens before a grid: a class token and some registers
_LEAST_PATCH = 4  # pixels along a side of what one token stands for
_CLASS_TOKENS = {"cls_token", "class_token", "class_embedding", "distillation_token", "dist_token"}  # one token each
_REGISTERS = {"reg_token", "reg_tokens", "register_token", "register_tokens", "storage_tokens"}


@dataclass(frozen=True)
class Output:
    """How an output lies in a row."""

    axes: OutputAxes
    part: Part
    told: bool = True  # whether it is known, where tokens stand before the grid, if the first of them is a class token


def class_tokens(names: Iterable[str]) -> int:
    """Return how many class tokens a network has, by the names of its parameters, such as ``vit.cls_token``, ``cls_token_1``."""
    return sum(_last(name) in _CLASS_TOKENS for name in names)


def has_class_token(names: Iterable[str]) -> bool | None:
    """Return whether a network has a class token, by the names of its parameters; None where those do not say."""
    found = {_last(name) for name in names}
    return True if found & _CLASS_TOKENS else False if found & _REGISTERS else None


def _last(name: str) -> str:
    return name.rpartition(".")[2].rstrip("_0123456789")


def input_axes(shape: Sequence[int | None]) -> tuple[InputAxes, int] | None:
    """Return the axes of an image input of four axes, and its channels, 1 or 3; None where it has none, or could have both.

    ``shape`` is of the whole batch; a None in it is free.
    """
    first, last = ((n if n in {1, 3} else None) for n in (shape[1], shape[3]))
    if first == last or (first is not None and last is not None):
        return None
    return ("NCHW", first) if first is not None else ("NHWC", last or 0)


def part_of(
    shape: Sequence[int],
    size: tuple[int, int],
    axes: InputAxes,
    prefix: int | None = None,
    class_token: bool | None = None,
) -> Output | None:
    """Return how an output lies in a row; None where it is no grid, no tokens and no vector.

    ``shape`` is without the batch, ``size`` the (height, width) of the picture, ``axes`` those of the network's grids, which
    decide where one could be read both ways. ``prefix`` tokens stand before a grid, or none, as within some layers; None, or
    where neither fits = as many as its shape leaves over. ``class_token`` says whether the first of them is the class token;
    None = not known, and none is taken for it.
    """
    if len(shape) == 1:
        return Output("NC", Part(1, 1, shape[0]))
    if len(shape) == 2:
        return _tokens(shape[0], shape[1], size, prefix, class_token)
    if len(shape) != 3:
        return None
    grids: dict[InputAxes, Part] = {"NCHW": Part(shape[1], shape[2], shape[0]), "NHWC": Part(shape[0], shape[1], shape[2])}
    fitting = [way for way, part in grids.items() if _is_like(part, size)]
    if not fitting:
        return None
    way = min(fitting, key=lambda way: (_stretch(grids[way], size), way != axes))
    return Output(way, grids[way])


def _stretch(part: Part, size: tuple[int, int]) -> int:
    """Return how far the shape of a grid is from that of a picture; 0 = they have the same."""
    return abs(part.height * size[1] - part.width * size[0])


def _is_like(part: Part, size: tuple[int, int]) -> bool:
    """Return whether a grid has the shape of a picture, but for one cell more or less, and no more cells than it has pixels."""
    height, width = size
    return part.height <= height and part.width <= width and _stretch(part, size) <= height + width


def _tokens(tokens: int, channels: int, size: tuple[int, int], prefix: int | None, class_token: bool | None) -> Output | None:
    """Return how tokens lie in a row; None where they do not cover the picture."""
    height, width = size
    for left in () if prefix is None else dict.fromkeys((prefix, 0)):
        rows = round(math.sqrt(max(tokens - left, 0) * height / width))
        part = Part(rows, (tokens - left) // max(rows, 1), channels, left, bool(class_token))
        if rows and part.dims == tokens * channels and _is_like(part, size):
            return Output("NTC", part, not left or class_token is not None)
    for patch in range(_LEAST_PATCH, min(size) + 1):  # the largest grid of square patches that so many tokens hold
        if height % patch == width % patch == 0 and (left := tokens - height // patch * (width // patch)) >= 0:
            known = class_token is not None and prefix is None
            part = Part(height // patch, width // patch, channels, left, known and bool(class_token))
            return Output("NTC", part, not left or known) if left <= _MOST_PREFIX else None
    return None


def warn_of_tokens(outputs: Iterable[Output], what: str, hint: str = "") -> None:
    """Say that it is not known whether a network has a class token; ``hint`` is what to do where it has one."""
    for tokens in dict.fromkeys(output.part.prefix for output in outputs if not output.told):
        log.warning(
            "%s puts %s before its grid, and nothing says whether the first is a class token: none is taken for it, so no head "
            "looks at it%s",
            what,
            counted(tokens, "token"),
            f"; {hint}" if hint else "",
        )
