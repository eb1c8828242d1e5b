"""What is asked for of a training, as people write it: text or values, one or several."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from ffe.errors import SpecError
from ffe.images.augment_text import parse_augment
from ffe.specs import AugmentSpec, TrainingSpec

NO_CHANGES = "none"


def words(asked: str | int | Iterable[str | int]) -> tuple[str, ...]:
    """Return ``6,19``, 6, or ``["6", 19]`` as one text for each; nothing for an empty text."""
    if isinstance(asked, str):
        return tuple(part.strip() for part in asked.split(",")) if asked else ()
    return tuple(map(str, asked)) if isinstance(asked, Iterable) else (str(asked),)


def whole_numbers(asked: str | int | Iterable[int], option: str) -> tuple[int, ...]:
    """Return ``15,10``, 15, or ``[15, 10]`` as numbers.

    Raises:
        SpecError: there is something else among them; the message names the option.
    """
    try:
        return tuple(int(part) if isinstance(part, str) else operator.index(part) for part in _parts(asked))
    except (TypeError, ValueError):
        raise SpecError(f"{option} is {asked!r}, but takes whole numbers; write, for example, 15 or 15,10.") from None


def numbers(asked: str | float | Iterable[float], option: str) -> tuple[float, ...]:
    """Return ``1e-4,1e-5``, 1e-4, or ``[1e-4, 1e-5]`` as numbers; see ``whole_numbers``."""
    try:
        return tuple(float(part) for part in _parts(asked))
    except (TypeError, ValueError):
        raise SpecError(f"{option} is {asked!r}, but takes numbers; write, for example, 1e-4 or 1e-4,1e-5.") from None


def hold_of(asked: int | None, schedule: str) -> int:
    """Return for how many epochs an exponential schedule holds; None = 10.

    Raises:
        SpecError: it is asked for, and the schedule is another one.
    """
    if asked is not None and schedule != "exponential":
        raise SpecError("--hold belongs to --schedule exponential; add that, or leave --hold out.")
    return TrainingSpec.hold if asked is None else asked


def changes(asked: str | AugmentSpec | None) -> AugmentSpec | None:
    """Return how images are to change; None and ``none`` = they are not.

    Raises:
        SpecError: see ``ffe.images.augment_text.parse_augment``.
    """
    if not isinstance(asked, str):
        return asked
    return None if asked == NO_CHANGES else parse_augment(asked)


def _parts(asked: Any) -> Iterable[Any]:
    if isinstance(asked, str):
        return asked.split(",")
    return asked if isinstance(asked, Iterable) else (asked,)
