"""The plain images of several feature files of one source, as if they stood in one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ffe.base.columns import Made, joined
from ffe.store.reader import FeatureStore

_V = TypeVar("_V")


@dataclass(frozen=True)
class HeldImages:
    """What feature files say of their plain images; entry i of each column is image i."""

    paths: Sequence[str]
    sha256: Sequence[str]
    classes: Sequence[str]  # names; empty = unlabelled
    split: Sequence[str]
    sizes: Sequence[int]  # of the image files, in bytes; -1 = unknown


def held_images(stores: Iterable[FeatureStore | None]) -> HeldImages:
    """Gather the plain images of open feature files; there may be none of a file."""
    held = [(store, store.plain, (*store.class_names, "")) for store in stores if store is not None]  # label -1 is the last

    def column(value: Callable[[FeatureStore, int, Sequence[str]], _V]) -> Sequence[_V]:
        def of(store: FeatureStore, plain: np.ndarray, names: Sequence[str]) -> Sequence[_V]:
            return Made(len(plain), lambda i: value(store, int(plain[i]), names))

        return joined([of(*one) for one in held])

    return HeldImages(
        column(lambda store, row, _: store.paths[row]),
        column(lambda store, row, _: store.sha256[row]),
        column(lambda store, row, names: names[store.labels[row]]),
        column(lambda store, row, _: store.split[row]),
        column(lambda store, row, _: int(store.stat[row, 0])),
    )
