"""Try heads and parameters on the same rows, score them the same way, rank them."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffe.base.arrays import take_rows
from ffe.heads import find_head
from ffe.heads.base import FitData, Head
from ffe.heads.ensemble import head_class
from ffe.heads.search_space import Parameter, active, complete
from ffe.heads.svm import EXACT_ROWS
from ffe.heads.transform import PARTS, POOLING, FeatureMap, poolings_searched
from ffe.specs import SearchSpec
from ffe.tuning.choosing import choose
from ffe.tuning.keras_tuner import TrialProposer, hyperband_trials
from ffe.tuning.kernel_cache import KernelCache
from ffe.tuning.metrics import mean_score
from ffe.tuning.problem import Outcome, Problem
from ffe.tuning.score_any import fit_each
from ffe.tuning.score_dense import dense_outcomes
from ffe.tuning.score_forest import forest_outcomes
from ffe.tuning.score_logistic import logistic_outcomes
from ffe.tuning.score_svm import svm_outcomes
from ffe.tuning.scoring import Scorer, ScoreRequest
from ffe.tuning.trial import Trial, rank
from ffe.tuning.trial_store import TrialStore

log = logging.getLogger("ffe")

# of the heads that are scored faster than by fitting each set on each part
SCORERS: dict[str, Scorer] = {
    "svm": svm_outcomes,
    "logistic": logistic_outcomes,
    "dense": dense_outcomes,
    "forest": forest_outcomes,
}

_MOST_AT_ONCE = 32  # trials of one call where the user says how many, and so many calls that an oracle learns
_CALLS = 5
_MANY = 10_000  # trials that no budget allows


@dataclass(frozen=True)
class SearchProgress:
    """How far a search is."""

    trials: Sequence[Trial]  # all so far, the highest score first
    new: Sequence[Trial]  # those of the last batch
    done: int  # trials
    total: int | None  # that there will be at the most; None where the time alone decides
    elapsed: float  # seconds
    budget: float | None  # seconds; None where the number of trials decides
    metric: str = "accuracy"  # what the scores are


class _HeadSearch:
    """The search over one head."""

    def __init__(self, problem: Problem, spec: SearchSpec, name: str) -> None:
        self.name, self._kind = name, find_head(name)
        self._problem = problem
        poolings = poolings_searched(len(problem.features), problem.layout)
        self._space = self._kind.space_for(problem.layout)
        names = {p.name for p in self._space}
        self._fixed = {key: value for key, value in spec.fixed.items() if key in names or key == PARTS.name}
        if "epochs" in names:
            self._fixed.setdefault("epochs", spec.epochs)
        if len(poolings) == 1:
            self._fixed.setdefault(POOLING.name, poolings[0])
        self._fixed = complete(self._space, self._fixed, name, fill=False)
        if POOLING.name in self._fixed:
            FeatureMap(self._fixed, problem.layout)  # refuses what cannot be
        space = [
            dataclasses.replace(p, choices=poolings) if p.name == POOLING.name else p
            for p in _left_to_search(self._space, self._fixed)
        ]
        self.defaults = self._completed({})
        first = self._first({p.name for p in space})
        epochs = int(self._fixed.get("epochs", spec.epochs))
        oracle = "bayesian" if spec.oracle == "hyperband" and ("epochs" not in names or not space) else spec.oracle
        if not space:
            self.total = 1
        elif spec.trials is not None:
            self.total = spec.trials
        elif spec.seconds is not None:
            self.total = _MANY
        elif oracle == "hyperband":
            self.total = hyperband_trials(epochs)
        else:  # KerasTuner adds half as many sets where rows are many
            self.total = len(first) + self._kind.further_trials // (1 if len(problem.features) <= EXACT_ROWS else 2)
        self.proposer = TrialProposer(space, oracle=oracle, trials=self.total, epochs=epochs, seed=spec.seed, first=first)
        self.first = 0 if oracle == "hyperband" else len(first)  # sets that no oracle proposes
        self.at_once, self.done = self._kind.trials_at_once, 0
        self.seconds_each: float | None = None

    def _first(self, searched: set[str]) -> list[dict[str, Any]]:
        """Return the sets to begin with; those that do not go with what is fixed are left out."""
        result: list[dict[str, Any]] = []
        for settings in self._kind.first_trials(len(self._problem.features), self._problem.layout):
            if all(self._fixed.get(key, value) == value for key, value in settings.items()):
                chosen = {key: value for key, value in self._completed(settings).items() if key in searched}
                if chosen not in result:
                    result.append(chosen)
        return result

    def _completed(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return a complete set; what is fixed is in it where it exists beside what was chosen."""
        known, values = {**self._fixed, **chosen}, dict[str, Any]()
        for p in self._space:
            if active(p, values):
                values[p.name] = known.get(p.name, p.default)
        return complete(self._space, values, self.name)

    def next_sets(self, count: int) -> list[dict[str, Any]]:
        """Return up to ``count`` complete sets of parameters."""
        asked = self.proposer.ask(min(count, self.total - self.done))
        return [self._completed(values) for values in asked]


