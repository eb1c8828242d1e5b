"""What a model can be asked about: features of its spec, the classes that it knows, the images of a source."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ffe.backbones.trained import LEARNT
from ffe.base.file_access import HDF5_SIGNATURE, first_bytes, is_table, unopened
from ffe.base.model_archive import BACKBONE
from ffe.errors import ModelMismatchError, SourceError
from ffe.extraction.pipeline import ImageFeatures
from ffe.extraction.stage_times import Progress
from ffe.images.records import ImageRecord
from ffe.predictor import Predictor
from ffe.specs import spec_differences
from ffe.store.reader import FeatureStore


def holds_features(path: Path | str) -> bool:
    """Return whether a file is a feature file, or a table of one; a SourceError says why it cannot be opened."""
    if not isinstance(path, Path):
        return False
    try:
        return path.is_file() and (first_bytes(path) == HDF5_SIGNATURE or is_table(path))
    except OSError as error:
        raise SourceError(unopened(path, error)) from error


def check_spec(predictor: Predictor, store: FeatureStore) -> None:
    """Make sure that a feature file holds what a model takes."""
    manifest, path, model = predictor.bundle.manifest, store.path, predictor.bundle.path
    if manifest.beside:
        raise ModelMismatchError(
            f"The model '{model}' has {len(manifest.backbones)} backbones, and '{path}' holds features of one; "
            "give the folder or CSV of the photos."
        )
    if store.spec_digest != manifest.spec_digest:
        differences = "; ".join(spec_differences(store.spec, manifest.spec, ("the file has", "the model needs")))
        how = (
            f"those of this model's backbone are made by 'ffe extract SOURCE --backbone {model} -o new.h5'."
            if manifest.spec.backbone.weights in LEARNT and BACKBONE in manifest.members
            else "extract with the options of the model (int8 with --like its feature file), or tune a new one."
        )
        raise ModelMismatchError(f"The model '{model}' was made for other features than '{path}' holds ({differences}); {how}")


def answered(
    predictor: Predictor, records: Sequence[ImageRecord], progress: Callable[[Progress], None]
) -> Iterator[list[tuple[ImageFeatures, np.ndarray | None]]]:
    """Yield what a model says of the images of a source, as ``Predictor.answers`` does, and tell how far it is."""
    started, failed = time.monotonic(), 0
    for batch in predictor.answers(record.file for record in records):
        yield batch
        failed += sum(row is None for _, row in batch)
        if batch:
            done, elapsed = batch[-1][0].index + 1, time.monotonic() - started
            remaining = elapsed / done * (len(records) - done)
            progress(Progress(done, len(records), failed, done / elapsed, remaining, predictor.stages))


def check_classes(predictor: Predictor, class_names: Sequence[str], path: Path | str) -> None:
    """Make sure that the model knows the classes of the data."""
    known = predictor.class_names
    if unknown := sorted(set(class_names) - set(known)):
        raise ModelMismatchError(
            f"'{path}' has the class '{unknown[0]}', which the model '{predictor.bundle.path}' does not know "
            f"(it knows {', '.join(known)}); score it on those classes."
        )
