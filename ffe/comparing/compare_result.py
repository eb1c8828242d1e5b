"""What a comparison of roads came to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffe.comparing.ranking import rank
from ffe.comparing.roads import Road


@dataclass(frozen=True)
class Agreement:
    """How often two classifiers are right on the same test images of one class, or of all."""

    name: str  # of the class; empty = all images
    # both, only_first, only_second, neither: images that both had right, the first alone, the second alone, or none
    both: int
    only_first: int
    only_second: int
    neither: int


@dataclass(frozen=True)
class CompareResult:
    """What a comparison of roads came to."""

    folder: Path  # where the models lie
    roads: tuple[Road, ...]  # in the order in which they were gone
    # best, second: names of the two with the highest accuracy on the test images, the one with the lower log loss first where
    # that is equal; empty = there are not so many
    best: str
    second: str
    # the one that took the least time of those that are as good as the best, as far as the test images tell: the difference is
    # not real, and with its interval below 5 points; empty = there is no best
    quickest: str
    agreement: tuple[Agreement, ...]  # of the best two, over all test images, then class by class; empty where there are not two
    classes: tuple[str, ...]  # names of the classes
    rows: dict[str, int]  # how many images train, validate and test, and how many are left out
    backbone: str  # its name
    size: tuple[int, int]  # (height, width) of its input in pixels
    scratch_size: tuple[int, int]  # (height, width) of the input of the small convnets in pixels
    budget: float | None  # seconds that there were; None = as many as it takes
    seed: int  # of every random choice
    interrupted: bool  # whether it was ended before all roads were gone
    seconds: float  # the whole call

    def road(self, name: str) -> Road:
        """Return a road by its name."""
        return next(road for road in self.roads if road.name == name)

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe compare --json`` prints."""
        return {
            **vars(self),
            "folder": str(self.folder),
            "roads": [road.to_json() for road in self.roads],
            "comparison": self.road(self.second).to_json()["comparison"] if self.second else None,
            "agreement": [dataclasses.asdict(agreement) for agreement in self.agreement],
        }


def ranked(roads: Sequence[Road], labels: np.ndarray, groups: np.ndarray | None) -> tuple[tuple[Road, ...], list[str], str]:
    """Compare all roads with the best of them, on test images with labels int64 (m,) and groups int64 (m,).

    Return the roads with their comparisons, the names of those that have a result, best first, and the name of the quickest of
    those that are as good as the best, which few images cannot tell; empty if there is none.
    """
    by_name = {road.name: road for road in roads}
    order, against, as_good = rank([road for road in roads if road.evaluation is not None], labels, groups)
    compared = tuple(dataclasses.replace(road, comparison=against.get(road.name)) for road in roads)
    as_quick = sorted((by_name[name] for name in order if name in as_good), key=lambda road: road.seconds)
    return compared, order, as_quick[0].name if as_quick else ""


def agreement_of(first: Road, second: Road, labels: np.ndarray, classes: Sequence[str]) -> tuple[Agreement, ...]:
    """Count how often each of two roads is right where the other is wrong: over all test images, then class by class."""
    a, b = (road.probabilities.argmax(axis=1) == labels for road in (first, second))
    sides = [("", np.ones(len(labels), bool)), *((name, labels == i) for i, name in enumerate(classes))]
    return tuple(
        Agreement(name, *(int((mine & right).sum()) for right in (a & b, a & ~b, ~a & b, ~a & ~b))) for name, mine in sides
    )
