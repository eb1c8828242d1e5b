"""Options that several commands have."""

from __future__ import annotations

import click

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}

class_weights_option = click.option(
    "--class-weights",
    type=click.Choice(("auto", "balanced", "none")),
    default="auto",
    show_default=True,
    help="auto: balanced where the rarest class has under half its share.",
)

seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Start of every random choice."
)


test_fraction_option = click.option(
    "--test-fraction",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.2,
    show_default=True,
    help="Share held out for the test where no split is given.",
)

valid_fraction_option = click.option(
    "--valid-fraction",
    type=click.FloatRange(0.01, 0.5),
    default=0.2,
    show_default=True,
    help="Share of the other images that validates, where no split is given.",
)


def time_budget(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Turn ``60s``, ``5m`` or ``1.5h`` into seconds."""
    if value is None:
        return None
    number = value.strip().rstrip("smhin")
    unit = value.strip()[len(number) :] or "s"
    try:
        seconds = float(number) * _UNITS[unit]
    except (KeyError, ValueError):
        seconds = 0.0
    if not 0 < seconds < 1e7:
        raise click.BadParameter(f"'{value}' is no time; write, for example, --budget 60s, 5m or 1h.")
    return seconds
