"""What a search came to -> the page that shows it."""

from __future__ import annotations

import dataclasses
import logging
import math
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ffe._version import __version__
from ffe.base.digests import file_digest
from ffe.base.text import counted, few, listed, quoted, share_text
from ffe.dataset.load import pooled_rows
from ffe.dataset.stored_rows import StoredSplit
from ffe.evaluation.label_errors import find_label_errors
from ffe.evaluation.learning_curve import LearningCurve, fit_learning_curve
from ffe.evaluation.reject import selective_scores
from ffe.evaluation.temperature import Calibration, with_temperature
from ffe.heads.ensemble import EnsembleHead
from ffe.images.file_names import on_disk
from ffe.report.projection import choose_rows, feature_map
from ffe.report.search_page import write_page
from ffe.report.values import CalibrationView, Curves, Duplicates, GrowthView, Page, Picture, Suspect
from ffe.specs import SearchSpec
from ffe.splits.groups import Groups
from ffe.store.reader import FeatureStore
from ffe.tuning.leak_claim import Leak
from ffe.tuning.problem import Problem
from ffe.tuning.search import Trial, score_once
from ffe.wording.results import METRIC_NAMES, answered_text, comparison_text, parameters_text

if TYPE_CHECKING:
    from ffe.tuning.tune_result import TuneResult

log = logging.getLogger("ffe")

_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_SHARES = (0.125, 0.25, 0.5, 1.0)  # of the training rows, for the growth curve
_FEWEST_OF_A_CLASS = 2
_LONGEST_TITLE = 60
_CAUSES = {"copies": "the same file", "re-encoded": "saved again or resized", "near": "much alike", "named": "named together"}


def write_report(
    path: Path,
    result: TuneResult,
    rows: StoredSplit,
    store: FeatureStore,
    problem: Problem,
    spec: SearchSpec,
    probabilities: np.ndarray,
    *,
    searched: bool,
    grown: bool = True,
) -> None:
    """Write the page of a search.

    Args:
        path: the HTML file.
        result: what the search came to.
        rows: all labelled rows.
        store: the main feature file, open.
        problem: the rows that the search saw.
        spec: what it was asked to do.
        probabilities: of the test rows, calibrated, float64 (n, K).
        searched: whether the head was searched for, or given.
        grown: whether to fit it on growing shares of the photos.
    """
    known = any(rows.images.sha256)  # anonymous rows have no digests
    files = _files(rows) if known else [None] * len(rows.images.paths)
    gone = [name for name, file in zip(rows.images.paths, files, strict=True) if known and (file is None or not file.is_file())]
    if gone:
        log.warning(
            "%s not found where the features were made (%s); grey tiles stand for %s in the report",
            counted(len(gone), "photo was", "photos were"),
            few(quoted(sorted(gone))),
            "it" if len(gone) == 1 else "them",
        )
    winner = result.leaderboard[0]
    testing = np.flatnonzero(rows.side == "test")
    seen = np.flatnonzero(np.isin(rows.side, ("train", "valid")))
    scored = seen[problem.scored]
    predicted = np.full(len(rows.images.labels), -1)
    predicted[scored] = winner.probabilities.argmax(axis=1)
    predicted[testing] = probabilities.argmax(axis=1)
    dense = next((trial for trial in result.leaderboard if trial.curves), None)
    page = Page(
        title=title_of(rows.class_names),
        facts=_facts(result, store, problem),
        class_names=rows.class_names,
        evaluation=result.evaluation.to_json(),
        leaderboard=[trial.to_json() for trial in result.leaderboard],
        metric=spec.metric,
        comparison=None
        if result.comparison is None
        else f"Best two heads: {comparison_text(result.comparison.to_json(), *result.rivals)}.",
        curves=None if dense is None else Curves(**{name: _finite(values) for name, values in dense.curves.items()}),  # type: ignore[arg-type]
        pictures=[
            Picture(rows.images.paths[i], files[i], int(rows.images.labels[i]), int(row.argmax()), float(row.max()))
            for i, row in zip(testing, probabilities, strict=True)
        ],
        label_issues=_suspects(rows, files, scored, problem, winner, result.calibration),
        calibration=calibration_view(result.calibration, winner.probabilities, problem.labels[problem.scored]),
        duplicates=duplicates_of(rows.groups, rows.images.paths, files),
        leak=leak_text(result.leak, result.evaluation.accuracy),
        map=_map(rows, files, predicted, spec.seed),
        growth=_growth_view(problem, spec, next(t for t in result.leaderboard if t.head != EnsembleHead.name)) if grown else None,
        made=_made(spec, store, problem, result),
        unsure="" if result.answered is None else answered_text(result.answered.to_json()),
        searched=searched,
    )
    write_page(path, page)


def title_of(class_names: Sequence[str]) -> str:
    """Return ``cat or dog``; for many classes, or long names, how many they are."""
    title = listed(class_names, "or")
    return title if len(title) <= _LONGEST_TITLE else counted(len(class_names), "class", "classes")


