"""``tune`` and ``train``: a feature file in, a tested model and its file out."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from ffe.backbones.weights import Weights
from ffe.base.arrays import RowSource, blocks_of_rows
from ffe.base.clock import Clock
from ffe.base.openvino_ir import IrModel
from ffe.base.text import bytes_text, counted, did_you_mean, listed, rough_duration
from ffe.bundle.build import check_output, check_page, library_versions, tested_before, write_model
from ffe.bundle.io import SplitRow
from ffe.bundle.manifest import Beside, Manifest
from ffe.dataset.feature_files import side_by_side
from ffe.dataset.stored_rows import StoredSplit, split_rows
from ffe.errors import BundleError, HeadError, SpecError
from ffe.evaluation.comparison import compare, differ
from ffe.evaluation.reject import check_threshold, selective_scores
from ffe.evaluation.scores import evaluate_probabilities
from ffe.evaluation.temperature import calibrate, with_temperature
from ffe.exporting.read_table import open_features
from ffe.heads import HEADS, find_head
from ffe.heads.base import Head
from ffe.heads.ensemble import EnsembleHead
from ffe.heads.search_space import complete
from ffe.heads.transform import PARTS, poolings_searched
from ffe.specs import HeadSpec, SearchSpec
from ffe.splits.holdout import TEST, TESTED, TRAIN, VALID
from ffe.tuning.cost import Cost, estimate
from ffe.tuning.ensemble_search import AUTO_MEMBERS, best_ensemble
from ffe.tuning.fusion import files_looked_at, on_files
from ffe.tuning.keras_tuner import warm_up
from ffe.tuning.leak_claim import leak_of
from ffe.tuning.problem import Problem
from ffe.tuning.search import SearchProgress, refit, score_once, search
from ffe.tuning.search_sample import SEARCH_ROWS
from ffe.tuning.setup import AUTO, all_of_them, build_problem, trial_store_of, views_used
from ffe.tuning.trial import Trial, best_of_each_head
from ffe.tuning.trial_store import TrialStore
from ffe.tuning.tune_result import TuneResult
from ffe.wording.results import apart_text

log = logging.getLogger("ffe")

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_LEAST_SECONDS = 1e-3  # of a search: one trial


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """What ``tune`` or ``train`` is asked for; what is not explained here is in the docstring of ``tune``."""

    features: tuple[str | os.PathLike[str], ...]
    output: str | os.PathLike[str] | None
    overwrite: bool
    spec: SearchSpec  # what to try, and how it is scored
    folds: int | None  # None = as many as suit the smallest class, at most 5
    valid: tuple[str | os.PathLike[str], ...]
    test: tuple[str | os.PathLike[str], ...]
    weights: str
    with_backbone: bool
    reject: float
    report: str | os.PathLike[str] | None
    anonymous: bool
    searched: bool  # whether the head is searched for, or given
    clock: Clock  # runs since the call began, to the end of the budget
    on_progress: Callable[[SearchProgress], None] = lambda progress: None

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> Self:
        """Return the value that the keywords of a public function stand for; those of ``SearchSpec`` become ``spec``."""
        budget, folds = keywords.get("budget"), keywords["folds"]
        clock = Clock(time.monotonic(), budget)
        asked = {**keywords, "seconds": budget, "fixed": dict(keywords["settings"] or {}), "folds": 5 if folds is None else folds}
        if asked.get("ensemble") == AUTO:
            asked["ensemble"] = AUTO_MEMBERS
        spec = SearchSpec(**{field.name: asked[field.name] for field in dataclasses.fields(SearchSpec) if field.name in asked})
        check_threshold(keywords["reject"])
        rest = {field.name: keywords[field.name] for field in dataclasses.fields(cls) if field.name in keywords}
        rest |= {name: _paths(keywords[name]) for name in ("features", "valid", "test")}
        if not rest["features"]:
            raise SpecError("No feature file is named; give one, or several of the same photos, such as 'ffe extract' writes.")
        return cls(**{**rest, "spec": spec, "clock": clock})


def tune(
    features: Paths,
    output: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    heads: str | Sequence[str] = AUTO,
    trials: int | None = None,
    budget: float | None = None,
    oracle: str = "bayesian",
    metric: str = "auto",
    settings: Mapping[str, Any] | None = None,
    executions: int = 1,
    epochs: int = 50,
    folds: int | None = None,
    test_fraction: float = 0.2,
    class_weights: str = "auto",
    refit: str = "train",
    ensemble: int | str = 0,
    reject: float = 0.0,
    seed: int = 0,
    views: str | None = None,
    valid: Paths | None = None,
    test: Paths | None = None,
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
        features: a feature file; or several of the same photos, whose rows are joined (other backbones, layers, sizes or
            precisions). Heads then look at all of them or at one; the model holds those that the winner looks at.
        output: the model file; None = write none.
        overwrite: replace a model that is there; see ``ffe.base.text.overwrite_refusal``.
        heads: ``auto`` for all of them, or names.
        trials: parameter sets tried of each head; None = a number that suits
            each, or what the budget allows.
        budget: seconds for the whole call, about: what comes after the search is kept free, and what is only told is
            left out where the time is over all the same. One trial is always made.
        oracle: ``bayesian``, ``hyperband`` or ``random``.
        metric: ``accuracy``, ``balanced_accuracy``, ``log_loss``, or ``auto``: balanced accuracy where classes are weighted,
            else accuracy. What is no worse than the highest score by more than chance is told apart by log loss.
        settings: parameters that are not searched, for every head that has them.
        executions: trainings of each set, for heads that depend on a seed.
        epochs: longest training of a dense head.
        folds: parts for cross-validation; None = 5, or fewer for small classes.
        test_fraction: share held out for the test, where no split is given.
        class_weights: ``auto`` (balanced where the rarest class has under half its share), ``balanced`` or ``none``.
        refit: what the head of the model is fitted on: ``train``, the rows that train; or ``all``, once the test has been
            made: those that validated and tested too. The scores are those of the head that had not seen the test.
        ensemble: up to how many trials are averaged, where that lowers the log loss; ``auto`` = 4, 0 = none.
        reject: probability below which the model answers "not sure"; 0 = never.
        seed: start of every random choice.
        views: of a file that has views, which rows of a training image are
            fitted on: ``all``, ``none`` but the plain one, or in dense heads one
            drawn for each ``epoch`` (other heads then take all); None = all.
            Validation and test are on plain rows.
        valid, test: feature files to score the trials and the winner on; one for each of ``features``, in the same order.
        weights: where the backbone's weights are: ``imagenet`` (looked for), or a path; of several backbones the path is that
            of one, and the others are looked for.
        with_backbone: put the backbone into the model file.
        report: an HTML file to write.
        anonymous: keep no names and digests of photos in the model, and neither names nor pictures in the report.
        on_progress: called after every batch of trials.

    Raises:
        StoreError, DataError, HeadError, WeightsError, BundleError, ReportError, SpecError: before the search starts.
    """
    names = tuple(HEADS) if heads == AUTO else tuple(dict.fromkeys([heads] if isinstance(heads, str) else heads))
    _check_settings(names, settings or {})
    return _run(TuneOptions.of({**locals(), "heads": names, "searched": True}))


