"""``tune`` and ``train``: a feature file in, a tested model and its file out."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffe._version import __version__
from ffe.base.text import bytes_text, counted, did_you_mean, listed, rough_duration
from ffe.bundle import manifest as layout
from ffe.bundle.build import check_output, check_page, library_versions, tested_before, write_model
from ffe.bundle.io import SplitRow
from ffe.bundle.manifest import Manifest
from ffe.dataset.stored_rows import split_rows
from ffe.errors import BundleError, HeadError
from ffe.evaluation.comparison import compare
from ffe.evaluation.reject import check_threshold, selective_scores
from ffe.evaluation.scores import evaluate_probabilities
from ffe.evaluation.temperature import calibrate, with_temperature
from ffe.heads import HEADS, find_head
from ffe.heads.ensemble import EnsembleHead
from ffe.heads.search_space import complete
from ffe.heads.transform import poolings_searched
from ffe.report.tune_page import write_report
from ffe.specs import HeadSpec, SearchSpec
from ffe.store.reader import FeatureStore
from ffe.tuning.cost import Cost, estimate
from ffe.tuning.ensemble_search import best_ensemble
from ffe.tuning.leak_claim import leak_of
from ffe.tuning.problem import Problem
from ffe.tuning.search import (
    SearchProgress,
    Trial,
    best_of_each_head,
    refit,
    score_once,
    search,
)
from ffe.tuning.setup import AUTO, build_problem, trial_store_of, views_used
from ffe.tuning.trial_store import TrialStore
from ffe.tuning.tune_result import TuneResult

log = logging.getLogger("ffe")

_LEAST_SECONDS = 1e-3  # of a search: one trial


@dataclass(frozen=True)
class _Options:
    """What ``tune`` and ``train`` do alike."""

    output: str | os.PathLike[str] | None
    valid: str | os.PathLike[str] | None
    test: str | os.PathLike[str] | None
    folds: int | None
    weights: str
    with_backbone: bool
    reject: float
    report: str | os.PathLike[str] | None
    is_search: bool
    overwrite: bool
    anonymous: bool = False


def tune(
    features: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    heads: str | Sequence[str] = AUTO,
    trials: int | None = None,
    budget: float | None = None,
    oracle: str = "bayesian",
    metric: str = "accuracy",
    settings: Mapping[str, Any] | None = None,
    executions: int = 1,
    epochs: int = 50,
    folds: int | None = None,
    test_fraction: float = 0.2,
    class_weights: str = "auto",
    ensemble: int = 0,
    reject: float = 0.0,
    seed: int = 0,
    views: str | None = None,
    valid: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
    weights: str = "imagenet",
    with_backbone: bool = True,
    report: str | os.PathLike[str] | None = None,
    anonymous: bool = False,
    on_progress: Callable[[SearchProgress], None] = lambda progress: None,
) -> TuneResult:
    """Search over heads on stored features; refit the winner; test it once; write a model file.

    Splits are taken from the file, or from ``valid`` and ``test``; where there
    are none, a share is held out for the test, and the trials are scored by
    stratified cross-validation on the rest. Images that belong together stand
    on one side (``ffe.splits``); what tested in a model that is replaced tests
    again, unless another seed or share is asked for. The winner is fitted again on all training
    rows, and its probabilities are calibrated on those that scored it.

    A search that was interrupted goes on where it stopped when it is started
    again: finished trials are kept in ``OUTPUT.search/`` until the model is
    written.

    Args:
        features: a feature file.
        output: the model file; None = write none.
        overwrite: replace a model that is there; see ``ffe.base.text.overwrite_refusal``.
        heads: ``auto`` for all of them, or names.
        trials: parameter sets tried for each head; None = a number that suits
            each, or what the budget allows.
        budget: seconds for the whole call, about: what comes after the search is kept free, and what is only told is
            left out where the time is over all the same. One trial is always made.
        oracle: ``bayesian``, ``hyperband`` or ``random``.
        metric: ``accuracy``, ``balanced_accuracy`` or ``log_loss``.
        settings: parameters that are not searched, for every head that has them.
        executions: trainings of each set, for heads that depend on a seed.
        epochs: longest training of a dense head.
        folds: parts for cross-validation; None = 5, or fewer for small classes.
        test_fraction: share held out for the test, where no split is given.
        class_weights: ``auto`` (balanced where the rarest class has under half its share), ``balanced`` or ``none``.
        ensemble: heads that are averaged, where that wins; 0 = none.
        reject: probability below which the model answers "not sure"; 0 = never.
        seed: start of every random choice.
        views: of a file that has views, which rows of a training image are
            fitted on: ``all``, ``none`` but the plain one, or in dense heads one
            drawn for each ``epoch`` (other heads then take all); None = all.
            Validation and test are on plain rows.
        valid, test: feature files to score the trials and the winner on.
        weights: where the backbone's weights are: ``imagenet`` (looked for), or a path.
        with_backbone: put the backbone into the model file.
        report: an HTML file to write.
        anonymous: keep no names and digests of photos in the model, and neither names nor pictures in the report.
        on_progress: called after every batch of trials.

    Raises:
        StoreError, DataError, HeadError, WeightsError, BundleError, ReportError, SpecError: before the search starts.
    """
    started = time.monotonic()
    names = tuple(HEADS) if heads == AUTO else tuple(dict.fromkeys([heads] if isinstance(heads, str) else heads))
    _check_settings(names, settings or {})
    spec = SearchSpec(
        heads=names,
        trials=trials,
        seconds=budget,
        oracle=oracle,  # type: ignore[arg-type]
        metric=metric,  # type: ignore[arg-type]
        fixed=dict(settings or {}),
        executions=executions,
        epochs=epochs,
        folds=5 if folds is None else folds,
        test_fraction=test_fraction,
        class_weights=class_weights,  # type: ignore[arg-type]
        ensemble=ensemble,
        seed=seed,
        views=views,  # type: ignore[arg-type]
    )
    options = _Options(output, valid, test, folds, weights, with_backbone, reject, report, True, overwrite, anonymous)

    def find(problem: Problem, memory: TrialStore, groups: np.ndarray) -> list[Trial]:
        cost = _say_cost(problem, spec)
        _warm_up()
        left = None if budget is None else max(_LEAST_SECONDS, started + budget - time.monotonic())
        later = _fits_afterwards(problem, spec, groups, report is not None)
        found = search(
            *(problem, dataclasses.replace(spec, seconds=left), on_progress, memory),
            expected=cost.each,
            afterwards=lambda best: later * best.fit_seconds,
        )
        if untried := [name for name in spec.heads if name not in {trial.head for trial in found}]:
            log.warning("the time was over before %s could be tried; give more with --budget", listed(untried, "or"))
        if spec.ensemble < 2:
            return found
        together = best_ensemble(problem, spec, found, groups)
        if together is None:
            log.info("no average of up to %d heads scores higher than the best alone, so there is no ensemble", spec.ensemble)
            return found
        return [together, *found]

    return _run(features, spec, options, find, started)


def train(
    features: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    head: str,
    settings: Mapping[str, Any] | None = None,
    folds: int | None = None,
    test_fraction: float = 0.2,
    class_weights: str = "auto",
    reject: float = 0.0,
    seed: int = 0,
    views: str | None = None,
    valid: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
    weights: str = "imagenet",
    with_backbone: bool = True,
    report: str | os.PathLike[str] | None = None,
    anonymous: bool = False,
) -> TuneResult:
    """Fit one head with given parameters, without a search; test it; write a model file.

    The parameters are cross-validated once, for the calibration and for a dense
    head's number of epochs; then the head is fitted on all training rows.

    Args:
        features: a feature file.
        output: the model file; None = write none.
        head: name of the head.
        settings: its parameters; defaults fill in the rest.
        overwrite, folds, test_fraction, class_weights, reject, seed, views, valid, test, weights, with_backbone, report,
            anonymous: see ``tune``.

    Raises:
        StoreError, DataError, HeadError, WeightsError, BundleError, ReportError, SpecError: before the fit starts.
    """
    started = time.monotonic()
    complete(find_head(head).space, settings or {}, head)
    spec = SearchSpec(
        heads=(head,),
        trials=1,
        fixed=dict(settings or {}),
        folds=5 if folds is None else folds,
        test_fraction=test_fraction,
        class_weights=class_weights,  # type: ignore[arg-type]
        seed=seed,
        views=views,  # type: ignore[arg-type]
    )
    options = _Options(output, valid, test, folds, weights, with_backbone, reject, report, False, overwrite, anonymous)
    return _run(features, spec, options, lambda problem, memory, groups: [score_once(problem, spec, head, spec.fixed)], started)


def _check_settings(heads: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Make sure that there are such heads, that some head has each parameter that is set, and that the values fit."""
    spaces = {head: find_head(head).space for head in heads}
    names = {head: [parameter.name for parameter in space] for head, space in spaces.items()}
    for name in settings:
        if not any(name in known for known in names.values()):
            known = "; ".join(f"{head} has {', '.join(names[head])}" for head in heads)
            near = did_you_mean(name, {parameter for known in names.values() for parameter in known})
            raise HeadError(f"None of the heads has a parameter '{name}': {known}.{near}")
    for head, space in spaces.items():
        complete(space, {name: value for name, value in settings.items() if name in names[head]}, head, fill=False)


