"""Parameters of a head as data: their ranges, and the conditions under which they exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ffe.base.text import did_you_mean
from ffe.errors import HeadError


@dataclass(frozen=True)
class Parameter:
    """One parameter."""

    name: str  # unique within a head
    default: Any  # value where neither a search nor a user chooses one
    choices: tuple[Any, ...] = ()  # all the values it may take; empty for a range
    # low, high: ends of the range, both included
    low: float = 0.0
    high: float = 0.0
    log: bool = False  # whether the range is searched in its logarithm
    step: float | None = None  # distance of the values that a search tries; None = any
    # (name of another parameter, its values under which this one exists); None = always. The other one stands earlier in the
    # space
    when: tuple[str, tuple[Any, ...]] | None = None
    searched: bool = True  # whether a search chooses it; if not, it keeps its default unless a user sets it
    tried: tuple[float, float] | None = None  # ends of the narrower range that a search tries; None = all of it

    def range_text(self) -> str:
        """Return what values it takes, for people: ``4, 8 or 16``, or ``0.001 to 1000``."""
        if self.choices:
            return ", ".join(map(str, self.choices[:-1])) + f" or {self.choices[-1]}"
        return f"{self.low:g} to {self.high:g}"

    def parse(self, value: Any) -> Any:
        """Turn a value, or the text that a user typed for it, into a value of this parameter; a HeadError if it does not fit."""
        if self.choices:
            for choice in self.choices:
                if value == choice or str(value).lower() == str(choice).lower():
                    return choice
        else:
            try:
                number = type(self.default)(value)
            except (TypeError, ValueError):
                number = None
            if number is not None and self.low <= number <= self.high:
                return number
        words = [choice for choice in self.choices if isinstance(choice, str)]
        hint = did_you_mean(str(value), words)
        raise HeadError(f"The parameter '{self.name}' cannot be {value!r}; it takes {self.range_text()}.{hint}")


def active(parameter: Parameter, values: Mapping[str, Any]) -> bool:
    """Return whether a parameter exists, given the values of those before it."""
    if parameter.when is None:
        return True
    parent, wanted = parameter.when
    return parent in values and values[parent] in wanted


def complete(space: Sequence[Parameter], settings: Mapping[str, Any], head: str, *, fill: bool = True) -> dict[str, Any]:
    """Check settings, values or texts by name, for a head; return a value for each active parameter, or for those set alone.

    A HeadError where a name is unknown or inactive, or a value does not fit.
    """
    names = [parameter.name for parameter in space]
    for name in settings:
        if name not in names:
            raise HeadError(f"The head '{head}' has no parameter '{name}'; it has {', '.join(names)}.{did_you_mean(name, names)}")
    values: dict[str, Any] = {}
    for parameter in space:
        if active(parameter, values):
            values[parameter.name] = parameter.parse(settings.get(parameter.name, parameter.default))
        elif parameter.name in settings:
            parent, wanted = parameter.when or ("", ())
            raise HeadError(
                f"The parameter '{parameter.name}' of the head '{head}' exists only where '{parent}' is "
                f"{' or '.join(map(str, wanted))}; set that too, or leave '{parameter.name}' out."
            )
    return values if fill else {name: value for name, value in values.items() if name in settings}