def _left_to_search(space: Sequence[Parameter], fixed: Mapping[str, Any]) -> list[Parameter]:
    """Return the parameters that a search chooses, where some are fixed; of their conditions, those that are still open."""
    by_name = {p.name: p for p in space}
    left: dict[str, Parameter] = {}
    for p in space:
        if not p.searched or p.name in fixed:
            continue
        when = p.when
        while when is not None and when[0] in fixed and fixed[when[0]] in when[1]:
            when = by_name[when[0]].when  # it holds wherever its own condition does
        if when is None or when[0] in left:
            left[p.name] = dataclasses.replace(p, when=when)
    return list(left.values())


def trials_planned(problem: Problem, spec: SearchSpec) -> dict[str, tuple[int, bool]]:
    """Return how many trials each head gets at the most, and whether an oracle proposes some of them.

    A HeadError says that what is fixed does not fit.
    """
    searches = [_HeadSearch(problem, spec, name) for name in spec.heads]
    return {each.name: (each.total, each.total > each.first) for each in searches}


def search(
    problem: Problem,
    spec: SearchSpec,
    on_progress: Callable[[SearchProgress], None] = lambda progress: None,
    store: TrialStore | None = None,
    *,
    expected: Mapping[str, float] | None = None,
    afterwards: Callable[[Trial], float] = lambda best: 0.0,
) -> list[Trial]:
    """Search over heads; return all trials, in the order of ``choose``: the winner first.

    The heads take turns, each with a batch of trials, which are scored together.
    A search by number of trials is the same whenever rows, options and seed are,
    on one machine: what is tried later follows from scores in floats. A dense
    head picks its epoch on the rows that score it, which flatters it a little here.

    ``store`` has the finished batches of an earlier run. A head whose ``expected``
    seconds for a first trial do not fit any more is not begun; the seconds that
    ``afterwards`` tells for the best trial so far are kept free.
    """
    started = time.monotonic()
    store = store or TrialStore()
    searches = [_HeadSearch(problem, spec, name) for name in spec.heads]
    total = None if spec.seconds is not None and spec.trials is None else sum(s.total for s in searches)
    cache, trials = KernelCache(problem.features), list[Trial]()
    waiting = list(searches)
    while waiting:
        for head in waiting[:1] if not trials and spec.trials is None else list(waiting):
            elapsed = time.monotonic() - started
            count = head.at_once if spec.trials is None else max(2, min(_MOST_AT_ONCE, spec.trials // _CALLS))
            if spec.trials is None and len(trials) < 2:  # the very first is told alone, and soon; the rest of its batch follows
                count = max(1, count - 1) if trials else 1
            if spec.seconds is not None:
                left = spec.seconds - elapsed - (afterwards(rank(trials)[0]) if trials else 0.0)
                count = min(count, _affordable(head, left, (expected or {}).get(head.name, 0.0), first=not trials))
            sets = head.next_sets(count) if count > 0 else []
            if not sets:
                waiting.remove(head)
                continue
            begun, known = time.monotonic(), store.known
            outcomes = _evaluate(problem, cache, spec, head.name, sets, store)
            computed = len(sets) - (store.known - known)
            if store.known and not known:
                log.info("going on where an interrupted run stopped: its trials are not made again")
            if computed:
                head.seconds_each = (time.monotonic() - begun) / computed
            finished = time.monotonic() - started
            new = [scored_trial(problem, spec, head.name, *item, finished) for item in zip(sets, outcomes, strict=True)]
            new[0] = dataclasses.replace(new[0], default=not head.done and sets[0] == head.defaults)
            head.done += len(sets)
            head.proposer.tell([trial.score for trial in new])
            trials += new
            on_progress(SearchProgress(rank(trials), new, len(trials), total, finished, spec.seconds, spec.metric))
            if head.done >= head.total or head.proposer.done:
                waiting.remove(head)
    return choose(problem, spec.metric, trials)


def _affordable(head: _HeadSearch, seconds_left: float, expected: float, *, first: bool) -> int:
    """Return how many trials of a head to make in the time that is left; at least one trial is made in all.

    Trials may take longer than those before them: so of more than one, as many as fit into half of the time.
    """
    if head.seconds_each is None:
        return 1 if first or seconds_left > expected else 0
    fit = int(min(max(seconds_left, 0.0) / max(head.seconds_each, 1e-3), 1_000))
    return max(min(fit, 1), fit // 2)


def _evaluate(
    problem: Problem, cache: KernelCache, spec: SearchSpec, name: str, sets: Sequence[Mapping[str, Any]], store: TrialStore
) -> list[Outcome]:
    executions = spec.executions if find_head(name).random else 1
    asked = [{"head": name, "sets": [dict(chosen)], "executions": executions, "seed": spec.seed} for chosen in sets]
    found = [store.find(each) for each in asked]
    missing = [i for i, outcome in enumerate(found) if outcome is None]
    if missing:
        outcomes = score_sets(name, problem, [sets[i] for i in missing], executions, spec.seed, cache)
        for i, outcome in zip(missing, outcomes, strict=True):
            store.keep(asked[i], outcome)
            found[i] = outcome
    return [outcome for outcome in found if outcome is not None]


def score_sets(
    name: str, problem: Problem, sets: Sequence[Mapping[str, Any]], executions: int, seed: int, cache: KernelCache | None = None
) -> list[Outcome]:
    """Score complete sets of parameters of a head in one call, by its scorer or by fitting each set on each part."""
    request = ScoreRequest(find_head(name), problem, cache or KernelCache(problem.features), sets, executions, seed)
    return SCORERS.get(name, fit_each)(request)


def scored_trial(
    problem: Problem, spec: SearchSpec, name: str, parameters: Mapping[str, Any], outcome: Outcome, finished: float
) -> Trial:
    """Score an outcome."""
    scores = [score for run in outcome.runs for score in _scores_of_parts(problem, run, spec.metric)]
    return Trial(
        head=name,
        parameters={**parameters, **outcome.found},
        score=float(np.mean(scores)),
        spread=float(np.std(scores)) if len(scores) > 1 else None,
        fit_seconds=outcome.seconds,
        size=outcome.size,
        finished=finished,
        probabilities=outcome.runs[0],
        curves=outcome.curves,
    )


def mean_accuracy(problem: Problem, probabilities: np.ndarray) -> float:
    """Return the accuracy of probabilities (m, K) of the scored rows, averaged over the parts."""
    return float(np.mean(_scores_of_parts(problem, probabilities, "accuracy")))


def _scores_of_parts(problem: Problem, probabilities: np.ndarray, metric: str) -> list[float]:
    """Score the probabilities (m, K) of the scored rows, part by part."""
    ends = np.cumsum([len(score) for _, score in problem.parts])[:-1]
    truths = np.split(problem.labels[problem.scored], ends)
    return [mean_score(metric, part, truth) for part, truth in zip(np.split(probabilities, ends), truths, strict=True)]


def score_once(
    problem: Problem, spec: SearchSpec, name: str, settings: Mapping[str, Any], cache: KernelCache | None = None
) -> Trial:
    """Cross-validate one set of parameters; defaults fill in what is missing; a HeadError where one does not fit."""
    kind, started = find_head(name), time.monotonic()
    parameters = complete(kind.space_for(problem.layout), settings, name)
    (outcome,) = score_sets(name, problem, [parameters], spec.executions if kind.random else 1, spec.seed, cache)
    return scored_trial(problem, spec, name, parameters, outcome, time.monotonic() - started)


def refit(problem: Problem, trial: Trial, seed: int) -> Head:
    """Fit the head of a trial on all training rows, with nothing left to find."""
    kind = head_class(trial.head)
    head = kind(
        complete(kind.space_for(problem.layout), trial.parameters, trial.head) if kind.space else trial.parameters, problem.layout
    )
    if (every := problem.every) is not None:
        images = every.image if problem.drawn else None
        return head.fit_streamed(every.source, FitData(every.labels, problem.classes, seed, problem.class_weights, images))
    x = take_rows(head.map.rowwise(problem.features), problem.train)
    return head.fit_rowwise(x, problem.fit_data(problem.train, seed))
