"""The learning rate of each epoch."""

from __future__ import annotations

import math

from ffe.specs import Schedule

_FALL = 0.1  # of the logarithm, in each epoch


def learning_rate(schedule: Schedule, start: float, epoch: int, epochs: int, hold: int) -> float:
    """Return the learning rate of an epoch of a stage.

    ``constant`` stays at the start. ``exponential`` stays there for ``hold``
    epochs, and falls by the factor exp(-0.1) in each one after them:
    ``start * exp(0.1 * (hold - 1 - epoch))``. The schedule that is
    often written ``start if epoch < 10 else start * exp(0.1 * (10 - epoch))``
    stays for eleven epochs, so it is that of ``hold=11``. ``cosine`` falls from
    the start to nearly 0 along half a wave. ``epoch`` counts from 0, of the stage's ``epochs``.
    """
    if schedule == "exponential":
        return start * math.exp(min(0.0, _FALL * (hold - 1 - epoch)))
    if schedule == "cosine":
        return start * (1 + math.cos(math.pi * epoch / epochs)) / 2
    return start
