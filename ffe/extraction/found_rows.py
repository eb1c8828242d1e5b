"""The rows of the images of a run, in columns: of many photos, a row of its own for each would be most of the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from ffe.base.file_stat import Stamp
from ffe.images.sources import ImageRecord
from ffe.store.schema import Row

_T = TypeVar("_T")


class Made(Sequence[_T], Generic[_T]):
    """So many values, each made by its position whenever it is asked for."""

    def __init__(self, count: int, make: Callable[[int], _T]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._make(i) for i in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._make(index)


class FoundRows(Mapping[int, Row]):
    """Rows by the positions of their records, in ascending order, whatever order they were put in."""

    def __init__(self, records: Sequence[ImageRecord]) -> None:
        count = len(records)
        self._records = records
        self._there = np.zeros(count, bool)
        self._sha256, self._phash = np.zeros((count, 32), np.uint8), np.zeros(count, np.uint64)
        self._stat = np.zeros((count, 2), np.int64)

    def put(self, position: int, sha256: str, phash: int, stat: Stamp) -> None:
        """Give a record a row."""
        self._sha256[position] = memoryview(bytes.fromhex(sha256))
        self._phash[position], self._stat[position], self._there[position] = phash, stat, True

    def __len__(self) -> int:
        return int(self._there.sum())

    def __iter__(self) -> Iterator[int]:
        return map(int, np.flatnonzero(self._there))

    def __getitem__(self, position: int) -> Row:
        if not self._there[position]:
            raise KeyError(position)
        record, sha256 = self._records[position], self._sha256[position].tobytes().hex()
        size, changed = self._stat[position].tolist()
        phash = int(self._phash[position])
        return Row(record.path, sha256, record.label, record.split, 0, phash, record.group, (size, changed))
