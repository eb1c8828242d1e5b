"""Is a feature file what it says? Every row, in memory that stays flat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ffe.base.digests import path_digest
from ffe.base.text import counted
from ffe.errors import StoreError
from ffe.store.checksums import row_checksums
from ffe.store.reader import FeatureStore
from ffe.store.row_reader import UNREADABLE


@dataclass(frozen=True)
class Problem:
    """What is not right with a row of a feature file, or with the whole of a file (None), in words that follow its name."""

    message: str
    row: int | None = None
    path: str | None = None

    def text(self) -> str:
        """Return the problem in one line."""
        return self.message if self.row is None else f"row {self.row}, '{self.path}': {self.message}"


def check_store(store: FeatureStore, progress: Callable[[int], None] = lambda done: None) -> list[Problem]:
    """Return what opening a feature file has not found wrong with it, by row; ``progress`` takes the number of rows done."""
    problems = _order(store)
    try:
        store.quantized()
    except StoreError as error:
        problems.append(Problem(str(error)))
    step = store.blocks.step
    block = np.empty((min(step, len(store)), store.dims), store.blocks.dtype)
    for first in range(0, len(store), step):
        problems += _rows(store, first, block[: len(store) - first])
        progress(min(first + step, len(store)))
    return problems


def _rows(store: FeatureStore, first: int, block: np.ndarray) -> list[Problem]:
    """Check some rows; ``block`` (n, D) is overwritten by them."""
    same = readable = read_unchecked(store, first, block)
    if store.crc32 is not None:
        same = readable & (row_checksums(block) == store.crc32[first : first + len(block)])
    finite = np.isfinite(block).all(axis=1)
    wrong = (
        (~readable, "its features cannot be read"),
        (readable & ~same, "its features are not those that were written"),
        (same & ~finite, "its features hold NaN or infinity"),
    )
    found = [(first + int(i), message) for rows, message in wrong for i in np.flatnonzero(rows)]
    return [Problem(message, row, store.paths[row]) for row, message in sorted(found)]


def read_unchecked(store: FeatureStore, first: int, block: np.ndarray) -> np.ndarray:
    """Read rows as they are into ``block`` (n, D), NaN where they cannot be read; return bool (n,), which could."""
    readable = np.ones(len(block), bool)
    try:
        store.blocks.read(first, block)
    except UNREADABLE:
        for i in range(len(block)):
            try:
                store.blocks.read(first + i, block[i : i + 1])
            except UNREADABLE:
                readable[i], block[i] = False, np.nan
    return readable


def _order(store: FeatureStore) -> list[Problem]:
    """Check that rows stand sorted by the digest of their path, and no path twice; parts of a virtual file are checked alone."""
    keys = [(path_digest(path), view) for path, view in zip(store.paths, store.views.tolist(), strict=True)]
    if len(set(keys)) < len(keys):
        return [Problem("it has two rows of one image")]
    if not store.parts and keys != sorted(keys):
        return [Problem("its rows do not stand in the order that their paths give them")]
    return _views(store)


def _views(store: FeatureStore) -> list[Problem]:
    """Check that an image has all the views that the file speaks of, or none, and that each is a view of an image like it."""
    if store.made_views is None:
        return []
    plain = store.plain
    rows = store.rows_of_views(plain)
    count = (rows >= 0).sum(axis=1)
    problems = [
        Problem(f"it has {n} of {counted(store.made_views.count, 'view')} of '{store.paths[row]}'")
        for row, n in zip(plain, count.tolist(), strict=True)
        if n not in {0, store.made_views.count}
    ]
    columns = (store.sha256, store.labels.tolist(), store.split, store.group)
    for row, views in zip(plain.tolist(), rows.tolist(), strict=True):
        if any(column[view] != column[row] for view in views if view >= 0 for column in columns):
            problems.append(Problem(f"the views of '{store.paths[row]}' are of another content, class, split or group than it"))
    return problems if count.sum() == len(store) - len(plain) else [*problems, Problem("it has views of images that it has not")]
