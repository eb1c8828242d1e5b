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


BATCH_SIZE_HELP = "Images in one call of the backbone.  [default: what suits the engine]"


REJECT_HELP = "Answer 'not sure' below this probability; 0 = always answer.  [default: what the model was tuned with]"


WORKERS_HELP = "Threads that decode images.  [default: one per core, more where files come slowly]"


TTA_HELP = "Ask about so many views of each image too, and average the answers."


TTA_AUGMENT_HELP = "How the views of --tta differ; see below.  [default: as those that the model was made from]"


AUGMENT_HELP = """\b
--augment takes these, separated by commas, such as flip,zoom=0.8-1.2,rotate=15:
  flip, vflip         mirror left to right, or upside down, every other view
  zoom[=0.5-1]        show this share of the sides, 0.1 to 10; 0.2 means 0.8-1.2;
                        half of the sides is what a preview calls zoom ×2.00
  crop[=0.08-1]       show this share of the area, cut out anywhere,
    ratio=0.75-1.33     with a width to height in this range
  rotate[=15]         turn by up to so many degrees either way, at most 180
  shift[=0.2]         move by up to this share of the sides
  shear[=10]          slant by up to so many degrees either way, at most 60
  fill=nearest        beyond the edge: nearest, reflect, constant (black), wrap
  brightness[=0.8-1]  multiply by; 0.2 means 0.8-1.2
  contrast[=0.8-1.2]  spread around the mean by
  normalize           give each channel the mean and deviation of ImageNet
  seed=0              another seed, other views

\b
In the articles, zoom,brightness trains on dogs and cats, and the check grid is
zoom,rotate,brightness=0.5-1.5; the ImageDataGenerator of the small convnet is
flip,rotate=40,shift=0.2,shear=0.2,zoom=0.2 (a shear of a fifth of a degree).
"""
