"""Which of several classifiers is best on the same test images, and which are as good as far as these can tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ffe.evaluation.comparison import Comparison, compare
from ffe.evaluation.scores import Evaluation

MARGIN = 0.05  # of accuracy: what is less than this behind, whatever chance may do, counts as as good


class Tested(Protocol):
    """A classifier that was tested."""

    @property
    def name(self) -> str:
        """What it is called; no two are called the same."""

    @property
    def evaluation(self) -> Evaluation | None:
        """Its scores on the test images."""

    @property
    def probabilities(self) -> np.ndarray:
        """What it says of them: float64 (m, K)."""


def rank(
    tested: Sequence[Tested], labels: np.ndarray, groups: np.ndarray | None
) -> tuple[list[str], dict[str, Comparison], frozenset[str]]:
    """Compare classifiers with the best of them, on test images with labels int64 (m,) and groups int64 (m,).

    Return their names, the highest accuracy first, then the lowest log loss: to nine digits, last bits decide nothing; the
    comparison of the best with each other; and the names of those that are as good as the best, that included: the difference
    is not real, and with its interval below 5 points.
    """
    done = sorted(tested, key=_accuracy_then_loss)
    if not done:
        return [], {}, frozenset()
    best, *others = done
    against = {other.name: compare(best.probabilities, other.probabilities, labels, groups=groups) for other in others}
    as_good = {name for name, found in against.items() if not found.real and found.interval[1] < MARGIN} | {best.name}
    return [one.name for one in done], against, frozenset(as_good)


def _accuracy_then_loss(tested: Tested) -> tuple[float, float]:
    assert tested.evaluation is not None
    return -round(tested.evaluation.accuracy, 9), round(tested.evaluation.log_loss, 9)
