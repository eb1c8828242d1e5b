"""The learning curve of a head: it is fitted on growing shares of the training rows."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ffe.evaluation.intervals import accuracy_intervals
from ffe.evaluation.learning_curve import LearningCurve, LearningCurvePoint, fit_learning_curve
from ffe.specs import SearchSpec
from ffe.tuning.kernel_cache import KernelCache
from ffe.tuning.problem import Problem
from ffe.tuning.search import score_once
from ffe.tuning.trial import Trial

_SHARES = (0.125, 0.25, 0.5, 1.0)  # of the training rows
_FEWEST_OF_A_CLASS = 2
_FEWEST_SHARES = 3
FEWEST_TO_MEASURE = math.ceil(_FEWEST_OF_A_CLASS / _SHARES[-_FEWEST_SHARES])  # training rows of a class, in each part


def measure_learning_curve(problem: Problem, spec: SearchSpec, trial: Trial) -> LearningCurve | None:
    """Fit the head of a trial, no ensemble, on growing shares of each part; None where a class has too few rows.

    The intervals are of the choice of the images that score, not of those that train.
    """
    labels = problem.labels
    least = min(int(np.bincount(labels[problem.plain(fit)], minlength=problem.classes).min()) for fit, _ in problem.parts)
    shares = [share for share in _SHARES if least * share >= _FEWEST_OF_A_CLASS]
    if len(shares) < _FEWEST_SHARES:
        return None
    # fewer rows need more epochs
    without_epochs = {key: value for key, value in trial.parameters.items() if key != "epochs"}
    sizes, right, cache = [], [], KernelCache(problem.features)
    for share in shares:
        chosen = [_stratified(labels, problem.plain(fit), share, spec.seed) for fit, _ in problem.parts]
        parts = [(problem.with_views(some), score) for some, (_, score) in zip(chosen, problem.parts, strict=True)]
        smaller = dataclasses.replace(problem, parts=parts)
        found = trial if share == 1.0 else score_once(smaller, spec, trial.head, without_epochs, cache)
        right.append(found.probabilities.argmax(axis=1) == labels[problem.scored])
        sizes.append(int(np.mean([len(some) for some in chosen])))
    intervals = accuracy_intervals(np.stack(right), problem.scored_groups)
    points = map(LearningCurvePoint, sizes, np.mean(right, axis=1).tolist(), intervals)
    return fit_learning_curve([*points], seed=spec.seed)


def _stratified(labels: np.ndarray, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return a share of the rows, the same of every class."""
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels[rows]):
        own = generator.permutation(rows[labels[rows] == label])
        chosen.append(own[: max(1, round(len(own) * share))])
    return np.sort(np.concatenate(chosen))
