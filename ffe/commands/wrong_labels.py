"""``suggest --wrong``: a model and labelled photos in; a list to correct, the likely errors first, out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ffe.backbones.trained import LEARNT
from ffe.base.arrays import empty_array
from ffe.base.text import few, no_formula, quoted
from ffe.commands.evaluate import answered, check_classes, check_spec, holds_features
from ffe.dataset.class_checks import check_labelled, check_two_classes
from ffe.dataset.load_features import pooled_rows
from ffe.dataset.photo_list import check_list, write_list
from ffe.dataset.stored_rows import labelled
from ffe.dataset.table import ImageTable, table_of_store
from ffe.errors import DataError
from ffe.evaluation.class_weights import WEIGHTINGS, class_weights
from ffe.evaluation.label_errors import find_label_errors
from ffe.evaluation.temperature import with_temperature
from ffe.exporting.read_table import open_features
from ffe.extraction.stage_times import Progress
from ffe.heads.base import FitData
from ffe.heads.ensemble import head_class
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Truncated
from ffe.images.sources import scan
from ffe.predictor import Predictor
from ffe.splits.folds import assign_folds
from ffe.splits.groups import find_groups
from ffe.splits.holdout import groups_of_classes
from ffe.store.reader import FeatureStore
from ffe.tuning.problem import fold_parts

log = logging.getLogger("ffe")

_HEADER = ("path", "label", "split", "group", "guess", "probability_label", "probability_guess")
_BLOCK_BYTES = 16 << 20
_MOST_FOLDS = 5


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
        images: the photos, the surest first.
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


def wrong_labels(
    model: str | os.PathLike[str],
    photos: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    weights: str = "imagenet",
    engine: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    truncated: Truncated = "skip",
    progress: Callable[[Progress], None] = lambda progress: None,
) -> WrongLabelsResult:
    """Find labels that are probably wrong, and write all photos as a list to correct, which ``extract`` takes back.

    See ``ffe.evaluation.label_errors.find_label_errors``. Photos that the model does not know are judged by the model, block
    by block: memory does not grow with them, but for their names and answers. Where it was fitted on any of them, or does not
    say, its head is fitted five times on their stored features, each time without a fifth of them, which it then judges; that
    holds the features that the head looks at, in memory or, where they are too many, on the disk. Views take no part.

    Args:
        model: a model file.
        photos: a feature file of labelled photos, of the model's spec; or a folder or CSV of such that the model does not know.
        output: the list, a CSV with the columns ``path`` (relative to its folder), ``label`` (as it is given, to be
            corrected), ``split``, ``group``, ``guess``, ``probability_label`` and ``probability_guess``. The last three are
            empty but for the first rows, whose label is probably wrong; the others follow by path.
        overwrite: replace a list that is there; other files never are.
        weights, engine, batch_size, workers, max_pixels, max_bytes, truncated: see ``ffe.Predictor``.
        progress: for images; see ``ffe.extract``.

    Raises:
        BundleError, StoreError, SourceError: one of the files cannot be used.
        ModelMismatchError: the features, or the classes, are not those of the model.
        DataError: no photo has a label, there are too few, or the answers are too unclear; or the model knows the photos and
            their features are needed, or its backbone learnt from them.
        ReportError: the list cannot be written there.
        SpecError: a limit is out of range.
        WeightsError, EngineError: there are photos to be read, and the backbone cannot be had.
    """
    source = Path(photos)
    place = check_list(output, _HEADER, source, overwrite=overwrite)
    predictor = Predictor(
        model,
        weights=weights,
        engine=engine,
        batch_size=batch_size,
        workers=workers,
        max_pixels=max_pixels,
        max_bytes=max_bytes,
        truncated=truncated,
    )
    judge = _judged_store if holds_features(source) else _judged_images
    return judge(predictor, source, place, progress)


def _judged_store(predictor: Predictor, source: Path, place: Path, progress: Callable[[Progress], None]) -> WrongLabelsResult:
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
            probabilities = _out_of_fold(predictor, store, used, images)
        else:
            by = "model"
            probabilities = np.concatenate([predictor.probabilities(block) for block in _blocks(store, used)])
        root = Path(store.source)
        folder = root.parent if root.is_file() else root
        files = [folder / store.paths[row] for row in plain.tolist()]
        given = ["" if label < 0 else store.class_names[label] for label in store.labels[plain].tolist()]
        columns = [(given[i], store.split[row], store.group[row]) for i, row in enumerate(plain.tolist())]
        skipped = [store.paths[row] for row in np.setdiff1d(plain, used).tolist()]
        return _written(place, names, images, probabilities, by, np.searchsorted(plain, used), files, columns, skipped)


def _judged_images(predictor: Predictor, source: Path, place: Path, progress: Callable[[Progress], None]) -> WrongLabelsResult:
    found, names = scan(source, place), predictor.class_names
    records = [record for record in found.records if record.label >= 0]
    check_labelled(records, source)
    check_classes(predictor, found.class_names, source)
    if not predictor.bundle.splits():
        log.warning("the model keeps no list of its photos (--anonymous), so it is not known whether it was fitted on these")
    known = _known(predictor)
    answers: list[np.ndarray] = []
    judged: list[int] = []
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
    if not answers:
        raise DataError(f"None of the images in '{source}' could be decoded; check that it holds pictures.")
    places = {record.path: i for i, record in enumerate(found.records)}
    read = [records[i] for i in judged]
    labels = np.asarray([names.index(found.class_names[record.label]) for record in read], np.int64)
    paths = tuple(record.path for record in read)
    columns = [
        ("" if record.label < 0 else found.class_names[record.label], record.split, record.group) for record in found.records
    ]
    files = [record.file for record in found.records]
    skipped = sorted(set(places) - set(paths))
    rows = np.asarray([places[path] for path in paths], np.int64)
    table = ImageTable(paths, ("",) * len(paths), (), (), (), labels, np.empty(0, np.uint64))
    return _written(place, names, table, np.stack(answers), "model", rows, files, columns, skipped)


def _known(predictor: Predictor) -> set[str]:
    """Return the digests of the photos that the model was fitted or chosen on."""
    return {row.sha256 for row in predictor.bundle.splits() if row.split != "test"}


def _check_backbone(predictor: Predictor, source: Path) -> None:
    if predictor.bundle.manifest.spec.backbone.weights in LEARNT:
        raise DataError(
            f"The whole network of '{predictor.bundle.path}' may have learnt from photos of '{source}', so nothing of it can "
            "judge their labels; give a model that 'ffe tune' made."
        )


def _blocks(store: FeatureStore, rows: np.ndarray) -> Iterator[np.ndarray]:
    step = max(1, _BLOCK_BYTES // (4 * store.dims))
    return (store.features(rows[start : start + step]) for start in range(0, len(rows), step))


def _out_of_fold(predictor: Predictor, store: FeatureStore, rows: np.ndarray, images: ImageTable) -> np.ndarray:
    """Return float64 (n, K): what heads that were fitted without a photo, and without all that belong to it, say of it."""
    manifest, path = predictor.bundle.manifest, store.path
    present, labels = np.unique(images.labels, return_inverse=True)
    names = [manifest.class_names[label] for label in present.tolist()]
    check_two_classes(names, f"labelled photos of '{path}'", "; give photos of at least two.")
    pooled = pooled_rows([store], np.stack([np.zeros_like(rows), rows], axis=1), images.paths)
    groups = find_groups(images.sha256, images.phash, pooled, images.named).ids
    sizes = groups_of_classes(labels, groups)
    folds = min(_MOST_FOLDS, *sizes.values())
    if folds < 2:
        name = names[min(sizes, key=lambda label: (sizes[label], label))]
        raise DataError(
            f"The class '{name}' of '{path}' has a single photo, or photos that all belong together, so no head can be fitted "
            "without it; add photos of it, or leave the class out."
        )
    kind, parameters = head_class(manifest.head.name), manifest.head.parameters
    unfitted = kind(parameters, manifest.layout)
    log.info("the model was fitted on some of these photos, so %d heads are fitted, each without a part of them", folds)
    x, done = np.empty((0, 0), np.float32), 0
    for block in _blocks(store, rows):
        part = unfitted.map.rowwise(block)
        x = empty_array((len(rows), part.shape[1])) if done == 0 else x
        x[done : done + len(part)] = part
        done += len(part)
    asked = str(manifest.search.get("class_weights"))
    weights = class_weights(asked if asked in WEIGHTINGS else "auto", labels, len(names))
    probabilities = np.zeros((len(rows), len(manifest.class_names)))
    dealt = assign_folds(labels, images.sha256, groups, folds, 0, names)
    for fit, score in fold_parts(np.arange(len(rows)), dealt):
        head = kind(parameters, manifest.layout).fit_rowwise(x[fit], FitData(labels[fit], len(names), 0, weights))
        probabilities[np.ix_(score, present)] = with_temperature(head.proba_rowwise(x[score]), manifest.temperature)
    return probabilities


def _written(
    place: Path,
    names: Sequence[str],
    images: ImageTable,
    probabilities: np.ndarray,
    by: Literal["model", "folds"],
    rows: np.ndarray,
    files: Sequence[Path],
    columns: Sequence[tuple[str, str, str]],
    skipped: list[str],
) -> WrongLabelsResult:
    """Write the list of all ``files``, with their label, split and group; ``images`` are ``rows`` int64 (n,) of them."""
    issues = find_label_errors(probabilities, images.labels)
    if issues is None:
        raise DataError(
            "The answers are too unclear to tell which labels are wrong: fewer than half are sure; "
            "give more photos, or another model."
        )
    wrong = tuple(
        WrongLabel(
            images.paths[one.row], names[one.given], names[one.suggested], one.probability_given, one.probability_suggested
        )
        for one in issues
    )
    if skipped:
        was = "photo was" if len(skipped) == 1 else "photos were"
        log.warning("%d %s not judged, for want of a label or of a picture (%s)", len(skipped), was, few(quoted(skipped)))
    first = [int(rows[one.row]) for one in issues]
    rest = sorted(set(range(len(files))) - set(first), key=lambda row: str(files[row]))
    said = [(no_formula(one.guess), f"{one.probability_label:.4f}", f"{one.probability_guess:.4f}") for one in wrong]
    lines = [(*columns[row], *more) for row, more in zip([*first, *rest], [*said, *[("", "", "")] * len(rest)], strict=True)]
    write_list(place, _HEADER, [files[row] for row in [*first, *rest]], lines)
    return WrongLabelsResult(str(place), wrong, len(probabilities), by, tuple(skipped))