def _suspects(
    rows: StoredSplit,
    files: Sequence[Path | None],
    scored: np.ndarray,
    problem: Problem,
    winner: Trial,
    calibration: Calibration,
) -> list[Suspect] | None:
    """Return the rows whose label may be wrong, by the answers of fits that had not seen them; None where these cannot tell."""
    calibrated = with_temperature(winner.probabilities, calibration.factor)
    issues = find_label_errors(calibrated, problem.labels[problem.scored])
    if issues is None:
        return None
    return [
        Suspect(rows.images.paths[scored[i.row]], files[scored[i.row]], i.given, i.suggested, i.probability_suggested)
        for i in issues
    ]


def leak_text(leak: Leak | None, accuracy: float) -> str | None:
    """Return what near copies would have brought, in words, beside the accuracy of the test; None where there are none."""
    if leak is None:
        return None
    why = [f"{count:,} {_CAUSES[cause]}" for cause, count in leak.extra.items() if count]
    count = sum(leak.extra.values())
    groups = counted(leak.groups, "group")
    stay = "" if leak.test_leaking or leak.valid_leaking else "; each group stays on one side"
    sentences = [f"{counted(count, 'image belongs', 'images belong')} to others ({', '.join(why)}), in {groups}{stay}."]
    if leak.claimed is not None:
        more = leak.claimed - leak.honest
        what = f"say {leak.claimed:.4f}, which is {'too good' if more > 0 else 'no better'}"
        sentences.append(f"Cross-validation says {leak.honest:.4f}; with the groups torn apart it would {what}.")
    if leak.valid_leaking:
        what = counted(leak.valid_leaking, "validation image belongs", "validation images belong")
        sentences.append(f"The given split leaks: {what} together with images that train, so the validation is too good.")
    if leak.test_leaking:
        clean = "" if leak.test_clean is None else f"; without those images it would say {leak.test_clean:.4f}"
        what = counted(leak.test_leaking, "test image belongs", "test images belong")
        sentences.append(
            f"The given split leaks: {what} together with images of the other splits. The test says {accuracy:.4f}{clean}."
        )
    return " ".join(sentences)


def _files(rows: StoredSplit) -> list[Path | None]:
    """Return where the picture of each row lies, as far as the feature files tell; it may be gone by now."""
    stores = ((rows.stores[i], row) for i, row in rows.origin.tolist())
    return [picture_of(store.source, store.paths[row], store.sha256[row]) for store, row in stores]


def picture_of(source: str, name: str, sha256: str) -> Path | None:
    """Return where the picture of a row lies, as far as its feature file tells; None where it must not be shown."""
    root = Path(source)
    file = (root.parent if root.is_file() else root) / name
    return on_disk(file) if _inside(name) or _is_same(file, sha256) else None


def _inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _is_same(file: Path, sha256: str) -> bool:
    """Return whether a file is the very picture of a row: a feature file from somebody else must not show others."""
    try:
        return stat.S_ISREG(file.stat().st_mode) and file_digest(file) == sha256
    except OSError:
        return False


def _facts(result: TuneResult, store: FeatureStore, problem: Problem) -> dict[str, str]:
    height, width = store.spec.preprocess.size
    counts = result.rows
    return {
        "backbone": f"{store.spec.backbone.name} at {height}x{width}",
        "photos": ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count),
        **({} if result.views is None else {"views": result.views.text()}),
        "features": f"{problem.features.shape[1]:,} of each photo",
        "head": f"{result.head.name} ({parameters_text(result.head.parameters)})",
        "validation": result.validation,
        "ffe": __version__,
    }


def _made(spec: SearchSpec, store: FeatureStore, problem: Problem, result: TuneResult) -> dict[str, str]:
    made = {
        "date": time.strftime("%Y-%m-%d"),
        "photos": store.source,
        "feature file": str(store.path),
        "backbone": f"{store.spec.backbone.name}, {store.spec.precision}, {store.spec.preprocess.decode} decoding",
        "spec digest": store.spec_digest,
        "heads": ", ".join(spec.heads),
        "trials": f"{len(result.leaderboard):,}",
        "aimed at": METRIC_NAMES[spec.metric],
        "folds": str(len(problem.parts)) if len(problem.parts) > 1 else "none: validation rows were given",
        "class weights": spec.class_weights,
        "seed": str(spec.seed),
    }
    if spec.seconds is not None:
        made["time for the search"] = f"{spec.seconds:g} s"
    if spec.fixed:
        made["not searched"] = " ".join(f"{name}={value}" for name, value in spec.fixed.items())
    if spec.ensemble:
        made["ensemble of up to"] = str(spec.ensemble)
    if result.answered is not None:
        made["not sure below"] = share_text(result.answered.threshold)
    return made


def _finite(values: Sequence[float]) -> list[float]:
    return list(values) if np.isfinite(values).all() else []


