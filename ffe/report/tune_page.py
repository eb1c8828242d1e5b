"""What a search came to -> the page that shows it."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from ffe._version import __version__
from ffe.base.text import counted, few, listed, quoted, share_text
from ffe.dataset.feature_files import FeatureFiles
from ffe.dataset.load_features import pooled_rows
from ffe.dataset.stored_rows import StoredSplit
from ffe.dataset.table import ImageTable
from ffe.errors import DecodeError
from ffe.evaluation.learning_curve import LearningCurve
from ffe.evaluation.temperature import with_temperature
from ffe.explaining.area import area_of
from ffe.explaining.heatmap import heat_map
from ffe.heads.ensemble import EnsembleHead
from ffe.images.decode import read_image
from ffe.images.image_handle import is_there
from ffe.report.projection import choose_rows, project_rows
from ffe.report.search_page import write_page
from ffe.report.sections import MAX_MISTAKES, surest_mistakes
from ffe.report.thumbnails import Heat
from ffe.report.values import Curves, Page, Picture, coverage_of, duplicates_of, photos_fact, pictures_of, suspects_of, title_of
from ffe.specs import SearchSpec
from ffe.splits.holdout import TEST
from ffe.tuning.learning_curve_fits import FEWEST_TO_MEASURE, measure_learning_curve
from ffe.tuning.problem import Problem
from ffe.tuning.search_sample import SEARCH_ROWS
from ffe.tuning.trial import Trial
from ffe.tuning.tune_result import TuneResult
from ffe.wording.input_text import resizing_texts
from ffe.wording.results import (
    FITTED_ON_ALL,
    METRIC_NAMES,
    answered_text,
    backbones_text,
    comparison_text,
    leak_text,
    parameters_text,
    trained_views_text,
)

log = logging.getLogger("ffe")


def write_report(
    path: Path,
    result: TuneResult,
    rows: StoredSplit,
    problem: Problem,
    spec: SearchSpec,
    probabilities: np.ndarray,
    *,
    searched: bool,
    out_of_time: bool,
) -> None:
    """Write the page of a search, of its spec, on all labelled ``rows`` of the main feature files, open.

    ``problem`` has the rows that the search saw. ``probabilities``, float64 (n, K), are of the test rows, calibrated.
    The head was ``searched`` for, or given; unless ``out_of_time``, it is fitted on growing shares of the photos too.
    """
    images = _shown(rows)
    trials, winner = result.leaderboard, result.leaderboard[0]
    files = rows.main.files
    used = [file for file in files if file.path in result.features]
    testing = np.flatnonzero(rows.side == TEST)
    scored = problem.scored if problem.images is None else problem.images[problem.scored]
    predicted = np.full(len(images), -1)
    predicted[scored] = winner.probabilities.argmax(axis=1)
    predicted[testing] = probabilities.argmax(axis=1)
    curves = next((trial.curves for trial in trials if trial.curves), None)
    calibrated = with_temperature(winner.probabilities, result.calibration.factor)
    chosen = choose_rows(len(images), spec.seed)
    pooled = pooled_rows(rows.stores, rows.origin[chosen], [images.paths[i] for i in chosen])
    verdict = "" if result.comparison is None else comparison_text(result.comparison.to_json(), *result.rivals)
    single = next(trial for trial in trials if trial.head != EnsembleHead.name)
    grown, not_grown = _learning_curve(problem, spec, single, out_of_time=out_of_time)
    page = Page(
        title=title_of(rows.class_names),
        facts={
            "backbone": backbones_text(file.spec for file in used),
            "photos": photos_fact(result.rows),
            **({} if result.views is None else {"views": trained_views_text(result.views.to_json())}),
            "features": f"{problem.features.shape[1]:,} of each photo ({'; '.join(str(file.layout) for file in files)})",
            **({} if len(files) == 1 else {"feature files": _looked_at(rows, result)}),
            "head": f"{result.head.name} ({parameters_text(result.head.parameters)})",
            "validation": result.validation,
            **({} if not result.approximations else {"approximate": "; ".join(result.approximations)}),
            **({} if spec.refit == "train" else {"fitted on": FITTED_ON_ALL}),
            "ffe": __version__,
        },
        class_names=rows.class_names,
        evaluation=result.evaluation.to_json(),
        leaderboard=[trial.to_json() for trial in trials],
        metric=spec.metric,
        comparison=f"First two heads: {verdict}." if verdict else None,
        curves=None if curves is None else Curves(**curves),  # type: ignore[arg-type]
        pictures=_with_heat(pictures_of(images, testing, probabilities), testing, rows, result),
        label_issues=suspects_of(images, scored, calibrated, rows.groups.levels["copies"][scored]),
        calibration=result.calibration,
        coverage=coverage_of(calibrated, images.labels[scored]),
        duplicates=duplicates_of(rows.groups, images),
        leak=None if result.leak is None else leak_text(result.leak.to_json(), result.evaluation.accuracy),
        map=project_rows(pooled, chosen, images, predicted, spec.seed),
        learning_curve=grown,
        not_grown=not_grown,
        made=_made(spec, rows.main, problem, result),
        unsure="" if result.answered is None else answered_text(result.answered.to_json()),
        searched=searched,
        apart=result.apart,
    )
    write_page(path, page)


def _learning_curve(problem: Problem, spec: SearchSpec, trial: Trial, *, out_of_time: bool) -> tuple[LearningCurve | None, str]:
    """Return the learning curve of a trial, or why there is none, and how to get one."""
    if problem.every is not None:
        return None, f"that is done where the search looks at all photos, up to {SEARCH_ROWS:,} of them"
    if out_of_time:
        return None, "the time of --budget was over before; give more, or leave --budget out"
    found = measure_learning_curve(problem, spec, trial)
    few = f"a class has fewer than {counted(FEWEST_TO_MEASURE, 'training photo')} in a fold; add photos to it"
    return found, "" if found is not None else few


def _with_heat(pictures: list[Picture], testing: np.ndarray, rows: StoredSplit, result: TuneResult) -> list[Picture]:
    """Return the pictures of the test rows, int64 (n,): the surest mistakes with their maps, from stored features alone.

    A photo that is damaged by now has none.
    """
    worst = {id(picture) for picture in surest_mistakes(pictures)[:MAX_MISTAKES] if picture.file and is_there(picture.file)}
    places = [i for i, picture in enumerate(pictures) if id(picture) in worst]
    if not places:
        return pictures
    chosen = np.zeros(len(rows.images), bool)
    chosen[testing[places]] = True
    head, factor, found = result.head, result.calibration.factor, list(pictures)
    used = [file.path in result.features for file in rows.main.files]
    columns = np.repeat(used, [file.dims for file in rows.main.files])
    backbones = [(file.spec, file.layout) for file, is_used in zip(rows.main.files, used, strict=True) if is_used]
    for i, features in zip(places, rows.load(chosen), strict=True):
        with suppress(DecodeError):
            area = area_of(backbones, read_image(pictures[i].file or Path()))
            heat = heat_map(head, head.map.layout, features[columns], pictures[i].predicted, factor, area.parts)
            if heat is not None:
                found[i] = replace(pictures[i], heat=Heat(heat.cells, heat.exact, area.shown))
    return found


def _shown(rows: StoredSplit) -> ImageTable:
    """Return the images with the places of their files, and warn of those that are gone; anonymous rows show none."""
    if not any(rows.images.sha256):
        return rows.images
    images = replace(rows.images, files=rows.files())
    gone = [path for path, file in zip(images.paths, images.files, strict=True) if file is None or not is_there(file)]
    if gone:
        log.warning(
            "%s not found where the features were made (%s); grey tiles stand for %s in the report",
            counted(len(gone), "photo was", "photos were"),
            few(quoted(sorted(gone))),
            "it" if len(gone) == 1 else "them",
        )
    return images


def _looked_at(rows: StoredSplit, result: TuneResult) -> str:
    """Say which of several feature files the head looks at."""
    used, files = result.features, rows.main.files
    looks = "all" if len(used) == len(files) else f"{listed([path.name for path in used], 'and')} alone"
    return f"parts {', '.join(rows.main.parts_of_files())}; the head looks at {looks}"


def _made(spec: SearchSpec, features: FeatureFiles, problem: Problem, result: TuneResult) -> dict[str, str]:
    specs = [file.spec for file in features.files]
    how = [f"{spec.backbone.name}, {spec.precision}, {spec.preprocess.decode} decoding" for spec in specs]
    made: dict[str, str | None] = {
        "date": time.strftime("%Y-%m-%d"),
        "photos": features.main.source,
        "feature file": "; ".join(str(file.path) for file in features.files),
        "backbone": "; ".join(how),
        "pictures": resizing_texts(specs) or None,
        "spec digest": "; ".join(file.spec_digest for file in features.files),
        "heads": ", ".join(spec.heads),
        "trials": f"{len(result.leaderboard):,}",
        "aimed at": METRIC_NAMES[spec.metric],
        "folds": str(len(problem.parts)) if len(problem.parts) > 1 else "none: validation rows were given",
        "class weights": spec.class_weights,
        "seed": str(spec.seed),
        "time for the search": None if spec.seconds is None else f"{spec.seconds:g} s",
        "not searched": " ".join(f"{name}={value}" for name, value in spec.fixed.items()) or None,
        "ensemble of up to": str(spec.ensemble) if spec.ensemble else None,
        "not sure below": None if result.answered is None else share_text(result.answered.threshold),
    }
    return {name: value for name, value in made.items() if value is not None}
