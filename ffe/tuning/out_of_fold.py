"""What heads say of stored photos that they were not fitted on, where all of them are labelled."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from ffe.base.arrays import empty_array
from ffe.dataset.class_checks import check_two_classes
from ffe.dataset.load_features import rows_to_group
from ffe.dataset.table import ImageTable
from ffe.errors import DataError
from ffe.evaluation.class_weights import WEIGHTINGS, class_weights
from ffe.evaluation.temperature import with_temperature
from ffe.heads.base import FitData
from ffe.heads.ensemble import head_class
from ffe.specs import HeadSpec
from ffe.splits.folds import assign_folds
from ffe.splits.groups import find_groups
from ffe.splits.holdout import groups_of_classes
from ffe.store.reader import FeatureStore
from ffe.tuning.problem import fold_parts

log = logging.getLogger("ffe")

_MOST_FOLDS = 5
_BLOCK_BYTES = 16 << 20


def blocks_of(store: FeatureStore, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the features of rows int64 (n,), in order, in blocks of up to 16 MiB: float32 (m, D)."""
    step = max(1, _BLOCK_BYTES // (4 * store.dims))
    return (store.features(rows[start : start + step]) for start in range(0, len(rows), step))


def out_of_fold(
    store: FeatureStore,
    rows: np.ndarray,
    images: ImageTable,
    class_names: Sequence[str],
    asked: HeadSpec,
    *,
    weighting: str,
    factor: float,
) -> np.ndarray:
    """Return float64 (n, K): what a head says of each photo that was fitted without it, and without all that belong to it.

    Up to five heads are fitted, each without a part of the photos. What they look at is held in memory, or on the disk where
    that is short.

    Args:
        store: a feature file.
        rows: its plain rows, int64 (n,), each with a label.
        images: the photos of these rows; their labels are indices into ``class_names``, of which some may have no photo.
        class_names: K names.
        asked: the head and its parameters.
        weighting: how much classes count, see ``class_weights``; what is none of these is ``auto``.
        factor: of the calibration; see ``ffe.evaluation.temperature.with_temperature``.

    Raises:
        DataError: there are not two classes, or a class has no two photos that stand apart.
        StoreError: a row is damaged.
    """
    present, labels = np.unique(images.labels, return_inverse=True)
    names = [class_names[label] for label in present.tolist()]
    check_two_classes(names, f"labelled photos of '{store.path}'", "; give photos of at least two.")
    pooled = rows_to_group([store], np.stack([np.zeros_like(rows), rows], axis=1), images.paths)
    groups = find_groups(images.sha256, images.phash, pooled, images.named).ids
    sizes = groups_of_classes(labels, groups)
    folds = min(_MOST_FOLDS, *sizes.values())
    if folds < 2:
        name = names[min(sizes, key=lambda label: (sizes[label], label))]
        raise DataError(
            f"The class '{name}' of '{store.path}' has a single photo, or photos that all belong together, so no head can be "
            "fitted without it; add photos of it, or leave the class out."
        )
    kind, parameters = head_class(asked.name), asked.parameters
    unfitted = kind(parameters, store.layout)
    log.info("the model was fitted on some of these photos, so %d heads are fitted, each without a part of them", folds)
    x, done = np.empty((0, 0), np.float32), 0
    for block in blocks_of(store, rows):
        part = unfitted.map.rowwise(block)
        x = empty_array((len(rows), part.shape[1])) if done == 0 else x
        x[done : done + len(part)] = part
        done += len(part)
    weights = class_weights(weighting if weighting in WEIGHTINGS else "auto", labels, len(names))
    probabilities = np.zeros((len(rows), len(class_names)))
    dealt = assign_folds(labels, images.sha256, groups, folds, 0, names)
    for fit, score in fold_parts(np.arange(len(rows)), dealt):
        head = kind(parameters, store.layout).fit_rowwise(x[fit], FitData(labels[fit], len(names), 0, weights))
        probabilities[np.ix_(score, present)] = with_temperature(head.proba_rowwise(x[score]), factor)
    return probabilities
