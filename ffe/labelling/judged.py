"""Labelled photos -> those whose label is probably wrong, and a list of all to correct."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ffe.backbones.trained import LEARNT
from ffe.base.text import few, no_formula, quoted, relabelled
from ffe.dataset.class_checks import check_labelled
from ffe.dataset.leaks import warn_of_two_classes
from ffe.dataset.photo_list import write_list
from ffe.dataset.stored_rows import labelled, named_files
from ffe.dataset.table import ImageTable, table_of_store
from ffe.errors import DataError
from ffe.evaluation.label_errors import find_label_errors
from ffe.exporting.read_table import open_features
from ffe.extraction.stage_times import Progress
from ffe.images.image_handle import ImageFile
from ffe.images.sources import scan
from ffe.labelling.model_answers import answered, check_classes, check_spec
from ffe.predictor import Predictor
from ffe.tuning.out_of_fold import blocks_of, out_of_fold

log = logging.getLogger("ffe")

HEADER = ("path", "label", "split", "group", "guess", "probability_label", "probability_guess")


@dataclass(frozen=True)
class WrongLabel:
    """A photo whose label is probably wrong.

    Attributes:
        path: the photo, relative to its source.
        label: its class, as it is given.
        guess: the class that it rather has.
        probability_label, probability_guess: of the two, in [0, 1].
    """

    path: str
    label: str
    guess: str
    probability_label: float
    probability_guess: float


@dataclass(frozen=True)
class WrongLabelsResult:
    """Labels that are probably wrong.

    Attributes:
        output: the list.
        images: the photos, those first that stand in a likelier class too, then the surest.
        photos: how many were judged.
        by: what judged them: the ``model``, which does not know them, or its head, fitted anew in ``folds`` without them.
        skipped: paths of photos that have no label, or could not be read; they were not judged.
    """

    output: str
    images: tuple[WrongLabel, ...]
    photos: int
    by: Literal["model", "folds"]
    skipped: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe suggest --wrong --json`` prints."""
        return asdict(self)


def judged_store(
    predictor: Predictor, source: Path | str, place: Path, progress: Callable[[Progress], None]
) -> WrongLabelsResult:
    """Judge the labels of a feature file, and write the list; see ``ffe.wrong_labels``. Nothing is left for ``progress``."""
    names = predictor.class_names
    with open_features(source) as store:
        check_spec(predictor, store)
        check_classes(predictor, store.class_names, source)
        plain, used = store.plain, labelled(store)
        check_labelled(len(used), source)
        images = table_of_store(store, used, names)
        known = _known(predictor)
        if not predictor.bundle.splits() or not known.isdisjoint(images.sha256):
            _check_backbone(predictor, source)
            by: Literal["model", "folds"] = "folds"
            manifest = predictor.bundle.manifest
            weighting, factor = str(manifest.search.get("class_weights")), manifest.temperature
            probabilities = out_of_fold(store, used, images, names, manifest.head, weighting=weighting, factor=factor)
        else:
            by = "model"
            probabilities = np.concatenate([predictor.probabilities(block) for block in blocks_of(store, used)])
        files = named_files(store, plain.tolist())
        given = ["" if label < 0 else store.class_names[label] for label in store.labels[plain].tolist()]
        columns = [(given[i], store.split[row], store.group[row]) for i, row in enumerate(plain.tolist())]
        skipped = [store.paths[row] for row in np.setdiff1d(plain, used).tolist()]
        return _written(place, names, images, probabilities, by, np.searchsorted(plain, used), files, columns, skipped)