def calibration_view(calibration: Calibration, probabilities: np.ndarray, labels: np.ndarray) -> CalibrationView:
    """Return what the page shows of a calibration.

    Args:
        calibration: the temperature.
        probabilities: that it was fitted on, before it, float64 (n, K).
        labels: int64 (n,).
    """
    calibrated = with_temperature(probabilities, calibration.factor)
    coverage = [selective_scores(calibrated, labels, threshold) for threshold in _THRESHOLDS]
    return CalibrationView(
        factor=calibration.factor,
        ece_before=calibration.error_before,
        ece_after=calibration.error_after,
        before=[(found.confidence, found.accuracy, found.count) for found in calibration.before],
        after=[(found.confidence, found.accuracy, found.count) for found in calibration.after],
        coverage=[(found.threshold, found.share, found.accuracy) for found in coverage],
        before_intervals=[found.interval for found in calibration.before],
        after_intervals=[found.interval for found in calibration.after],
        coverage_intervals=[found.interval or (math.nan, math.nan) for found in coverage],
    )


def duplicates_of(groups: Groups, names: Sequence[str], files: Sequence[Path | None]) -> list[Duplicates]:
    """Return the groups of images that belong together, the largest first; names and files are those of the grouped rows."""
    sizes = np.bincount(groups.ids)
    return [
        Duplicates(", ".join(_CAUSES[cause] for cause in causes), [(names[i], files[i]) for i in groups.members(group)])
        for group, causes in sorted(groups.causes.items(), key=lambda item: -int(sizes[item[0]]))
    ]


def _map(rows: StoredSplit, files: Sequence[Path | None], predicted: np.ndarray, seed: int):  # type: ignore[no-untyped-def]
    chosen = choose_rows(len(rows.images.labels), seed)
    pooled = pooled_rows(rows.stores, rows.origin[chosen], [rows.images.paths[i] for i in chosen])
    right = (predicted == rows.images.labels) | (predicted < 0)
    names, places = [rows.images.paths[i] for i in chosen], [files[i] for i in chosen]
    return feature_map(pooled, rows.images.labels[chosen], names, places, right[chosen], seed=seed)


def learning_curve_of(problem: Problem, spec: SearchSpec, trial: Trial) -> LearningCurve | None:
    """Fit the winner on growing shares of the training rows of each part, and score it on the same rows each time.

    Args:
        problem: the rows.
        spec: the search.
        trial: the best one that is no ensemble.

    Returns:
        None where a class has too few rows for a share of a quarter.
    """
    labels = problem.labels
    least = min(int(np.bincount(labels[problem.plain(fit)], minlength=problem.classes).min()) for fit, _ in problem.parts)
    shares = [share for share in _SHARES if least * share >= _FEWEST_OF_A_CLASS]
    if len(shares) < 3:
        return None
    # fewer rows need more epochs
    without_epochs = {key: value for key, value in trial.parameters.items() if key != "epochs"}
    sizes, accuracies, errors = [], [], []
    for share in shares:
        chosen = [_stratified(labels, problem.plain(fit), share, spec.seed) for fit, _ in problem.parts]
        parts = [(problem.with_views(some), score) for some, (_, score) in zip(chosen, problem.parts, strict=True)]
        smaller = dataclasses.replace(problem, parts=parts)
        found = trial if share == 1.0 else score_once(smaller, spec, trial.head, without_epochs)
        right = found.probabilities.argmax(axis=1) == labels[problem.scored]
        sizes.append(int(np.mean([len(some) for some in chosen])))
        accuracies.append(float(right.mean()))
        errors.append(float(np.sqrt(max(right.mean() * (1 - right.mean()), 1e-6) / len(right))))
    return fit_learning_curve(sizes, accuracies, errors, seed=spec.seed)


def _stratified(labels: np.ndarray, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return a share of the rows, the same of every class."""
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels[rows]):
        mine = generator.permutation(rows[labels[rows] == label])
        chosen.append(mine[: max(1, round(len(mine) * share))])
    return np.sort(np.concatenate(chosen))


def _growth_view(problem: Problem, spec: SearchSpec, trial: Trial) -> GrowthView | None:
    growth = learning_curve_of(problem, spec, trial)
    if growth is None:
        return None
    points = growth.points
    return GrowthView(
        sizes=[point.size for point in points],
        accuracy=[point.accuracy for point in points],
        low=[max(0.0, point.accuracy - 1.96 * point.standard_error) for point in points],
        high=[min(1.0, point.accuracy + 1.96 * point.standard_error) for point in points],
        fit=_curve(growth),
        twice=None
        if growth.accuracy is None or growth.interval is None or growth.size is None
        else (growth.size, growth.accuracy, *growth.interval),
        sentence=f"{growth.sentence[:1].upper()}{growth.sentence[1:]}.",
    )


def _curve(growth: LearningCurve) -> list[tuple[float, float]]:
    """Return points (photos, accuracy) along the fit, from the fewest photos to twice the most."""
    if growth.a is None or growth.b is None or growth.c is None:
        return []
    sizes = np.geomspace(growth.points[0].size, growth.size, 40)
    return [(float(n), float(1 - growth.a - growth.b * n**-growth.c)) for n in sizes]
