"""Features of chosen rows of several files -> one array, in memory or, where they are too many, on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ffe.base.arrays import empty_array
from ffe.base.text import counted
from ffe.dataset.feature_files import Features
from ffe.errors import DataError
from ffe.heads.transform import averaged

_PIECE_BYTES = 16 << 20


def load_rows(stores: Sequence[Features], origin: np.ndarray) -> np.ndarray:
    """Read the features of rows of files of one spec: float32 (n, D), or where memory is short a memory map of them.

    ``origin`` int64 (n, 2) is (file, row in it); the rows of a file ascend.
    """
    result = empty_array((len(origin), stores[0].dims))
    for _, places, features in _pieces(stores, origin):
        result[places] = features
    return result


def pooled_rows(stores: Sequence[Features], origin: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Read some rows as ``load_rows`` does, averaged over height and width: float32 (n, C); ``names`` are for messages.

    A DataError where a row holds NaN or infinity, or all rows hold the same.
    """
    parts = []
    first, differ = None, False
    for store, places, features in _pieces(stores, origin):
        sound = np.isfinite(features).all(axis=1)
        if not sound.all():
            name = names[int(places[int(np.argmin(sound))])]
            raise DataError(f"The features of '{name}' hold NaN or infinity; make them again with 'ffe extract --overwrite'.")
        first = features[0].copy() if first is None else first
        differ = differ or bool((features != first).any())
        parts.append(averaged(features, store.layout))
    if len(origin) > 1 and not differ:
        raise DataError(
            f"All {counted(len(origin), 'row')} of '{stores[0].path}' hold the same features, so nothing can be learnt from "
            "them; check that the images differ, and make the features again with 'ffe extract --overwrite'."
        )
    return np.concatenate(parts)


def _pieces(stores: Sequence[Features], origin: np.ndarray) -> Iterator[tuple[Features, np.ndarray, np.ndarray]]:
    """Yield (file, places in ``origin``, features of them), file by file."""
    for number, store in enumerate(stores):
        places, step = np.flatnonzero(origin[:, 0] == number), max(1, _PIECE_BYTES // (4 * store.dims))
        for start in range(0, len(places), step):
            some = places[start : start + step]
            yield store, some, store.features(origin[some, 1])
