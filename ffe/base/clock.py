"""A limit of time for long work."""

from __future__ import annotations

import time
from dataclasses import dataclass


class OutOfTimeError(Exception):
    """The time is over, and what is under way has no result yet."""


@dataclass(frozen=True)
class Clock:
    """Seconds since a call began, at ``time.monotonic()``, and whether the seconds that it may take are over; None = never."""

    started: float
    seconds: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self.started

    @property
    def is_over(self) -> bool:
        """Whether the time is used up."""
        return self.seconds is not None and self.elapsed >= self.seconds

    def check(self, done: int, total: int) -> None:
        """Raise an OutOfTimeError where the time is used up, and not all is done."""
        if done < total and self.is_over:
            raise OutOfTimeError
