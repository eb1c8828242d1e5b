"""Features of chosen rows of several files -> one array, in memory or, where they are too many, on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ffe.base.arrays import RowSource, empty_array
from ffe.base.text import counted
from ffe.dataset.feature_files import Features
from ffe.errors import DataError
from ffe.heads.transform import averaged
from ffe.splits.groups import ALL_PAIRS

_PIECE_BYTES = 16 << 20


def load_rows(stores: Sequence[Features], origin: np.ndarray) -> np.ndarray:
    """Read the features of rows of files of one spec: float32 (n, D), or where memory is short a memory map of them.

    ``origin`` int64 (n, 2) is (file, row in it); the rows of a file ascend.
    """
    return FileRows(stores, origin)[np.arange(len(origin))]


def pooled_rows(stores: Sequence[Features], origin: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Read some rows as ``load_rows`` does, averaged over height and width: float32 (n, C); ``names`` are for messages.

    A DataError where a row holds NaN or infinity, or all rows hold the same.
    """
    result = np.empty(PooledRows(stores, origin).shape, np.float32)
    for store, places, features in _sound_pieces(stores, origin, names):
        result[places] = averaged(features, store.layout)
    return result


def rows_to_group(stores: Sequence[Features], origin: np.ndarray, names: Sequence[str]) -> RowSource:
    """Return what ``pooled_rows`` does; of rows that are not compared pair by pair, what reads them when they are asked for."""
    if len(origin) <= ALL_PAIRS:
        return pooled_rows(stores, origin, names)
    for _ in _sound_pieces(stores, origin, names):
        pass
    return PooledRows(stores, origin)


def _sound_pieces(
    stores: Sequence[Features], origin: np.ndarray, names: Sequence[str]
) -> Iterator[tuple[Features, np.ndarray, np.ndarray]]:
    """Yield what ``_pieces`` does, once it is known that heads can learn from it; see ``pooled_rows``."""
    first, differ = None, False
    for store, places, features in _pieces(stores, origin):
        sound = np.isfinite(features).all(axis=1)
        if not sound.all():
            name = names[int(places[int(np.argmin(sound))])]
            raise DataError(f"The features of '{name}' hold NaN or infinity; make them again with 'ffe extract --overwrite'.")
        first = features[0].copy() if first is None else first
        differ = differ or bool((features != first).any())
        yield store, places, features
    if len(origin) > 1 and not differ:
        raise DataError(
            f"All {counted(len(origin), 'row')} of '{stores[0].path}' hold the same features, so nothing can be learnt from "
            "them; check that the images differ, and make the features again with 'ffe extract --overwrite'."
        )


class FileRows:
    """Rows that stay in their files, which must be open: rows int64 (n,) -> float32 (n, D), as of ``load_rows``."""

    def __init__(self, stores: Sequence[Features], origin: np.ndarray) -> None:
        self._stores, self._origin = stores, origin
        self.shape = (len(origin), stores[0].dims)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        result = empty_array((len(rows), self.shape[1]))
        for _, places, features in _pieces(self._stores, self._origin[rows]):
            result[places] = features
        return result


class PooledRows:
    """Rows averaged over height and width that stay in their files, which must be open: rows int64 (n,) -> float32 (n, C)."""

    def __init__(self, stores: Sequence[Features], origin: np.ndarray) -> None:
        self._stores, self._origin = stores, origin
        self.shape = (len(origin), stores[0].layout.channels)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        result = np.empty((len(rows), self.shape[1]), np.float32)
        for store, places, features in _pieces(self._stores, self._origin[rows]):
            result[places] = averaged(features, store.layout)
        return result


def _pieces(stores: Sequence[Features], origin: np.ndarray) -> Iterator[tuple[Features, np.ndarray, np.ndarray]]:
    """Yield (file, places in ``origin``, features of them), file by file."""
    for number, store in enumerate(stores):
        places, step = np.flatnonzero(origin[:, 0] == number), max(1, _PIECE_BYTES // (4 * store.dims))
        for start in range(0, len(places), step):
            some = places[start : start + step]
            yield store, some, store.features(origin[some, 1])
