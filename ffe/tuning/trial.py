"""What a search tried, and how it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Trial:
    """One set of parameters, scored."""

    head: str  # name of the head
    # values of the active parameters; those that the fit found (the epoch to stop at) included, ready for a refit
    parameters: dict[str, Any]
    score: float  # mean over the parts and executions of what the search aims at; higher is better
    spread: float | None  # standard deviation over them; None where there was one alone
    fit_seconds: float  # one fit, on average
    size: int  # bytes of the fitted head
    finished: float = 0.0  # seconds from the start of the search
    # of the scored rows, float32 (m, classes), of the first execution
    probabilities: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32), repr=False, compare=False)
    # by name, a value for each epoch; empty where there are no epochs
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict, repr=False, compare=False)
    default: bool = False  # whether its parameters are the defaults of its head
    # whether it is no worse than the highest score by more than chance, and the log loss by which such trials are told apart,
    # calibrated, on all scored rows; where classes count alike in the score, they do so here
    tied: bool = False
    log_loss: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON, without probabilities and curves."""
        return {name: value for name, value in vars(self).items() if name not in {"probabilities", "curves"}}


def rank(trials: Sequence[Trial]) -> list[Trial]:
    """Sort trials, the best first; equal scores (to nine digits, so no last bit decides) go to the smaller head, then by name."""
    return sorted(trials, key=lambda t: (-round(t.score, 9), t.size, t.head, sorted(map(str, t.parameters.items()))))


def best_of_each_head(trials: Sequence[Trial]) -> list[Trial]:
    """Return the first trial of every head, in their order."""
    found: dict[str, Trial] = {}
    for trial in trials:
        found.setdefault(trial.head, trial)
    return list(found.values())
