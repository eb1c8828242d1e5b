"""The best few heads, averaged, where that wins on the rows that scored them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ffe.evaluation.temperature import calibrate, with_temperature
from ffe.heads.ensemble import EnsembleHead
from ffe.specs import SearchSpec
from ffe.tuning.problem import Outcome, Problem
from ffe.tuning.search import scored_trial
from ffe.tuning.trial import Trial


def best_ensemble(problem: Problem, spec: SearchSpec, trials: Sequence[Trial]) -> Trial | None:
    """Average the calibrated probabilities of the best heads; return the ensemble, or None where none scores higher than all.

    Members are the best trial of each head and pooling, in the order of the ranked
    trials; of the averages of the first 2, 3, ... ``spec.ensemble`` the best is taken.
    """
    candidates: dict[tuple[str, ...], Trial] = {}
    for trial in trials:
        candidates.setdefault((trial.head, *(str(trial.parameters.get(name)) for name in ("pooling", "parts"))), trial)
    chosen = list(candidates.values())[: spec.ensemble]
    labels = problem.labels[problem.scored]
    factors = [calibrate(trial.probabilities, labels, groups=problem.scored_groups).factor for trial in chosen]
    calibrated = [with_temperature(trial.probabilities, f) for trial, f in zip(chosen, factors, strict=True)]
    best: Trial | None = None
    for count in range(2, len(chosen) + 1):
        members = [
            {"head": trial.head, "parameters": trial.parameters, "temperature": factor}
            for trial, factor in zip(chosen[:count], factors[:count], strict=True)
        ]
        mean = np.mean(calibrated[:count], axis=0).astype(np.float32)
        seconds, size = sum(t.fit_seconds for t in chosen[:count]), sum(t.size for t in chosen[:count])
        outcome, finished = Outcome((mean,), seconds, size), max(trial.finished for trial in trials)
        trial = scored_trial(problem, spec, EnsembleHead.name, {"members": members}, outcome, finished)
        if trial.score > (best or trials[0]).score + 1e-9:
            best = trial
    return best