def _fits_afterwards(problem: Problem, spec: SearchSpec, groups: np.ndarray, report: bool) -> float:
    """Return how many fits come after a search: of the winner on all rows, and on the parts once more for what is told of it."""
    parts = len(problem.parts)
    refits = max(1, spec.ensemble) * parts / max(1, parts - 1)
    claim = parts if parts > 1 and len(np.unique(groups)) < len(groups) else 0
    return refits + claim + (parts if report else 0)


def _say_cost(problem: Problem, spec: SearchSpec) -> Cost:
    """Say what the search will take, before it starts."""
    cost = estimate(problem, spec)
    trials = "as many trials as fit" if cost.trials is None else counted(cost.trials, "trial")
    fits = "once" if len(problem.parts) == 1 else f"{len(problem.parts)} times"
    log.info(
        "searching %s: %s, each fitted %s on about %d %s; the search takes about %s and %s of memory",
        ", ".join(spec.heads),
        trials,
        fits,
        round(float(np.mean([len(problem.plain(fit)) for fit, _ in problem.parts]))),
        "rows" if problem.image is None else "images and their views",
        rough_duration(cost.seconds),
        bytes_text(cost.bytes),
    )
    for note in filter(None, (find_head(name).search_note(len(problem.train)) for name in spec.heads)):
        log.info("%s", note)
    if "flat" not in poolings_searched(len(problem.features), problem.grid) and "pooling" not in spec.fixed:
        log.info(
            "%d features are many, so most trials look at them pooled; --set pooling=flat takes them as they are",
            problem.features.shape[1],
        )
    return cost