def train(
    features: Paths,
    output: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    head: str,
    settings: Mapping[str, Any] | None = None,
    folds: int | None = None,
    test_fraction: float = 0.2,
    class_weights: str = "auto",
    refit: str = "train",
    reject: float = 0.0,
    seed: int = 0,
    views: str | None = None,
    valid: Paths | None = None,
    test: Paths | None = None,
    weights: str = "imagenet",
    with_backbone: bool = True,
    report: str | os.PathLike[str] | None = None,
    anonymous: bool = False,
) -> TuneResult:
    """Fit one head with given parameters, without a search; test it; write a model file.

    The parameters are cross-validated once, for the calibration and for a dense
    head's number of epochs; then the head is fitted on all training rows.

    Args:
        features: a feature file, or several; see ``tune``.
        output: the model file; None = write none.
        head: name of the head.
        settings: its parameters; defaults fill in the rest.
        overwrite, folds, test_fraction, class_weights, refit, reject, seed, views, valid, test, weights, with_backbone, report,
            anonymous: see ``tune``.

    Raises:
        StoreError, DataError, HeadError, WeightsError, BundleError, ReportError, SpecError: before the fit starts.
    """
    complete(find_head(head).space, _known_early(settings or {}), head)
    return _run(TuneOptions.of({**locals(), "heads": (head,), "trials": 1, "searched": False}))


