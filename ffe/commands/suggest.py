"""``suggest``: a model and photos without labels in; which of them to label next, as a list to fill in, out."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from ffe.base.text import did_you_mean, listed
from ffe.base.urls import path_or_url
from ffe.dataset.label_next import WAYS, By
from ffe.dataset.photo_list import check_list
from ffe.dataset.stored_rows import named_files
from ffe.errors import SpecError
from ffe.exporting.read_table import open_features
from ffe.extraction.stage_times import Progress
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Truncated
from ffe.images.sources import scan
from ffe.labelling.choice import HEADER, Choice, SuggestResult
from ffe.labelling.model_answers import answered, holds_features
from ffe.predictor import Predictor

COUNT = 50


def suggest(
    model: str | os.PathLike[str],
    photos: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    count: int = COUNT,
    by: By = "margin",
    overwrite: bool = False,
    weights: str = "imagenet",
    engine: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    truncated: Truncated = "skip",
    progress: Callable[[Progress], None] = lambda progress: None,
) -> SuggestResult:
    """Choose the photos that a model would learn most from, and write them as a list to fill in, which ``extract`` takes.

    They are those that the model is least sure of, spread out so that they are not all alike; see
    ``ffe.dataset.label_next.spread_out``. The same photos give the same list. Left out are photos that have a label, that
    the model knows, or that are equal to another one. Memory does not grow with the photos, but for their names: 20
    candidates are kept for each photo that is asked for (at least 1,000; beyond 20,000 no more than are asked for).

    Args:
        model: a model file.
        photos: a folder or CSV of photos without labels; or a feature file of such, of the model's spec.
        output: the list, a CSV with the columns ``path`` (relative to its folder), ``label`` (empty, to be filled in),
            ``guess``, ``probability`` and ``uncertainty``.
        count: photos to choose; where there are fewer, all are given, with a warning.
        by: ``margin``: the two most probable classes are close; or ``entropy``: many classes are.
        overwrite: replace a list that is there, if nobody has filled in a label; other files never are.
        weights, engine, batch_size, workers, max_pixels, max_bytes, truncated: see ``ffe.Predictor``.
        progress: for images; see ``ffe.extract``.

    Raises:
        BundleError, StoreError, SourceError: one of the files cannot be used.
        ModelMismatchError: the features are not those of the model.
        DataError: there is no photo to choose.
        ReportError: the list cannot be written there.
        SpecError: ``count``, ``by`` or a limit is out of range.
        WeightsError, EngineError: there are photos to be read, and the backbone cannot be had.
    """
    if count < 1:
        raise SpecError(f"The number of photos to choose is {count}, but must be at least 1.")
    if by not in WAYS:
        raise SpecError(f"Photos cannot be chosen by '{by}'; choose {listed(WAYS, 'or')}.{did_you_mean(by, WAYS)}")
    source = path_or_url(photos)
    place = check_list(output, HEADER, source, overwrite=overwrite, to_fill=True)
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
    choice = Choice(predictor, source, count, by)
    if holds_features(source):
        with open_features(source) as store:
            choice.of_store(store)
            return choice.written(place, store.paths, named_files(store, choice.rows()))
    found = scan(source, place)
    records = [record for record in found.records if record.label < 0]
    choice.labelled = len(found.records) - len(records)
    for batch in answered(predictor, records, progress):
        good = [
            (item.index, item.features, row)
            for item, row in batch
            if item.features is not None and row is not None and choice.is_new(item.sha256)
        ]
        choice.skipped += [records[item.index].path for item, row in batch if row is None]
        if good:
            indices, features, answers = zip(*good, strict=True)
            choice.add(np.asarray(indices, np.int64), np.stack(features), np.stack(answers))
    return choice.written(place, [record.path for record in records], [records[row].file for row in choice.rows()])