def _warm_up() -> None:
    """Load KerasTuner, which the search needs later, while its first trials run."""

    def load() -> None:
        import keras_tuner  # noqa: F401

    threading.Thread(target=load, name="ffe-warm-up", daemon=True).start()


def _run(
    features: str | os.PathLike[str],
    spec: SearchSpec,
    options: _Options,
    find: Callable[[Problem, TrialStore, np.ndarray], list[Trial]],
    started: float,
) -> TuneResult:
    """Split the rows, find the winner, judge it, write it."""
    check_threshold(options.reject)
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(FeatureStore(features))
        views = views_used(store, spec)
        found = check_output(
            *(store, options.output, options.weights, options.with_backbone),
            overwrite=options.overwrite,
            inputs=(features, options.valid, options.test),
        )
        check_page(options.report, options.output)
        tested = tested_before(options.output, spec.seed, spec.test_fraction)
        valid, test = (
            None if path is None else opened.enter_context(FeatureStore(path)) for path in (options.valid, options.test)
        )
        rows = split_rows(store, valid, test, spec.test_fraction, spec.seed, tested)
        chosen = np.isin(rows.side, ("train", "valid"))
        problem, validation = build_problem(rows, chosen, store, spec, options.folds, views)
        memory = trial_store_of(options.output if options.is_search else None, rows, store, problem, views)
        ids = rows.groups.ids[chosen]
        trials = find(problem, memory, ids[problem.scored])
        winner, labels = trials[0], problem.labels[problem.scored]
        calibration = calibrate(winner.probabilities, labels, groups=ids[problem.scored])
        best = best_of_each_head(trials)
        comparison = None
        if len(best) > 1:
            comparison = compare(best[0].probabilities, best[1].probabilities, labels, groups=ids[problem.scored])
        head = refit(problem, winner, spec.seed)
        testing = rows.side == "test"
        unseen = rows.load(testing)
        probabilities = with_temperature(head.predict_proba(unseen), calibration.factor)
        ids_of_test = rows.groups.ids[testing]
        together = ids_of_test if len(np.unique(ids_of_test)) < len(ids_of_test) else None
        evaluation = evaluate_probabilities(probabilities, rows.images.labels[testing], rows.class_names, groups=together)
        single = next(trial for trial in trials if trial.head != EnsembleHead.name)
        over = spec.seconds is not None and time.monotonic() - started >= spec.seconds
        leak = leak_of(rows, chosen, problem, spec, single, probabilities, claim=not over)
        sure = selective_scores(probabilities, rows.images.labels[testing], options.reject) if options.reject else None
        result = TuneResult(
            output=None if options.output is None else Path(options.output),
            head=head,
            leaderboard=tuple(trials),
            evaluation=evaluation,
            calibration=calibration,
            rivals=tuple(trial.head for trial in best[:2]) if comparison else (),
            comparison=comparison,
            leak=leak,
            answered=sure,
            class_weights=None if problem.class_weights is None else tuple(problem.class_weights.tolist()),
            rows=rows.counts(),
            views=views,
            validation=validation,
            known=memory.known,
            seconds=time.monotonic() - started,
            classes=rows.class_names,
        )
        if result.output is not None:
            manifest = Manifest(
                schema=layout.SCHEMA,
                ffe_version=__version__,
                libraries=library_versions(),
                spec=store.spec,
                spec_digest=store.spec_digest,
                grid=store.grid,
                head=HeadSpec(head.name, head.parameters),
                class_names=rows.class_names,
                evaluation={"test": evaluation.to_json()},
                leaderboard=tuple(trial.to_json() for trial in trials),
                search={
                    **spec.to_json(),
                    "folds": len(problem.parts),
                    "validation": validation,
                    "rows": rows.counts(),
                    "rivals": list(result.rivals),
                    "comparison": None if comparison is None else comparison.to_json(),
                    "leak": None if leak is None else leak.to_json(),
                },
                members={},
                calibration=calibration.to_json(),
                reject=options.reject,
                views=None if views is None else views.to_json(),
            )
            columns = (rows.images.paths, rows.images.sha256, rows.side.tolist())
            splits = [] if options.anonymous else [SplitRow(*row) for row in zip(*columns, strict=True)]
            try:
                write_model(result.output, manifest, head, splits, found)
            except BundleError as error:
                if not options.is_search:
                    raise
                raise BundleError(f"{error} The finished trials are kept: the same command goes on with them.") from error
        if options.report is not None:
            shown = rows.anonymous() if options.anonymous else rows
            written = (Path(options.report), result, shown, store, problem, spec, probabilities)
            write_report(*written, searched=options.is_search, grown=not over)
        memory.forget()
        return dataclasses.replace(result, seconds=time.monotonic() - started)
