"""Several feature files of the same images -> one table of features, the rows side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ffe.base.digests import bytes_digest, canonical_json
from ffe.base.feature_layout import FeatureLayout
from ffe.base.model_archive import MOST_BACKBONES
from ffe.base.text import counted
from ffe.errors import DataError
from ffe.store.reader import FeatureStore


@dataclass(frozen=True, eq=False)
class FeatureFiles:
    """Feature files of the same images, open; row i of the whole is row i of the first, and behind it that of each other."""

    files: tuple[FeatureStore, ...]
    places: tuple[np.ndarray, ...]  # of each file: int64 (N,), the row in it that is row i of the first

    @property
    def main(self) -> FeatureStore:
        """The first file, whose names, order and perceptual hashes count."""
        return self.files[0]

    @property
    def path(self) -> Path:
        """The first file, for messages."""
        return self.main.path

    @cached_property
    def layout(self) -> FeatureLayout:
        """How the features lie in a row: the parts of each file, in the order of the files."""
        return FeatureLayout(tuple(part for file in self.files for part in file.layout.parts))

    @property
    def dims(self) -> int:
        """Features of one row."""
        return self.layout.dims

    @property
    def digest(self) -> str:
        """The digest of what makes a row: the spec digest of one file, or the digest of those of several."""
        digests = [file.spec_digest for file in self.files]
        return digests[0] if len(digests) == 1 else bytes_digest(canonical_json(digests))

    def parts_of_files(self) -> list[str]:
        """Return ``1 mobilenet at 224x224``, ``2 vgg19 at 150x150``: the numbers that the parts of each file have in a row."""
        texts, first = [], 1
        for file in self.files:
            last, (height, width) = first + len(file.layout.parts) - 1, file.spec.preprocess.size
            numbers = f"{first}" if first == last else f"{first} to {last}"
            texts.append(f"{numbers} {file.spec.backbone.name} at {height}x{width}")
            first = last + 1
        return texts

    def features(self, rows: np.ndarray) -> np.ndarray:
        """Return float32 (n, D) of rows (n,) of the first file, in any order; a StoreError where one is damaged."""
        found = [file.features(places[rows]) for file, places in zip(self.files, self.places, strict=True)]
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)


def side_by_side(files: Sequence[FeatureStore]) -> FeatureFiles:
    """Find the rows of the same images in open feature files, by digest and view.

    A DataError where two files are made by the same spec, or differ in images, views, labels, splits or groups: it names the
    first difference, and the command that mends it.
    """
    if len(files) > MOST_BACKBONES:
        raise DataError(f"{counted(len(files), 'feature file')} are too many to be joined; give {MOST_BACKBONES} at the most.")
    first = files[0]
    places = [np.arange(len(first))]
    for i, file in enumerate(files[1:], start=1):
        if (same := next((other for other in files[:i] if other.spec_digest == file.spec_digest), None)) is not None:
            raise DataError(
                f"'{same.path}' and '{file.path}' hold the same features ({file.spec.backbone.name}, and all else alike); "
                "give files of different backbones, layers, sizes or precisions."
            )
        places.append(_matched(first, file))
    return FeatureFiles(tuple(files), tuple(places))


def _matched(first: FeatureStore, other: FeatureStore) -> np.ndarray:
    """Return int64 (N,): of each row of the first file that of the other one; see ``side_by_side``."""
    if first.made_views != other.made_views:
        raise DataError(
            f"'{first.path}' and '{other.path}' hold different views of their photos; "
            "extract both with the same --views and --augment."
        )
    rows, others = _keys(first), _keys(other)
    there, here = (Counter(key[:2] for key in keys) for keys in (rows, others))
    for lacks, has, missing, keys in ((other, first, there - here, rows), (first, other, here - there, others)):
        if missing:
            name = min(key[-1] for key in keys if key[:2] in missing)
            count = len({sha256 for sha256, _ in missing})
            which = f"'{name}'" if count == 1 else f"the first '{name}'"
            raise DataError(
                f"'{lacks.path}' lacks {counted(count, 'photo')} of '{has.path}' ({which}), and only files of the same photos "
                f"can be joined; {_again(has, lacks)}."
            )
    order, theirs = (sorted(range(len(keys)), key=keys.__getitem__) for keys in (rows, others))
    for field, what in ((2, "the label"), (3, "the split"), (4, "the group")):
        for i, j in zip(order, theirs, strict=True):
            if rows[i][field] != others[j][field]:
                one, two = (f"'{text}'" if (text := str(key[field])) else "none" for key in (rows[i], others[j]))
                raise DataError(
                    f"'{first.paths[i]}' has {what} {one} in '{first.path}' and {two} in '{other.path}'; {_again(first, other)}."
                )
    places = np.empty(len(rows), np.int64)
    places[order] = theirs
    return places


def _keys(file: FeatureStore) -> list[tuple[str, int, str, str, str, str]]:
    """Return of each row digest, view, label, split, group and path: rows that are sorted by it match, copies of a photo too."""
    names = (*file.class_names, "")  # -1 is the last
    labels = [names[label] for label in file.labels.tolist()]
    return list(zip(file.sha256, file.views.tolist(), labels, file.split, file.group, file.paths, strict=True))


def _again(like: FeatureStore, other: FeatureStore) -> str:
    """Return what makes a file that is as another one."""
    return f"make it like the other one with 'ffe extract {like.source} -o {other.path}'"


Features = FeatureStore | FeatureFiles


def as_files(features: Features) -> FeatureFiles:
    """Return feature files as they are, and one file as a table of its own."""
    return features if isinstance(features, FeatureFiles) else side_by_side([features])
