"""The roads from labelled images to a classifier that ``compare`` knows, and what one of them came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ffe.base.text import did_you_mean
from ffe.errors import SpecError
from ffe.evaluation.comparison import Comparison
from ffe.evaluation.scores import Evaluation

FROZEN, VIEWS, FINETUNING, HEAD_ONLY, SCRATCH, PLAIN = ("frozen", "views", "finetuning", "head-only", "scratch", "scratch-plain")

ROADS = {
    FROZEN: "frozen features, search over heads",
    VIEWS: "the same, with augmented views of the training images",
    FINETUNING: "staged fine-tuning from cached activations",
    HEAD_ONLY: "the head alone, end to end, with augmentation in the loop",
    SCRATCH: "small convnet from scratch, with augmentation",
    PLAIN: "small convnet from scratch, without",
}

ON_BACKBONE = {FROZEN, VIEWS, FINETUNING, HEAD_ONLY}


def check_roads(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of roads in the order of ``ROADS``, each once; all of them if none is named."""
    for name in names:
        if name not in ROADS:
            raise SpecError(f"There is no road '{name}'; choose among {', '.join(ROADS)}.{did_you_mean(name, ROADS)}")
    return tuple(name for name in ROADS if name in names) if names else tuple(ROADS)


@dataclass(frozen=True)
class Road:
    """What one road came to."""

    name: str  # of ``ROADS``
    reason: str = ""  # why there is no result; empty = there is one. The rest is unknown then
    evaluation: Evaluation | None = None  # scores on the test images; None = unknown
    valid_accuracy: float | None = None  # of what was kept, on the validation images, in [0, 1]
    seconds: float = 0.0  # all that it takes, what it starts from included
    own_seconds: float = 0.0  # without what it starts from
    best_at: float = 0.0  # how many of ``seconds`` were over when that was learnt which was kept
    starts_from: str = ""  # name of the road whose model it goes on from; empty = none
    reused: bool = False  # whether features or activations of an earlier run were at hand, so that ``seconds`` lack them
    epochs: int | None = None  # of training; None = it has none
    kept: int | None = None  # how many of them made the weights that were kept; 0 = none was better than what the road began with
    trials: int | None = None  # of the search; None = it has none
    model: Path | None = None  # the model file
    size: int | None = None  # its bytes
    # (seconds, validation accuracy), as the time goes on: of the best trial so far, or of each epoch
    curve: tuple[tuple[float, float], ...] = ()
    comparison: Comparison | None = None  # of the best road and this one; None for the best
    # of the test images, float64 (m, K)
    probabilities: np.ndarray = field(default_factory=lambda: np.empty((0, 0)), repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = {name: value for name, value in vars(self).items() if name != "probabilities"}
        return {
            **values,
            "what": ROADS[self.name],
            "evaluation": None if self.evaluation is None else self.evaluation.to_json(),
            "model": None if self.model is None else str(self.model),
            "curve": [list(point) for point in self.curve],
            "comparison": None if self.comparison is None else self.comparison.to_json(),
        }
