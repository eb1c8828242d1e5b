"""``suggest --wrong``: a model and labelled photos in; a list to correct, the likely errors first, out."""

from __future__ import annotations

import os
from collections.abc import Callable

from ffe.base.urls import path_or_url
from ffe.dataset.photo_list import check_list
from ffe.extraction.stage_times import Progress
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Truncated
from ffe.labelling.judged import HEADER, WrongLabelsResult, judged_images, judged_store
from ffe.labelling.model_answers import holds_features
from ffe.predictor import Predictor


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
    source = path_or_url(photos)
    place = check_list(output, HEADER, source, overwrite=overwrite)
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
    judge = judged_store if holds_features(source) else judged_images
    return judge(predictor, source, place, progress)
