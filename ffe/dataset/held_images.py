"""The plain images of several feature files of one source, as if they stood in one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ffe.store.reader import FeatureStore


@dataclass(frozen=True)
class HeldImages:
    """What feature files say of their plain images; entry i of each column is image i."""

    paths: list[str]
    sha256: list[str]
    classes: list[str]  # names; empty = unlabelled
    split: list[str]
    sizes: list[int]  # of the image files, in bytes; -1 = unknown


def held_images(stores: Iterable[FeatureStore | None]) -> HeldImages:
    """Gather the plain images of open feature files; there may be none of a file."""
    paths, sha256, classes, split, sizes = list[str](), list[str](), list[str](), list[str](), list[int]()
    for store in stores:
        if store is None:
            continue
        rows, names = store.plain.tolist(), (*store.class_names, "")  # -1 is the last
        paths += [store.paths[row] for row in rows]
        sha256 += [store.sha256[row] for row in rows]
        classes += [names[label] for label in store.labels[store.plain].tolist()]
        split += [store.split[row] for row in rows]
        sizes += store.stat[store.plain, 0].tolist()
    return HeldImages(paths, sha256, classes, split, sizes)
