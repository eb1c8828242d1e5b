"""``--max-pixels``, ``--max-bytes`` and ``--truncated``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import click

from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Truncated


class Amount(click.ParamType):
    """A whole number, which may end in K, M or G.

    Args:
        base: 1000 or 1024: how much a K is.
    """

    name = "number"

    def __init__(self, base: int) -> None:
        self._base = base

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Turn ``200M`` into 200,000,000."""
        if isinstance(value, int):
            return value
        digits, factor = value, 1
        if value[-1:].upper() in {"K", "M", "G"}:
            digits, factor = value[:-1], self._base ** (1 + "KMG".index(value[-1].upper()))
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 15 or int(digits) < 1:
            self.fail(f"'{value}' is no amount; give a whole number above 0, such as 500000 or 200M.", param, ctx)
        return int(digits) * factor


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add these options to a command."""
    pixels = click.option(
        "--max-pixels",
        type=Amount(1000),
        default=MAX_PIXELS,
        help=f"Skip pictures of more pixels, such as 200M for 200 million.  [default: {MAX_PIXELS:,}]",
    )
    size = click.option(
        "--max-bytes", type=Amount(1024), default=MAX_BYTES, help="Skip larger files, such as 500M for 500 MiB.  [default: 1G]"
    )
    truncated = click.option(
        "--truncated",
        type=click.Choice(get_args(Truncated)),
        default="skip",
        help="Pictures that are cut off: skip them, or keep them with what their decoder puts where pixels are missing.  "
        "[default: skip]",
    )
    return pixels(size(truncated(command)))
