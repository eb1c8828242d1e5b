"""``flip,zoom=0.5-1,rotate=15`` <-> AugmentSpec: how changes are written on the command line."""

from __future__ import annotations

import re
from typing import Any, get_args

from ffe.base.text import did_you_mean
from ffe.errors import SpecError
from ffe.specs import AugmentSpec, Fill

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"

# where a name stands alone; the articles' values, where they have one
DEFAULTS: dict[str, Any] = {
    "flip": True,
    "vflip": True,
    "zoom": (0.5, 1.0),
    "crop": (0.08, 1.0),
    "rotate": 15.0,
    "shift": 0.2,
    "shear": 10.0,
    "brightness": (0.8, 1.0),
    "contrast": (0.8, 1.2),
    "normalize": True,
}

# where nothing is asked for: from scratch as in chapter 5.2 of Chollet 2017 (Deep Learning with Python)
SCRATCH = "flip,zoom=0.2,rotate=40,shift=0.2,shear=0.2"
COMPARE = "flip,zoom=0.8-1.2,rotate=15,shift=0.1,brightness=0.8-1.2"

_AROUND_ONE = {"zoom", "brightness", "contrast"}
_RANGES = {*_AROUND_ONE, "crop", "ratio"}
_NUMBERS = {"rotate", "shift", "shear"}
_NAMES = (*DEFAULTS, "ratio", "fill", "seed")


def parse_augment(text: str) -> AugmentSpec:
    """Read changes, separated by commas, each a name, ``name=value`` or ``name=low-high``; what cannot be is a SpecError.

    A single number f means 1 - f to 1 + f for ``zoom``, ``brightness`` and ``contrast``, as in Keras, and f to 1 for ``crop``.
    """
    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in _NAMES:
            known = ", ".join(_NAMES)
            raise SpecError(f"There is no change '{name}' for --augment; known are {known}.{did_you_mean(name, _NAMES)}")
        if name in values:
            raise SpecError(f"--augment names '{name}' twice; keep one of them.")
        if not equals and name not in DEFAULTS:
            raise SpecError(f"--augment names '{name}' without a value; write {name}={_EXAMPLES[name]}.")
        values[name] = _value(name, value) if equals else DEFAULTS[name]
    if not values.keys() & DEFAULTS.keys():
        raise SpecError(f"--augment names no change; name at least one of {', '.join(DEFAULTS)}.")
    return AugmentSpec(**values)


_EXAMPLES = {"ratio": "0.75-1.33", "fill": "reflect", "seed": "1"}


def _value(name: str, text: str) -> Any:
    """Return the value that stands behind a name."""
    if name == "fill":
        if text not in get_args(Fill):
            raise SpecError(f"--augment has fill={text}; use {', '.join(get_args(Fill)[:-1])} or {get_args(Fill)[-1]}.")
        return text
    if name in _AROUND_ONE | _NUMBERS and re.fullmatch(_NUMBER, text) and float(text) == 0:
        raise SpecError(f"--augment has {name}={text}, which changes nothing; leave '{name}' out, or give a value above 0.")
    if name == "seed" and re.fullmatch(r"\d+", text):
        return int(text)
    if name in _NUMBERS and re.fullmatch(_NUMBER, text):
        return float(text)
    if name in _RANGES and (pair := re.fullmatch(f"({_NUMBER})-({_NUMBER})", text)):
        return float(pair[1]), float(pair[2])
    if name in _AROUND_ONE and re.fullmatch(_NUMBER, text) and float(text) < 1:
        return round(1 - float(text), 12), round(1 + float(text), 12)  # 1 - 0.7 is to be 0.3
    if name == "crop" and re.fullmatch(_NUMBER, text):
        return float(text), 1.0
    raise SpecError(f"--augment has {name}={text}, but {_WANTED[name]}.")


_WANTED = {
    **dict.fromkeys(("flip", "vflip", "normalize"), "it takes no value"),
    "zoom": "it takes a range within 0.1-10, such as 0.8-1.2, or a number below 1, such as 0.2 for the same",
    **dict.fromkeys(
        ("brightness", "contrast"), "it takes a range within 0-10, such as 0.8-1.2, or a number below 1, such as 0.2 for the same"
    ),
    "crop": "it takes a range such as 0.3-1, or 0.3 for the same",
    "ratio": "it takes a range such as 0.75-1.33",
    "rotate": "it takes a number of degrees such as 15",
    "shear": "it takes a number of degrees such as 10",
    "shift": "it takes a share of the width and height such as 0.2",
    "seed": "it takes a whole number from 0, such as 1",
}


def augment_text(spec: AugmentSpec) -> str:
    """Return the changes of a spec as ``parse_augment`` reads them, each with its value."""
    plain = AugmentSpec()
    shown = (name for name in _NAMES if getattr(spec, name) != getattr(plain, name))
    return ",".join(_part(name, getattr(spec, name)) for name in shown)


def _part(name: str, value: Any) -> str:
    if value is True:
        return name
    if isinstance(value, tuple):
        return f"{name}={_digits(value[0])}-{_digits(value[1])}"
    return f"{name}={_digits(value) if isinstance(value, float) else value}"


def _digits(value: float) -> str:
    return repr(value).removesuffix(".0")
