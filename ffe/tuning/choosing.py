"""Which trial wins: a difference counts only where it is more than chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ffe.evaluation.intervals import group_numbers
from ffe.heads import find_head
from ffe.tuning.metrics import ROW_SCORES, of_equal_classes
from ffe.tuning.problem import Problem
from ffe.tuning.trial import Trial, rank

_CHANCE = 2.0  # standard errors of a difference on the same rows that are taken for chance


def choose(problem: Problem, metric: str, trials: Sequence[Trial]) -> list[Trial]:
    """Return trials with the winner first.

    All were scored on the same rows, so their differences are taken row by row.
    Those that are no worse than the highest score by more than two standard errors of that
    difference are ``tied``, as in the rule of Breiman et al. 1984, Classification
    and Regression Trees, section 3.4.3. They come first, by log loss, which tells
    more from the same rows; equal ones go to the smaller head. Of them default
    parameters win, those of the head that has the least log loss with them, unless
    others have less by more than that, too; not those of heads that
    hang on a seed, whose score is that of one seed, and of an epoch that these rows
    chose. The rest follows by score.

    ``tests/benchmarks/bench_regret.py`` measures the rule on photos that no search saw.
    """
    ranked, labels = rank(trials), problem.labels[problem.scored]
    groups = group_numbers(problem.scored_groups, len(labels))
    best = ROW_SCORES[metric](ranked[0].probabilities, labels)
    tied, others = list[tuple[Trial, np.ndarray]](), list[Trial]()
    for trial in ranked:
        if _exceeds_chance(best - ROW_SCORES[metric](trial.probabilities, labels), groups):
            others.append(trial)
        else:
            losses = losses_of_rows(metric, trial.probabilities, labels)
            tied.append((dataclasses.replace(trial, tied=True, log_loss=float(losses.mean())), losses))
    tied.sort(key=lambda pair: round(float(pair[1].mean()), 9))
    default = next((pair for pair in tied if pair[0].default and not find_head(pair[0].head).random), tied[0])
    if not _exceeds_chance(default[1] - tied[0][1], groups):
        tied.sort(key=lambda pair: pair is not default)
    return [*(trial for trial, _ in tied), *others]


def losses_of_rows(metric: str, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the calibrated log loss of rows, float64 (m,); where classes count alike in the metric, they do so here."""
    weights = of_equal_classes(labels) if metric == "balanced_accuracy" else 1.0
    return -weights * ROW_SCORES["log_loss"](probabilities, labels)


def _exceeds_chance(gains: np.ndarray, groups: np.ndarray) -> bool:
    """Return whether the mean of gains, float64 (m,), is above what is taken for chance; rows of one group count as one."""
    sums = np.bincount(groups, gains - gains.mean())
    return bool(gains.mean() > _CHANCE * np.sqrt(np.square(sums).sum()) / len(gains))