def judged_images(
    predictor: Predictor, source: Path | str, place: Path, progress: Callable[[Progress], None]
) -> WrongLabelsResult:
    """Judge the labels of a folder or CSV of photos, and write the list; see ``ffe.wrong_labels``."""
    found, names = scan(source, place), predictor.class_names
    records = [record for record in found.records if record.label >= 0]
    check_labelled(records, source)
    check_classes(predictor, found.class_names, source)
    if not predictor.bundle.splits():
        log.warning("the model keeps no list of its photos (--anonymous), so it is not known whether it was fitted on these")
    known = _known(predictor)
    answers: list[np.ndarray] = []
    judged: list[int] = []
    digests: list[str] = []
    for batch in answered(predictor, records, progress):
        for item, row in batch:
            if row is None:
                continue
            if item.sha256 in known:
                _check_backbone(predictor, source)
                raise DataError(
                    f"The model was fitted on '{records[item.index].path}' of '{source}', so it cannot judge its label; make a "
                    "feature file of the photos with 'ffe extract', and give that: heads are then fitted without them."
                )
            answers.append(row)
            judged.append(item.index)
            digests.append(item.sha256)
    if not answers:
        raise DataError(f"None of the images in '{source}' could be decoded; check that it holds pictures.")
    places = {record.path: i for i, record in enumerate(found.records)}
    read = [records[i] for i in judged]
    index = relabelled(found.class_names, names)
    labels = np.asarray([index[record.label] for record in read], np.int64)
    paths = tuple(record.path for record in read)
    columns = [
        ("" if record.label < 0 else found.class_names[record.label], record.split, record.group) for record in found.records
    ]
    files = [record.file for record in found.records]
    skipped = sorted(set(places) - set(paths))
    rows = np.asarray([places[path] for path in paths], np.int64)
    table = ImageTable(paths, tuple(digests), (), (), (), labels, np.empty(0, np.uint64))
    return _written(place, names, table, np.stack(answers), "model", rows, files, columns, skipped)


def _known(predictor: Predictor) -> set[str]:
    """Return the digests of the photos that the model was fitted or chosen on."""
    return {row.sha256 for row in predictor.bundle.splits() if row.split != "test"}


def _check_backbone(predictor: Predictor, source: Path | str) -> None:
    if predictor.bundle.manifest.spec.backbone.weights in LEARNT:
        raise DataError(
            f"The whole network of '{predictor.bundle.path}' may have learnt from photos of '{source}', so nothing of it can "
            "judge their labels; give a model that 'ffe tune' made."
        )


def _written(
    place: Path,
    names: Sequence[str],
    images: ImageTable,
    probabilities: np.ndarray,
    by: Literal["model", "folds"],
    rows: np.ndarray,
    files: Sequence[ImageFile],
    columns: Sequence[tuple[str, str, str]],
    skipped: list[str],
) -> WrongLabelsResult:
    """Write the list of all ``files``, with their label, split and group; ``images`` are ``rows`` int64 (n,) of them."""
    photos = images.contents()
    issues = find_label_errors(probabilities, images.labels, photos)
    if issues is None:
        raise DataError(
            "The answers are too unclear to tell which labels are wrong: fewer than half are sure; "
            "give more photos, or another model."
        )
    warn_of_two_classes(photos, images, names)
    wrong = tuple(
        WrongLabel(
            images.paths[one.row], names[one.given], names[one.suggested], one.probability_given, one.probability_suggested
        )
        for one in issues
    )
    if skipped:
        was = "file was" if len(skipped) == 1 else "files were"
        log.warning("%d %s not judged, for want of a label or of a picture (%s)", len(skipped), was, few(quoted(skipped)))
    first = [int(rows[one.row]) for one in issues]
    rest = sorted(set(range(len(files))) - set(first), key=lambda row: str(files[row]))
    said = [(no_formula(one.guess), f"{one.probability_label:.4f}", f"{one.probability_guess:.4f}") for one in wrong]
    lines = [(*columns[row], *more) for row, more in zip([*first, *rest], [*said, *[("", "", "")] * len(rest)], strict=True)]
    write_list(place, HEADER, [files[row] for row in [*first, *rest]], lines)
    return WrongLabelsResult(str(place), wrong, len(probabilities), by, tuple(skipped))
