"""The learning rate of each epoch."""

from __future__ import annotations

import math

from ffe.specs import Schedule

_FALL = 0.1  # of the logarithm, in each epoch


def learning_rate(schedule: Schedule, start: float, epoch: int, epochs: int, hold: int) -> float:
    """Return the learning rate of an epoch, counted from 0, of a stage of ``epochs``.

    ``exponential`` stays at the start for ``hold`` epochs, then is ``start * exp(0.1 * (hold - 1 - epoch))``; what is often
    written ``start if epoch < 10 else start * exp(0.1 * (10 - epoch))`` stays for eleven, so it is that of ``hold=11``.
    ``cosine`` falls from the start to nearly 0 along half a wave.
    """
    if schedule == "exponential":
        return start * math.exp(min(0.0, _FALL * (hold - 1 - epoch)))
    if schedule == "cosine":
        return start * (1 + math.cos(math.pi * epoch / epochs)) / 2
    return start
