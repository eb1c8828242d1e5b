"""``evaluate``: a model and labelled data in, scores out."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffe._version import __version__
from ffe.base.output_file import check_output as check_report
from ffe.base.urls import path_or_url
from ffe.dataset.class_checks import check_labelled, check_readable
from ffe.dataset.stored_rows import file_finder, labelled
from ffe.dataset.table import ImageTable, table_of_records, table_of_store
from ffe.errors import DataError, SourceError, SpecError
from ffe.evaluation.reject import SelectiveScores, above_threshold, selective_scores
from ffe.evaluation.scores import Evaluation, evaluate_probabilities, load_scoring
from ffe.evaluation.temperature import calibrate
from ffe.exporting.read_table import open_features
from ffe.extraction.pipeline import ImageFeatures
from ffe.extraction.stage_times import Progress
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Truncated
from ffe.images.sources import scan
from ffe.labelling.model_answers import answered, check_classes, check_spec, holds_features
from ffe.predictor import PredictOptions, Predictor
from ffe.report.predictions_csv import Answers, check_answers
from ffe.report.search_page import write_page
from ffe.report.values import Page, coverage_of, pictures_of, suspects_of, title_of
from ffe.specs import AugmentSpec
from ffe.wording.input_text import resizing_texts
from ffe.wording.results import answered_text, backbones_text, parameters_text

log = logging.getLogger("ffe")

_BATCH = 256  # rows of a feature file


@dataclass(frozen=True)
class EvaluateResult:
    """Scores of a model on data."""

    evaluation: Evaluation  # the scores
    seen: int  # rows among them that the model was fitted or chosen on, or that belong together with such
    skipped: int  # images that could not be read, and unlabelled ones
    answered: SelectiveScores  # what comes of the reject option
    classes: tuple[str, ...] = field(repr=False)  # their names
    paths: tuple[str, ...] = field(repr=False)  # N names of the images, as the data has them
    labels: np.ndarray = field(repr=False, compare=False)  # int64 (N,), their true classes
    probabilities: np.ndarray = field(repr=False, compare=False)  # float64 (N, K), what the model says
    skipped_files: tuple[str, ...] = field(repr=False)  # paths of what was skipped
    left_out: int = 0  # images that ``unseen`` left out

    @property
    def wrong(self) -> np.ndarray:
        """The images that were named wrongly, int64 (M,), the surest mistake first, of equal ones (to nine digits) by path."""
        rows = np.flatnonzero(self.probabilities.argmax(axis=1) != self.labels)
        surest = sorted(rows.tolist(), key=lambda i: (-round(float(self.probabilities[i].max()), 9), self.paths[i]))
        return np.asarray(surest, np.int64)

    def answers(self) -> list[dict[str, Any]]:
        """Return every answer as plain values: path, truth, label, sure, probabilities by class name."""
        return [
            {
                "path": path,
                "truth": self.classes[truth],
                "label": self.classes[int(row.argmax())],
                "sure": bool(above_threshold(row[None], self.answered.threshold)[0]),
                "probabilities": dict(zip(self.classes, row.tolist(), strict=True)),
            }
            for path, truth, row in zip(self.paths, self.labels.tolist(), self.probabilities, strict=True)
        ]

    def to_json(self, *, answers: bool = False) -> dict[str, Any]:
        """Return what ``ffe evaluate --json`` prints; with ``--answers`` every answer too."""
        return {
            **self.evaluation.to_json(),
            "seen_in_training": self.seen,
            "left_out": self.left_out,
            "skipped": self.skipped,
            "skipped_files": list(self.skipped_files),
            "answered": self.answered.to_json(),
            **({"answers": self.answers()} if answers else {}),
        }


# labelled images, what the model says of them, float64 (N, K), and the paths of those that it says nothing of
_Scored = tuple[ImageTable, np.ndarray, list[str]]


def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    unseen: bool = False,
    weights: str = "imagenet",
    engine: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    reject: float | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    truncated: Truncated = "skip",
    tta: int = 0,
    augment: str | AugmentSpec | None = None,
    report: str | os.PathLike[str] | None = None,
    csv: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> EvaluateResult:
    """Score a model on a feature file, or on a labelled source of images.

    Args:
        model: a model file.
        data: a feature file of the same spec, or a folder or CSV of labelled images.
        unseen: leave out images that the model was fitted or chosen on.
        weights: where the backbone's weights are, if the model file has none.
        engine, batch_size, workers, progress: for images; see ``ffe.extract``.
        reject, max_pixels, max_bytes, truncated: see ``ffe.Predictor``.
        tta, augment: average the answers over views of each image; see ``ffe.Predictor``.
        report: an HTML file to write, with the mistakes as pictures.
        csv: a CSV to write, with every answer; see ``ffe.report.predictions_csv.Answers``.

    Raises:
        BundleError, StoreError, SourceError: one of the files cannot be used.
        ModelMismatchError: the features, or the classes, are not those of the model.
        DataError: there is no labelled row to score.
        ReportError: the report, or the CSV, cannot be written.
        SpecError: ``reject`` is out of range; or ``tta`` is given for a feature file, or without ``augment`` where it is needed.
    """
    given = locals()
    options = {option.name: given[option.name] for option in fields(PredictOptions) if option.init}
    page = None if report is None else check_report(report)
    table = None if csv is None else check_answers(csv)
    predictor = Predictor(model, **options)
    splits = predictor.bundle.splits()
    if unseen and not splits:
        raise SpecError(
            f"'{predictor.bundle.path}' keeps no list of its photos (--anonymous), so nothing tells which it has not seen; "
            "leave --unseen out."
        )
    path = path_or_url(data)
    stored = holds_features(path)
    if predictor.views is not None and stored:
        raise SpecError(f"--tta makes views of pictures, and '{path}' holds features; give the folder or CSV of the pictures.")
    load_scoring()
    images, probabilities, skipped = (
        _predict_stored(predictor, path, page is not None) if stored else _predict_images(predictor, path, progress)
    )
    known = {row.sha256 for row in splits if row.split != "test"}
    beside = {row.sha256 for row in splits if not row.split}
    seen = np.asarray([digest in known for digest in images.sha256], bool)
    used = "%d of the %d images were used to fit or choose this model"
    used += ", or belong together with such images" if beside.intersection(images.sha256) else ""
    left_out = 0
    if not splits:
        log.warning("the model keeps no list of its photos (--anonymous), so it is not known whether it was fitted on these")
    if unseen:
        others, left_out = np.flatnonzero(~seen), int(seen.sum())
        if not len(others):
            raise DataError(f"The model was fitted or chosen on every image of '{path}'; score it on others.")
        if left_out:
            log.info(f"{used}; they are left out", left_out, len(seen))
        seen = seen[~seen]
        images, probabilities = images.take(others), probabilities[others]
    elif seen.any():
        log.warning(f"{used}, so the scores are too good; --unseen leaves them out", seen.sum(), len(seen))
    contents = images.contents()
    result = EvaluateResult(
        evaluate_probabilities(
            probabilities,
            images.labels,
            predictor.class_names,
            groups=contents if contents.max(initial=-1) + 1 < len(images) else None,
        ),
        int(seen.sum()),
        len(skipped),
        selective_scores(probabilities, images.labels, predictor.reject),
        predictor.class_names,
        images.paths,
        images.labels,
        probabilities,
        tuple(skipped),
        left_out,
    )
    if table is not None:
        answers = Answers(table, result.classes, "truth")
        for answer in result.answers():
            said = list(answer["probabilities"].values())
            answers.add(answer["path"], answer["label"], answer["sure"], answer["truth"], said)
        answers.write()
    if page is not None:
        _write_report(page, predictor, result, images, contents, str(path))
    return result


def _write_report(
    place: Path, predictor: Predictor, result: EvaluateResult, images: ImageTable, contents: np.ndarray, data: str
) -> None:
    """Write the page of an evaluation; ``contents`` are those of the ``images``."""
    manifest = predictor.bundle.manifest
    probabilities, labels = result.probabilities, result.labels
    measured = calibrate(probabilities, labels)
    as_it_is = replace(measured, factor=1.0, error_after=measured.error_before, after=measured.before)
    rows = np.arange(len(labels))
    write_page(
        place,
        Page(
            title=title_of(result.classes),
            facts={
                "model": str(predictor.bundle.path),
                "backbone": backbones_text(spec for spec, _ in manifest.backbones),
                **({"pictures": text} if (text := resizing_texts(spec for spec, _ in manifest.backbones)) else {}),
                "head": f"{manifest.head.name} ({parameters_text(manifest.head.parameters)})",
                "photos": f"{len(labels):,}",
                **({"known from training": f"{result.seen:,}, so the scores are too good"} if result.seen else {}),
                **({"left out": f"{result.left_out:,} known from training"} if result.left_out else {}),
                "ffe": __version__,
            },
            class_names=result.classes,
            evaluation=result.evaluation.to_json(),
            pictures=pictures_of(images, rows, probabilities),
            label_issues=None if result.seen else suspects_of(images, rows, probabilities, contents),
            calibration=as_it_is,
            coverage=coverage_of(probabilities, labels),
            scored=True,
            unsure=answered_text(result.answered.to_json()) if result.answered.threshold else "",
            made={"model": str(predictor.bundle.path), "digest": predictor.bundle.sha256, "photos": data},
        ),
    )


def _predict_stored(predictor: Predictor, path: Path | str, shown: bool) -> _Scored:
    """Ask a model about the labelled rows of a feature file; where they are to be ``shown``, with the places of the images."""
    manifest = predictor.bundle.manifest
    with open_features(path) as store:
        check_spec(predictor, store)
        check_classes(predictor, store.class_names, path)
        used = labelled(store)
        images = table_of_store(store, used, predictor.class_names)
        features = (store.features(used[start : start + _BATCH]) for start in range(0, len(used), _BATCH))
        probabilities = [np.empty((0, len(manifest.class_names))), *map(predictor.probabilities, features)]
        files = tuple(map(file_finder(store), used.tolist())) if shown else (None,) * len(used)
        skipped = sorted(store.paths[row] for row in store.plain.tolist() if store.labels[row] < 0)
        return replace(images, files=files), np.concatenate(probabilities), skipped


def _predict_images(predictor: Predictor, path: Path | str, progress: Callable[[Progress], None]) -> _Scored:
    found = scan(path)
    records = [record for record in found.records if record.label >= 0]
    check_labelled(records, path)
    check_classes(predictor, found.class_names, path)
    probabilities: list[np.ndarray] = []
    taken: list[ImageFeatures] = []
    failed: dict[int, str] = {}
    for item, row in itertools.chain.from_iterable(answered(predictor, records, progress)):
        if row is not None:
            probabilities.append(row)
            taken.append(item)
        else:
            failed[item.index] = str(item.error)
    unlabelled = (record.path for record in found.records if record.label < 0)
    skipped = sorted([*(records[i].path for i in failed), *unlabelled, *(path for path, _ in found.left_out)])
    if not probabilities:
        raise SourceError(f"None of the images in '{path}' could be decoded; check that it holds pictures.")
    check_readable(found.class_names, records, failed)
    return table_of_records(records, taken, found.class_names, predictor.class_names), np.stack(probabilities), skipped
