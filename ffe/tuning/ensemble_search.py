"""The best few trials, averaged, where that wins on the rows that scored them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ffe.evaluation.temperature import calibrate, with_temperature
from ffe.heads.ensemble import EnsembleHead
from ffe.specs import SearchSpec
from ffe.tuning.metrics import of_equal_classes
from ffe.tuning.problem import Outcome, Problem
from ffe.tuning.search import scored_trial
from ffe.tuning.trial import Trial

AUTO_MEMBERS = 4

_CANDIDATES = 20  # trials, the first of the leaderboard


def best_ensemble(problem: Problem, spec: SearchSpec, trials: Sequence[Trial]) -> Trial | None:
    """Average the calibrated probabilities of up to ``spec.ensemble`` trials; return the ensemble, or None where none is better.

    Trials stand in the order of ``choose``. To the winner is added what lowers the
    log loss of the mean most, as long as something does: ensemble selection of
    Caruana et al. 2004, https://doi.org/10.1145/1015330.1015432, each trial once.
    Where default parameters won, nothing was better by more than chance, and there is none;
    nor is there one that scores lower than the winner (``tests/benchmarks/bench_regret.py``).
    """
    if trials[0].default:
        return None
    pool, labels = trials[:_CANDIDATES], problem.labels[problem.scored]
    factors = [calibrate(trial.probabilities, labels, groups=problem.scored_groups).factor for trial in pool]
    calibrated = [with_temperature(trial.probabilities, f) for trial, f in zip(pool, factors, strict=True)]
    weights = of_equal_classes(labels) if spec.metric == "balanced_accuracy" else np.ones(len(labels))

    def loss(members: Sequence[int]) -> float:
        true = np.mean([calibrated[i][np.arange(len(labels)), labels] for i in members], axis=0)
        return float((weights * -np.log(np.maximum(true, 1e-12))).mean())

    chosen, least = [0], loss([0])
    while len(chosen) < min(spec.ensemble, len(pool)):
        tried = {i: loss([*chosen, i]) for i in range(len(pool)) if i not in chosen}
        best = min(tried, key=lambda i: round(tried[i], 9))
        if tried[best] > least - 1e-9:
            break
        chosen, least = [*chosen, best], tried[best]
    if len(chosen) == 1:
        return None
    members = [{"head": pool[i].head, "parameters": pool[i].parameters, "temperature": factors[i]} for i in chosen]
    mean = np.mean([calibrated[i] for i in chosen], axis=0).astype(np.float32)
    outcome = Outcome((mean,), sum(pool[i].fit_seconds for i in chosen), sum(pool[i].size for i in chosen))
    finished = max(trial.finished for trial in trials)
    found = scored_trial(problem, spec, EnsembleHead.name, {"members": members}, outcome, finished)
    lower = round(found.score, 9) < round(trials[0].score, 9)
    return None if lower else dataclasses.replace(found, tied=True, log_loss=least)
