"""What every scorer of a head is given, and what several of them do alike."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffe.heads.base import Head
from ffe.heads.transform import FeatureMap, size_in_bytes
from ffe.tuning.kernel_cache import KernelCache
from ffe.tuning.problem import Outcome, Part, Problem

PartScore = tuple[np.ndarray, int]  # probabilities float32 (m, classes) of the scored rows, and the bytes of the head


@dataclass(frozen=True, eq=False)
class ScoreRequest:
    """Sets of parameters of one head, to be fitted and scored on every part."""

    head: type[Head]  # its class
    problem: Problem  # the rows and parts
    cache: KernelCache  # what trials share
    sets: Sequence[Mapping[str, Any]]  # complete sets of parameters
    executions: int  # fits of each set, from one seed after the other
    seed: int  # of the first execution

    def by_feature_map(self) -> Iterator[tuple[FeatureMap, list[int]]]:
        """Yield what the sets do to features, each way once, with the positions of its sets."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, parameters in enumerate(self.sets):
            groups.setdefault(tuple(parameters.get(name) for name in ("pooling", "parts", "scaling", "components")), []).append(i)
        for positions in groups.values():
            yield FeatureMap(self.sets[positions[0]], self.problem.layout), positions

    def mapped(self, feature_map: FeatureMap, part: Part) -> tuple[np.ndarray, np.ndarray, int]:
        """Fit a map on a part; return the rows to fit on and those to score on, mapped, and the bytes of what was learnt."""
        x, (fit, score) = self.cache.rowwise(feature_map), part
        inside, own = x[fit], copy.copy(feature_map)
        inside = own.fit_rowwise(inside).transform_rowwise(inside)
        return inside, own.transform_rowwise(x[score]), size_in_bytes(own.arrays())

    def scored_together(
        self, groups: Iterable[list[int]], score: Callable[[list[Mapping[str, Any]]], Sequence[Sequence[PartScore]]]
    ) -> list[Outcome]:
        """Score groups of positions of sets, whose time is shared evenly; ``score`` returns for each part that of each set."""
        outcomes: dict[int, Outcome] = {}
        for positions in groups:
            started = time.monotonic()
            parts = score([self.sets[i] for i in positions])
            seconds = (time.monotonic() - started) / len(positions) / len(parts)
            for k, i in enumerate(positions):
                runs = np.concatenate([part[k][0] for part in parts])
                outcomes[i] = Outcome((runs,), seconds, int(np.mean([part[k][1] for part in parts])))
        return [outcomes[i] for i in range(len(self.sets))]


Scorer = Callable[[ScoreRequest], list[Outcome]]  # an outcome for each set, in order
