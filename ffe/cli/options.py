"""Options that several commands have, and the types of their values."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from functools import partial, reduce
from pathlib import Path
from typing import Any, get_args

import click

from ffe.backbones.trained import is_model_file
from ffe.base.file_access import first_bytes
from ffe.cli import ARGUMENTS
from ffe.cli.examples import EXAMPLES
from ffe.errors import DecodeError, HeadError
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Truncated
from ffe.specs import Channels, Interpolation, Resize

_LEAST_PERCENT = 5  # what a number without its sign means
_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Share(click.FloatRange):
    """A share, such as 0.8; what is meant in per cent is named."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            return float(super().convert(value, param, ctx))
        except click.BadParameter as error:
            try:
                number = float(str(value).strip().removesuffix("%"))
                if number < _LEAST_PERCENT and "%" not in str(value):  # rather the whole, or a factor
                    raise error
                share = float(super().convert(number / 100, param, ctx))
            except (ValueError, click.BadParameter):
                raise error from None
        self.fail(f"'{value}' is a percentage, but a share is wanted; write {share:g}.", param, ctx)


class Amount(click.ParamType):
    """A whole number, which may end in K, M or G; ``base`` is how much a K is: 1000 or 1024."""

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


def check_heads(option: str, names: Iterable[str]) -> None:
    """Refuse a head that there is not, as click refuses what is none of its choices."""
    from ffe.heads import find_head

    try:
        for name in names:
            find_head(name)
    except HeadError as error:
        raise click.BadParameter(str(error), click.get_current_context(), param_hint=f"'{option}'") from error


def refuse_swapped(model: str, others: tuple[str, ...], command: str) -> None:
    """Refuse what stands where the model file is wanted, if a model file stands among the others."""
    if is_model_file(model):
        return
    for i, other in enumerate(others):
        if is_model_file(other):
            rest = " ".join((model, *others[:i], *others[i + 1 :]))
            raise click.UsageError(f"The model file comes first; write 'ffe {command} {other} {rest}'.")


def refuse_model(features: tuple[str, ...], output: str, command: str) -> None:
    """Refuse a model file that stands where the feature file is wanted, if the output shows that they are swapped."""
    if is_model_file(features[0]) and not is_model_file(output):
        replace = " --overwrite" if Path(features[0]).exists() else ""
        raise click.UsageError(f"The feature file comes first; write 'ffe {command} {output} -o {features[0]}{replace}'.")


def refuse_picture(file: str, command: str) -> None:
    """Refuse a picture where a feature file or a model file is wanted."""
    from ffe.images.guards import HEAD_BYTES, kind_of

    with contextlib.suppress(OSError, DecodeError):
        kind_of(first_bytes(Path(file), HEAD_BYTES))
        raise click.UsageError(
            f"'{file}' is a picture, not a feature file or a model; write, for example, 'ffe {command} {EXAMPLES[command]}'."
        )


def feature_files(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a share where a feature file is wanted."""
    for value in values:
        with contextlib.suppress(ValueError):
            if not Path(value).exists():
                float(value.removesuffix("%"))
                hint = "--test-fraction takes a share" if parameter.name == "test" else "--folds says how trials are scored"
                raise click.BadParameter(f"'{value}' is a number, but a feature file is wanted; {hint}.")
    return values


def time_budget(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Turn ``60s``, ``5m`` or ``1.5h`` into seconds."""
    if value is None:
        return None
    number = value.strip().rstrip("smhin")
    with contextlib.suppress(KeyError, ValueError):
        seconds = float(number) * _UNITS[value.strip()[len(number) :] or "s"]
        if 0 < seconds < 1e7:
            return seconds
    raise click.BadParameter(f"'{value}' is no time; write, for example, {parameter.opts[0]} 60s, 5m or 1h.")


def _image_size(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | tuple[int, int] | None:
    if value is None:
        return None
    try:
        numbers = [int(part) for part in value.lower().split("x")]
    except ValueError:
        numbers = []
    if len(numbers) not in {1, 2} or min(numbers) < 1:
        raise click.BadParameter("give one number of pixels, such as 150, or HEIGHTxWIDTH, such as 128x192.")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _channel_numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Turn ``0.485,0.456,0.406`` into numbers."""
    if value is None:
        return None
    given = ctx.meta.get(ARGUMENTS, ())
    for i in range(len(given) - 2):
        if given[i] in parameter.opts and given[i + 1] == value and _is_number(value) and _is_number(given[i + 2]):
            raise click.BadParameter("write the numbers with commas and without spaces between them, such as 0.485,0.456,0.406.")
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(
            f"'{value}' is no list of numbers; write one for each channel, such as 0.485,0.456,0.406."
        ) from None


def _is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        float(text)
        return True
    return False


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what adds several options to a command, in this order."""
    return lambda command: reduce(lambda so_far, option: option(so_far), reversed(options), command)


def _parse_settings(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    settings = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"'{value}' is not NAME=VALUE; write, for example, --set C=10.")
        settings[name.strip()] = text.strip()
    return settings


# each is called where it is used, with another help or none
json_option = partial(click.option, "--json", "as_json", is_flag=True, help="Print the result as JSON.")
output_option = partial(click.option, "-o", "--output", required=True, type=click.Path(), help="The model file (.ffe) to write.")
report_option = partial(
    click.option, "--report", type=click.Path(), help="Write a page (.html) with scores, pictures of the mistakes, and charts."
)
strict_option = partial(click.option, "--strict", is_flag=True, help="Leave with code 1 if an image could not be read.")
weights_option = partial(click.option, "--weights", default="imagenet")
engine_option = partial(
    click.option, "--engine", default="auto", help="What runs the backbone: auto, keras, openvino, torch or winograd."
)
size_option = partial(
    click.option, "--size", callback=_image_size, help="Input side in pixels, or HEIGHTxWIDTH.  [default: the backbone's own]"
)
budget_option = partial(click.option, "--budget", callback=time_budget, metavar="TIME")
settings_option = partial(click.option, "--set", "settings", multiple=True, metavar="NAME=VALUE", callback=_parse_settings)

seed_option = click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, help="Start of every random choice.")

overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace what -o names: a feature file with other features, or a model."
)

