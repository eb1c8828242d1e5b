"""``evaluate``: a model and labelled data in, scores out."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ffe.backbones.learnt import BACKBONE, LEARNT
from ffe.errors import DataError, ModelMismatchError, SourceError, SpecError
from ffe.evaluation.scores import Evaluation, evaluate_probabilities
from ffe.evaluation.selection import Answered, answered
from ffe.extraction.stages import Progress
from ffe.images.limits import MAX_BYTES, MAX_PIXELS
from ffe.images.scan import scan
from ffe.keys import spec_differences
from ffe.predict import Predictor
from ffe.specs import AugmentSpec
from ffe.store.reader import FeatureStore
from ffe.workflows.rows import labelled

log = logging.getLogger("ffe")


@dataclass(frozen=True)
class EvaluateResult:
    """Scores of a model on data.

    Attributes:
        evaluation: the scores.
        seen: rows among them that the model was fitted or chosen on, or that belong together with such.
        skipped: images that could not be read, and unlabelled ones.
        answered: what comes of the reject option.
    """

    evaluation: Evaluation
    seen: int
    skipped: int
    answered: Answered

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe evaluate --json`` prints."""
        return {
            **self.evaluation.to_json(),
            "seen_in_training": self.seen,
            "skipped": self.skipped,
            "answered": self.answered.to_json(),
        }


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
    tta: int = 0,
    augment: str | AugmentSpec | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> EvaluateResult:
    """Score a model on a feature file, or on a labelled source of images.

    Args:
        model: a model file.
        data: a feature file of the same spec, or a folder or CSV of labelled images.
        unseen: leave out images that the model was fitted or chosen on.
        weights: where the backbone's weights are, if the model file has none.
        engine, batch_size, workers, progress: for images; see ``ffe.extract``.
        reject, max_pixels, max_bytes: see ``ffe.Predictor``.
        tta, augment: average the answers over views of each image; see ``ffe.Predictor``.

    Raises:
        BundleError, StoreError, SourceError: one of the files cannot be used.
        ModelMismatchError: the features, or the classes, are not those of the model.
        DataError: there is no labelled row to score.
        SpecError: ``reject`` is out of range; or ``tta`` is given for a feature file, or without ``augment`` where it is needed.
    """
    predictor = Predictor(
        model,
        weights=weights,
        engine=engine,
        batch_size=batch_size,
        workers=workers,
        reject=reject,
        max_pixels=max_pixels,
        max_bytes=max_bytes,
        tta=tta,
        augment=augment,
    )
    path = Path(data)
    stored = path.is_file() and h5py.is_hdf5(path)
    if predictor.views is not None and stored:
        raise SpecError(f"--tta makes views of pictures, and '{path}' holds features; give the folder or CSV of the pictures.")
    if stored:
        probabilities, labels, digests, skipped = _predict_stored(predictor, path)
    else:
        probabilities, labels, digests, skipped = _predict_images(predictor, path, progress)
    splits = predictor.bundle.splits()
    known = {row.sha256 for row in splits if row.split != "test"}
    left_out = {row.sha256 for row in splits if not row.split}
    seen = np.asarray([digest in known for digest in digests], bool)
    if unseen:
        digests = [digest for digest, known_one in zip(digests, seen, strict=True) if not known_one]
        probabilities, labels, seen = probabilities[~seen], labels[~seen], seen[~seen]
        if not len(labels):
            raise DataError(f"The model was fitted or chosen on every image of '{path}'; score it on others.")
    elif seen.any():
        log.warning(
            "%d of the %d images were used to fit or choose this model%s, so the scores are too good; --unseen leaves them out",
            seen.sum(),
            len(seen),
            ", or belong together with such images" if left_out.intersection(digests) else "",
        )
    return EvaluateResult(
        evaluate_probabilities(probabilities, labels, predictor.class_names, groups=_same_images(digests)),
        int(seen.sum()),
        skipped,
        answered(probabilities, labels, predictor.reject),
    )


def _same_images(digests: Sequence[str]) -> np.ndarray | None:
    """Return int64 (N,), one number for all copies of an image; None where there are no copies."""
    different, numbers = np.unique(np.asarray(digests), return_inverse=True)
    return None if len(different) == len(digests) else numbers


def _predict_stored(predictor: Predictor, path: Path) -> tuple[np.ndarray, np.ndarray, list[str], int]:
    manifest = predictor.bundle.manifest
    with FeatureStore(path) as store:
        if store.spec_digest != manifest.spec_digest:
            differences = "; ".join(spec_differences(store.spec, manifest.spec, ("the file has", "the model needs")))
            model = predictor.bundle.path
            how = (
                f"those of this model's backbone are made by 'ffe extract SOURCE --backbone {model} -o new.h5'."
                if manifest.spec.backbone.weights in LEARNT and BACKBONE in manifest.members
                else "extract with the options of the model (int8 with --like its feature file), or tune a new one."
            )
            raise ModelMismatchError(
                f"The model '{model}' was made for other features than '{path}' holds ({differences}); {how}"
            )
        index = _model_labels(predictor, store.class_names, path)
        used = labelled(store)
        probabilities = [np.empty((0, len(manifest.class_names)))]
        step = 256
        for start in range(0, len(used), step):
            probabilities.append(predictor.probabilities(store.features(used[start : start + step])))
        digests = [store.sha256[i] for i in used]
        return np.concatenate(probabilities), index[store.labels[used]], digests, len(store.plain) - len(used)


def _predict_images(
    predictor: Predictor, path: Path, progress: Callable[[Progress], None]
) -> tuple[np.ndarray, np.ndarray, list[str], int]:
    found = scan(path)
    records = [record for record in found.records if record.label >= 0]
    if not records:
        raise SourceError(f"The images of '{path}' have no labels; give one folder per class, or a CSV with labels.")
    index = _model_labels(predictor, found.class_names, path)
    probabilities, labels, digests = [], [], []
    started = time.monotonic()
    for batch in predictor.answers(record.file for record in records):
        for item, row in batch:
            if row is not None:
                probabilities.append(row)
                labels.append(int(index[records[item.index].label]))
                digests.append(item.sha256)
        if batch:
            done, elapsed = batch[-1][0].index + 1, time.monotonic() - started
            remaining = elapsed / done * (len(records) - done)
            progress(Progress(done, len(records), done - len(labels), done / elapsed, remaining, predictor.stages))
    skipped = len(found.records) + len(found.left_out) - len(labels)
    if not probabilities:
        raise SourceError(f"None of the images in '{path}' could be decoded; check that it holds pictures.")
    return np.stack(probabilities), np.asarray(labels, np.int64), digests, skipped


def _model_labels(predictor: Predictor, class_names: Sequence[str], path: Path) -> np.ndarray:
    """Return, for each class of the data, the label that the model gives it."""
    known = predictor.class_names
    unknown = sorted(set(class_names) - set(known))
    if unknown:
        raise ModelMismatchError(
            f"'{path}' has the class '{unknown[0]}', which the model '{predictor.bundle.path}' does not know "
            f"(it knows {', '.join(known)}); score it on those classes."
        )
    return np.asarray([known.index(name) for name in class_names], np.int64)