def _known_early(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what only the feature file can tell: which parts there are."""
    return {name: value for name, value in settings.items() if name != PARTS.name}


def _paths(given: Paths | None) -> tuple[str | os.PathLike[str], ...]:
    """Return one path, several or none as a tuple."""
    return () if given is None else (given,) if isinstance(given, (str, os.PathLike)) else tuple(given)


def _check_settings(heads: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Make sure that there are such heads, that some head has each parameter that is set, and that the values fit."""
    spaces = {head: find_head(head).space for head in heads}
    names = {head: [parameter.name for parameter in space] for head, space in spaces.items()}
    settings = _known_early(settings)
    for name in settings:
        if not any(name in known for known in names.values()):
            known = "; ".join(f"{head} has {', '.join(names[head])}" for head in heads)
            near = did_you_mean(name, {parameter for known in names.values() for parameter in known})
            raise HeadError(f"None of the heads has a parameter '{name}': {known}.{near}")
    for head, space in spaces.items():
        complete(space, {name: value for name, value in settings.items() if name in names[head]}, head, fill=False)


def _aimed(spec: SearchSpec, problem: Problem) -> SearchSpec:
    """Return the spec with what the search aims at."""
    if spec.metric != AUTO:
        return spec
    if problem.class_weights is None:
        return dataclasses.replace(spec, metric="accuracy")
    log.info("so the search aims at balanced accuracy, in which every class counts alike (--metric accuracy: every photo)")
    return dataclasses.replace(spec, metric="balanced_accuracy")


def _search(options: TuneOptions, problem: Problem, finished: TrialStore) -> list[Trial]:
    """Search, within the budget; return the trials, the one chosen first, and before them an ensemble that is better."""
    spec = options.spec
    cost = _say_cost(problem, spec)
    warm_up()
    left = None if spec.seconds is None else max(_LEAST_SECONDS, spec.seconds - options.clock.elapsed)
    later = _fits_afterwards(problem, spec, options.report is not None)
    found = search(
        *(problem, dataclasses.replace(spec, seconds=left), options.on_progress, finished),
        expected=cost.each,
        afterwards=lambda best: later * best.fit_seconds,
    )
    if untried := [name for name in spec.heads if name not in {trial.head for trial in found}]:
        log.warning("the time was over before %s could be tried; give it more time", listed(untried, "or"))
    together = None if spec.ensemble < 2 else best_ensemble(problem, spec, found)
    if spec.ensemble >= 2 and together is None:
        log.info("no average of up to %d trials is better than the trial chosen alone, so there is no ensemble", spec.ensemble)
    return found if together is None else [together, *found]


def _fits_afterwards(problem: Problem, spec: SearchSpec, report: bool) -> float:
    """Return how many fits come after a search: of the winner on all rows, and on the parts once more for what is told of it."""
    parts, groups = len(problem.parts), problem.scored_groups
    refits = max(1, spec.ensemble) * parts / max(1, parts - 1)
    if problem.every is not None:  # in passes over rows of files
        refits *= problem.fitted_rows / len(problem.train)
    claim = parts if parts > 1 and groups is not None and len(np.unique(groups)) < len(groups) else 0
    return refits + claim + (parts if report else 0)


def _say_cost(problem: Problem, spec: SearchSpec) -> Cost:
    """Say what the search will take, before it starts."""
    cost = estimate(problem, spec)
    log.info(
        "searching %s: %s, each fitted %s on about %d %s; the search takes about %s and %s of memory",
        ", ".join(spec.heads),
        "as many trials as fit" if cost.trials is None else "up to " * (spec.seconds is not None) + counted(cost.trials, "trial"),
        "once" if len(problem.parts) == 1 else f"{len(problem.parts)} times",
        round(float(np.mean([len(problem.plain(fit)) for fit, _ in problem.parts]))),
        "rows" if problem.image is None else "images and their views",
        rough_duration(cost.overhead + cost.seconds),
        bytes_text(cost.bytes),
    )
    for note in filter(None, (find_head(name).search_note(len(problem.train)) for name in spec.heads)):
        log.info("%s", note)
    if "flat" not in poolings_searched(len(problem.features), problem.layout) and "pooling" not in spec.fixed:
        log.info(
            "%d features are many, so most trials look at them pooled; --set pooling=flat takes them as they are",
            problem.features.shape[1],
        )
    return cost


def _run(options: TuneOptions) -> TuneResult:
    """Split the rows, find the winner, test it, write it."""
    spec, output = options.spec, options.output
    with contextlib.ExitStack() as opened:
        stores = [opened.enter_context(open_features(path)) for path in options.features]
        views = views_used(stores[0], spec)
        inputs = (*options.features, *options.valid, *options.test)
        found = check_output(stores, output, options.weights, options.with_backbone, overwrite=options.overwrite, inputs=inputs)
        check_page(options.report, output)
        tested = tested_before(output, spec.seed, spec.test_fraction)
        valid, test = (
            side_by_side([opened.enter_context(open_features(path)) for path in paths]) if paths else None
            for paths in (options.valid, options.test)
        )
        rows = split_rows(side_by_side(stores), valid, test, spec.test_fraction, spec.seed, tested)
        problem, validation = build_problem(rows, spec, options.folds, views)
        spec = _aimed(spec, problem)
        options = dataclasses.replace(options, spec=spec)
        finished = trial_store_of(output if options.searched else None, rows, problem, views)
        if options.searched:
            trials = _search(options, problem, finished)
        else:
            trials = [score_once(problem, spec, spec.heads[0], spec.fixed)]
        result, probabilities = _tested(options, rows, problem, trials)
        spent, known = options.clock.elapsed, finished.known
        result = dataclasses.replace(result, views=views, validation=validation, known=known, seconds=spent)
        made = result if spec.refit == "train" else _fitted_on_all(spec, rows, problem, result)
        if made.output is not None:
            _write(options, rows, len(problem.parts), made, found)
        if options.report is not None:
            from ffe.report.tune_page import write_report  # it loads jinja2

            shown = rows.anonymous() if options.anonymous else rows
            written = (Path(options.report), result, shown, problem, spec, probabilities)
            write_report(*written, searched=options.searched, out_of_time=options.clock.is_over)
        finished.forget()
        return dataclasses.replace(made, seconds=options.clock.elapsed)


def _tested(options: TuneOptions, rows: StoredSplit, problem: Problem, trials: Sequence[Trial]) -> tuple[TuneResult, np.ndarray]:
    """Fit the winner on all training rows and test it; return the result, and the probabilities of the test rows."""
    winner, labels = trials[0], problem.labels[problem.scored]
    calibration = calibrate(winner.probabilities, labels, groups=problem.scored_groups)
    best, comparison = best_of_each_head(trials)[:2], None
    if len(best) > 1:
        comparison = compare(best[0].probabilities, best[1].probabilities, labels, groups=problem.scored_groups)
    head, truths = refit(problem, winner, options.spec.seed), rows.labels(TEST)
    own, used = _on_own_files(head, rows)
    probabilities = with_temperature(_answers(head, rows.stay(rows.side == TEST)), calibration.factor)
    right = winner.probabilities.argmax(axis=1) == labels, probabilities.argmax(axis=1) == truths
    valid, test = ((float(each.mean()), len(each)) for each in right)
    p_value = differ(*right, problem.scored_groups, rows.together(TEST))
    single = next(trial for trial in trials if trial.head != EnsembleHead.name)
    result = TuneResult(
        output=None if options.output is None else Path(options.output),
        head=own,
        features=tuple(rows.main.files[i].path for i in used),
        leaderboard=tuple(trials),
        evaluation=evaluate_probabilities(probabilities, truths, rows.class_names, groups=rows.together(TEST)),
        calibration=calibration,
        rivals=tuple(trial.head for trial in best) if comparison else (),
        comparison=comparison,
        leak=leak_of(rows, problem, options.spec, single, probabilities, claim=not options.clock.is_over),
        answered=selective_scores(probabilities, truths, options.reject) if options.reject else None,
        class_weights=None if problem.class_weights is None else tuple(problem.class_weights.tolist()),
        rows=rows.counts(),
        classes=rows.class_names,
        approximations=_approximations(problem, rows, head),
        metric=options.spec.metric,
        apart=apart_text(valid, test, p_value),
    )
    return result, probabilities


def _answers(head: Head, source: RowSource) -> np.ndarray:
    """Return float64 (n, K) for rows float32 (n, D): many of them block by block."""
    count = source.shape[0]
    if count <= SEARCH_ROWS:
        return head.predict_proba(source[np.arange(count)])
    return np.concatenate([head.predict_proba(x) for _, x in blocks_of_rows(source)])


def _approximations(problem: Problem, rows: StoredSplit, head: Head) -> tuple[str, ...]:
    """Return what many rows made approximate, and say it."""
    fitted, streamed = problem.fitted_rows, problem.every is not None
    there = sum(rows.counts()[side] for side in (TRAIN, VALID))
    seen = 0 if problem.images is None else len(problem.images)
    found = [f"the search looked at {seen:,} of {counted(there, 'image')}"] if streamed else []
    if about := head.approximation(fitted, streamed=streamed):
        found.append(f"of {counted(fitted, 'training row')}, {about}")
    for text in found:
        log.info("%s", text)
    return tuple(found)


def _fitted_on_all(spec: SearchSpec, rows: StoredSplit, problem: Problem, result: TuneResult) -> TuneResult:
    """Fit the winner on the rows that validated and tested too, now that its scores are taken."""
    every = all_of_them(rows, problem, result.views)
    log.info(
        "the head is fitted again, on all %s; its scores are those of before", counted(len(every.plain(every.train)), "image")
    )
    head = refit(every, result.leaderboard[0], spec.seed)
    return dataclasses.replace(result, head=_on_own_files(head, rows)[0])


def _on_own_files(head: Head, rows: StoredSplit) -> tuple[Head, tuple[int, ...]]:
    """Return a fitted head that takes rows of the feature files alone that it looks at, and which these are."""
    layouts = [file.layout for file in rows.main.files]
    used = files_looked_at(head, layouts)
    return head if len(used) == len(layouts) else on_files(head, layouts, used), used


def _write(options: TuneOptions, rows: StoredSplit, folds: int, result: TuneResult, found: Sequence[Weights | IrModel]) -> None:
    """Write the model file, with the backbones that the head looks at."""
    used = [i for i, file in enumerate(rows.main.files) if file.path in result.features]
    first, *others = (rows.main.files[i] for i in used)
    record = result.to_json()
    about = {name: record[name] for name in ("validation", "rows", "rivals", "comparison", "leak")}
    if result.approximations:
        about["approximations"] = record["approximations"]
    if len(rows.main.files) > 1:
        about["joined"] = rows.main.parts_of_files()
    manifest = Manifest(
        libraries=library_versions(),
        spec=first.spec,
        spec_digest=first.spec_digest,
        layout=result.head.map.layout,
        beside=tuple(Beside(file.spec, file.spec_digest, len(file.layout.parts)) for file in others),
        head=HeadSpec(result.head.name, result.head.parameters),
        class_names=rows.class_names,
        evaluation=record["evaluation"],
        leaderboard=tuple(record["leaderboard"]),
        search={**options.spec.to_json(), "folds": folds, **about},
        calibration=record["calibration"],
        reject=options.reject,
        views=record["views"],
    )
    sides = rows.side if options.spec.refit == "train" else np.where(rows.side == TEST, TESTED, rows.side)
    columns = (rows.images.paths, rows.images.sha256, sides.tolist())
    splits = [] if options.anonymous else [SplitRow(*row) for row in zip(*columns, strict=True)]
    try:
        write_model(Path(record["output"]), manifest, result.head, splits, [found[i] for i in used if found])
    except BundleError as error:
        if not options.searched:
            raise
        raise BundleError(f"{error} The finished trials are kept: the same command goes on with them.") from error
