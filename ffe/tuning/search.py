"""Try heads and parameters on the same rows, score them the same way, rank them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import threadpoolctl

from ffe.heads import find_head
from ffe.heads.base import Head, Validation, size_in_bytes
from ffe.heads.feature_map import POOLING
from ffe.heads.space import complete
from ffe.specs import SearchSpec
from ffe.tuning.oracle import search_space

FLAT_FEATURES = 16_384


@dataclass(frozen=True)
class Trial:
    """One set of parameters, scored.

    Attributes:
        head: name of the head.
        parameters: values of the active parameters; those that the fit found
            (the epoch to stop at) included, ready for a refit.
        score: mean accuracy on the validation rows, in [0, 1].
        spread: standard deviation of the accuracy over the folds and
            executions; None where there was one alone.
        fit_seconds: one fit, on average.
        size: bytes of the fitted head.
    """

    head: str
    parameters: dict[str, Any]
    score: float
    spread: float | None
    fit_seconds: float
    size: int

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Problem:
    """Rows, and which of them to fit and to score on.

    Attributes:
        features: float32 (N, D).
        labels: int64 (N,), in [0, classes).
        train: int64 (n,), the rows that the final head is fitted on.
        parts: (rows to fit on, rows to score on) of each fold; one pair where
            there is a validation split.
        classes: number of classes.
        grid: (h, w, c) of the features.
    """

    features: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    parts: Sequence[tuple[np.ndarray, np.ndarray]]
    classes: int
    grid: tuple[int, int, int]


def fold_parts(train: np.ndarray, folds: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (fit, score) for every fold; ``folds`` int64 (n,) goes with the rows ``train`` (n,)."""
    return [(train[folds != k], train[folds == k]) for k in range(int(folds.max()) + 1)]


def poolings_searched(grid: tuple[int, int, int]) -> tuple[str, ...]:
    """Return the poolings that a search tries.

    A grid of one cell has nothing to pool. Above 16,384 features the flat
    ones are left out: they cost the most and, on such fine grids, rarely win.
    """
    height, width, channels = grid
    if height * width == 1:
        return ("flat",)
    if height * width * channels > FLAT_FEATURES:
        return tuple(p for p in POOLING.choices if p != "flat")
    return POOLING.choices


def search(
    problem: Problem, spec: SearchSpec, on_trial: Callable[[Trial, int, int], None] = lambda trial, done, total: None
) -> list[Trial]:
    """Search over heads.

    Each head gets the same number of trials, the same oracle and the same
    parts. Its first trials are its default parameters in each pooling. The
    dense head picks its epoch on the rows that score it, which flatters it a
    little in this ranking, and not in the test.

    Args:
        problem: the rows.
        spec: what to try.
        on_trial: called after every trial with it, how many are done, and how many there will be at the most.

    Returns:
        All trials, the best first. Equal scores go to the smaller head.

    Raises:
        HeadError: there is no such head.
    """
    trials: list[Trial] = []
    for name in spec.heads:
        kind = find_head(name)
        poolings = poolings_searched(problem.grid)
        fixed: dict[str, Any] = {}
        if any(p.name == "epochs" for p in kind.space):
            fixed["epochs"] = spec.epochs
        if len(poolings) == 1:
            fixed[POOLING.name] = poolings[0]
        space = tuple(
            dataclasses.replace(p, choices=poolings) if p.name == POOLING.name else p
            for p in kind.space
            if p.searched and p.name not in fixed
        )
        names = {p.name for p in space}
        defaults = {k: v for k, v in complete(kind.space, fixed, name).items() if k in names}
        others = [p for p in poolings if p != defaults.get(POOLING.name)] if POOLING.name in names else []
        first = [defaults, *({**defaults, POOLING.name: p} for p in others)]

        def evaluate(values: Mapping[str, Any], name: str = name, fixed: Mapping[str, Any] = fixed) -> float:
            trial = run_trial(problem, name, {**values, **fixed}, executions=spec.executions, seed=spec.seed)
            trials.append(trial)
            on_trial(trial, len(trials), spec.trials * len(spec.heads))
            return trial.score

        search_space(space, evaluate, trials=spec.trials, seed=spec.seed, first=first)
    return rank(trials)


def run_trial(problem: Problem, name: str, settings: Mapping[str, Any], *, executions: int = 1, seed: int = 0) -> Trial:
    """Fit and score one set of parameters on every part.

    Args:
        problem: the rows.
        name: the head.
        settings: its parameters; defaults fill in what is missing.
        executions: fits per part from different seeds, for heads that depend on one.
        seed: the first seed.

    Raises:
        HeadError: a parameter does not fit.
    """
    kind = find_head(name)
    parameters = complete(kind.space, settings, name)
    seeds = range(seed, seed + (executions if kind.random else 1))
    jobs = [(fit, score, s) for fit, score in problem.parts for s in seeds]
    started = time.monotonic()
    # Threads: the libraries let go of Python's lock, and share one copy of all rows. Keras takes one fit at a time.
    # With several fits under way, each gets one thread of BLAS, or they would wait for one another.
    parallel = kind.parallel and len(jobs) > 1
    with threadpoolctl.threadpool_limits(limits=1 if parallel else None, user_api="blas"):
        fitted = joblib.Parallel(n_jobs=-1 if parallel else 1, prefer="threads")(
            joblib.delayed(_fit_and_score)(kind, parameters, problem, *job) for job in jobs
        )
    seconds = (time.monotonic() - started) / len(jobs)
    scores = [score for _, score in fitted]
    heads = [head for head, _ in fitted]
    found = {key: type(value)(np.median([head.found()[key] for head in heads])) for key, value in heads[0].found().items()}
    return Trial(
        head=name,
        parameters={**parameters, **found},
        score=float(np.mean(scores)),
        spread=float(np.std(scores)) if len(scores) > 1 else None,
        fit_seconds=seconds,
        size=int(np.mean([size_in_bytes(head) for head in heads])),
    )


def _fit_and_score(
    kind: type[Head], parameters: Mapping[str, Any], problem: Problem, fit: np.ndarray, score: np.ndarray, seed: int
) -> tuple[Head, float]:
    held = Validation(problem.features[score], problem.labels[score])
    head = kind(parameters, problem.grid).fit(
        problem.features[fit], problem.labels[fit], problem.classes, seed=seed, validation=held
    )
    right = head.predict_proba(held.features).argmax(axis=1) == held.labels
    return head, float(right.mean())


def rank(trials: Sequence[Trial]) -> list[Trial]:
    """Sort trials, the best first; equal scores (to nine digits) go to the smaller head, then by name."""
    return sorted(trials, key=lambda t: (-round(t.score, 9), t.size, t.head, sorted(map(str, t.parameters.items()))))


def refit(problem: Problem, trial: Trial, seed: int) -> Head:
    """Fit the head of a trial on all training rows, with nothing left to find."""
    kind = find_head(trial.head)
    head = kind(complete(kind.space, trial.parameters, trial.head), problem.grid)
    return head.fit(problem.features[problem.train], problem.labels[problem.train], problem.classes, seed=seed)