anonymous_option = click.option(
    "--anonymous", is_flag=True, help="Keep no names and digests of photos in the model, and no pictures in the report."
)

class_weights_option = click.option(
    "--class-weights",
    type=click.Choice(("auto", "balanced", "none")),
    default="auto",
    help="auto: balanced where the rarest class has under half its share.",
)

test_fraction_option = click.option(
    "--test-fraction", type=Share(0, 0.5, min_open=True), default=0.2, help="Share held out for the test where no split is given."
)

valid_fraction_option = click.option(
    "--valid-fraction",
    type=Share(0.01, 0.5),
    default=0.2,
    help="Share of the other images that validates, where no split is given.",
)

compress_option = click.option(
    "--compress",
    type=click.Choice(["none", "lzf", "gzip", "zstd"]),
    help="How stored features are compressed, without loss; zstd needs the package hdf5plugin.  [default: as before, or none]",
)

preprocess_options = together(
    click.option(
        "--mean",
        callback=_channel_numbers,
        metavar="NUMBERS",
        help="Mean of each channel, of values from 0 to 1, such as 0.5,0.5,0.5: it becomes 0.  [default: the backbone's own]",
    ),
    click.option(
        "--std",
        callback=_channel_numbers,
        metavar="NUMBERS",
        help="Deviation of each channel, likewise: it becomes 1.  [default: the backbone's own]",
    ),
    click.option(
        "--resize",
        type=click.Choice(get_args(Resize)),
        help="Stretch a picture to the size, or bring its shortest side to it and cut, or its longest and fill.  "
        "[default: the backbone's own]",
    ),
    click.option(
        "--crop",
        type=Share(0.01, 1),
        metavar="SHARE",
        help="Share of the resized sides that is cut out at the centre; 1 = no cut.  [default: the backbone's own]",
    ),
    click.option(
        "--interpolation",
        type=click.Choice(get_args(Interpolation)),
        help="Filter of the resizing.  [default: the backbone's own]",
    ),
    click.option(
        "--channels", type=click.Choice(get_args(Channels)), help="What the backbone is given.  [default: the backbone's own]"
    ),
)

decode_options = together(
    click.option(
        "--workers",
        type=click.IntRange(1),
        help="Threads that decode images.  [default: one per core, more where files come slowly]",
    ),
    click.option(
        "--max-pixels",
        type=Amount(1000),
        default=MAX_PIXELS,
        show_default=False,
        help=f"Skip pictures of more pixels, such as 200M for 200 million.  [default: {MAX_PIXELS:,}]",
    ),
    click.option(
        "--max-bytes",
        type=Amount(1024),
        default=MAX_BYTES,
        show_default=False,
        help="Skip larger files, such as 500M for 500 MiB.  [default: 1G]",
    ),
    click.option(
        "--truncated",
        type=click.Choice(get_args(Truncated)),
        default="skip",
        help="Pictures that are cut off: skip them, or keep them with what their decoder puts where pixels are missing.",
    ),
)

images_options = together(
    click.option(
        "--batch-size", type=click.IntRange(1), help="Images in one call of the backbone.  [default: what suits the engine]"
    ),
    decode_options,
)

predict_options = together(
    click.option(
        "--tta",
        type=click.IntRange(0, 1000),
        default=0,
        show_default=False,
        metavar="VIEWS",
        help="Ask about so many views of each image too, and average the answers.",
    ),
    click.option("--augment", help="How the views of --tta differ; see below.  [default: as those that the model was made from]"),
    click.option(
        "--reject",
        type=Share(0, 1, max_open=True),
        help="Answer 'not sure' below this probability; 0 = always answer.  [default: what the model was tuned with]",
    ),
    weights_option(help="Where the backbone's weights are, for a model without its backbone."),
    engine_option(),
    images_options,
)

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
