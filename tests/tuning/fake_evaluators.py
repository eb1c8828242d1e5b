"""Evaluators that cost nothing, for tests of the search around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ffe.base.digests import bytes_digest
from ffe.tuning.problem import Outcome, Problem
from ffe.tuning.scoring import ScoreRequest


class FakeEvaluators:
    """Stand in for those of all heads: an answer depends on head, parameters and seed alone.

    Attributes:
        calls: (head, sets, executions, seed) of each call.
        clock: seconds that have gone by; each set takes ``seconds``.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        self.calls: list[tuple[str, list[dict[str, Any]], int, int]] = []
        self.clock, self.seconds = 1000.0, seconds

    @property
    def sets(self) -> list[dict[str, Any]]:
        """All sets that were scored."""
        return [parameters for _, sets, _, _ in self.calls for parameters in sets]

    def monotonic(self) -> float:
        """Return the time on its clock."""
        return self.clock

    def of(self, head: str) -> Any:
        """Return the evaluator of a head."""

        def evaluate(request: ScoreRequest) -> list[Outcome]:
            executions, seed = request.executions, request.seed
            self.calls.append((head, [dict(parameters) for parameters in request.sets], executions, seed))
            self.clock += self.seconds * len(request.sets)
            return [self._outcome(head, request.problem, parameters, executions, seed) for parameters in request.sets]

        return evaluate

    def _outcome(self, head: str, problem: Problem, parameters: Mapping[str, Any], executions: int, seed: int) -> Outcome:
        truth = np.eye(problem.classes, dtype=np.float32)[problem.labels[problem.scored]]
        runs = []
        for execution in range(executions):
            digest = bytes_digest(f"{head} {sorted(parameters.items())} {seed + execution}".encode())
            noise = np.random.default_rng(int(digest[:8], 16)).dirichlet(np.ones(problem.classes), len(truth))
            runs.append((0.4 * truth + 0.6 * noise).astype(np.float32))
        found = {"epochs": 7} if "epochs" in parameters else {}
        curves = {"valid_loss": [0.5, 0.25, float("nan")]} if "epochs" in parameters else {}
        return Outcome(tuple(runs), 0.125, 100 + len(str(parameters)), found, curves)
