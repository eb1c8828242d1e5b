"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ffe.backbones.trained import is_model_file


class Share(click.FloatRange):
    """A share, such as 0.8; what is meant in per cent is named."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            return float(super().convert(value, param, ctx))
        except click.BadParameter as error:
            try:
                number = float(str(value).strip().removesuffix("%"))
                if number == 1 and "%" not in str(value):  # the whole, which is out of range
                    raise error
                share = float(super().convert(number / 100, param, ctx))
            except (ValueError, click.BadParameter):
                raise error from None
        self.fail(f"'{value}' is a percentage, but a share is wanted; write {share:g}.", param, ctx)


def refuse_swapped(model: str, others: tuple[str, ...], command: str) -> None:
    """Name the model file that stands behind what it is to be used on.

    Args:
        model: what stands where the model file is wanted.
        others: what stands behind it.
        command: the name of the command.

    Raises:
        click.UsageError: the model file is among the others.
    """
    if is_model_file(model):
        return
    for i, other in enumerate(others):
        if is_model_file(other):
            rest = " ".join((model, *others[:i], *others[i + 1 :]))
            raise click.UsageError(f"The model file comes first; write 'ffe {command} {other} {rest}'.")


def refuse_model(features: str, output: str, command: str) -> None:
    """Name a model file that stands where the feature file is wanted, if the output shows that they are swapped.

    Raises:
        click.UsageError: they are.
    """
    if is_model_file(features) and not is_model_file(output):
        replace = " --overwrite" if Path(features).exists() else ""
        raise click.UsageError(f"The feature file comes first; write 'ffe {command} {output} -o {features}{replace}'.")


def feature_file(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse a share where a feature file is wanted."""
    if value is not None and not Path(value).exists():
        try:
            float(value.removesuffix("%"))
        except ValueError:
            return value
        hint = "--test-fraction takes a share" if parameter.name == "test" else "--folds says how trials are scored"
        raise click.BadParameter(f"'{value}' is a number, but a feature file is wanted; {hint}.")
    return value


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


overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace what -o names: a feature file with other features, or a model."
)

anonymous_option = click.option(
    "--anonymous", is_flag=True, help="Keep no names and digests of photos in the model, and no pictures in the report."
)

test_fraction_option = click.option(
    "--test-fraction",
    type=Share(0, 0.5, min_open=True),
    default=0.2,
    show_default=True,
    help="Share held out for the test where no split is given.",
)

valid_fraction_option = click.option(
    "--valid-fraction",
    type=Share(0.01, 0.5),
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
