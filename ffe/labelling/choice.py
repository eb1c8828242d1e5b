"""Photos without labels, seen once -> those to label next, in a list."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffe.base.digests import DigestIndex, key_of
from ffe.base.text import counted, few, no_formula, quoted
from ffe.dataset.label_next import By, Candidates, most_kept, spread_out
from ffe.dataset.photo_list import write_list
from ffe.errors import DataError
from ffe.images.image_handle import ImageFile, is_there
from ffe.labelling.model_answers import check_spec
from ffe.predictor import Predictor
from ffe.store.reader import FeatureStore

log = logging.getLogger("ffe")

HEADER = ("path", "label", "guess", "probability", "uncertainty")
_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class SuggestedImage:
    """A photo to label.

    Attributes:
        path: the photo, relative to its source.
        guess: what the model takes it for.
        probability: of that, in [0, 1].
        uncertainty: in [0, 1], 0 = sure; see ``ffe.dataset.label_next.uncertainty``.
    """

    path: str
    guess: str
    probability: float
    uncertainty: float


@dataclass(frozen=True)
class SuggestResult:
    """Which photos to label next.

    Attributes:
        output: the list.
        images: the photos, in the order in which they were chosen.
        considered: how many there were to choose from.
        known: how many more the model knows already.
        labelled: how many more have a label.
        copies: how many more are equal to another one, byte for byte.
        skipped: paths of those that could not be read.
    """

    output: str
    images: tuple[SuggestedImage, ...]
    considered: int
    known: int
    labelled: int
    copies: int
    skipped: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe suggest --json`` prints."""
        return asdict(self)


class Choice:
    """Sees all photos once, keeps few, and chooses among them."""

    def __init__(self, predictor: Predictor, source: Path | str, count: int, by: By) -> None:
        self._predictor, self._source, self._count, self._by = predictor, source, count, by
        self._layout = predictor.bundle.manifest.layout
        splits = predictor.bundle.splits()
        if not splits:
            log.warning("the model keeps no list of its photos (--anonymous), so those that it knows are not left out")
        self._known: Collection[str] = {row.sha256 for row in splits}
        self._seen = DigestIndex()
        self._candidates = Candidates.none()
        self.labelled = self.known = self.copies = 0
        self.skipped: list[str] = []

    def is_new(self, sha256: str) -> bool:
        """Return whether a photo is neither known nor equal to an earlier one, and count it."""
        if sha256 in self._known:
            self.known += 1
            return False
        if sha256 in self._seen:
            self.copies += 1
            return False
        self._seen.append(key_of(sha256))
        return True

    def add(self, rows: np.ndarray, features: np.ndarray, probabilities: np.ndarray) -> None:
        """Take in photos with larger numbers than those before."""
        self._candidates = self._candidates.joined(
            rows, features, probabilities, self._layout, by=self._by, most=most_kept(self._count)
        )

    def of_store(self, store: FeatureStore) -> None:
        """Take in the photos of a feature file, block by block."""
        check_spec(self._predictor, store)
        first = 0
        for features, labels in store.batches(max(1, _BLOCK_BYTES // (4 * store.dims))):
            rows = np.arange(first, first + len(labels))
            first += len(labels)
            plain = store.views[rows] == 0
            self.labelled += int((plain & (labels >= 0)).sum())
            new = [row for row in rows[plain & (labels < 0)].tolist() if self.is_new(store.sha256[row])]
            if new:
                wanted = np.asarray(new, np.int64)
                block = features if len(wanted) == len(rows) else features[wanted - rows[0]]
                self.add(wanted, block, self._predictor.probabilities(block))

    def rows(self) -> list[int]:
        """Choose, and return the numbers of the chosen photos."""
        if not len(self._seen):
            self._refuse()
        self._chosen = spread_out(self._candidates, self._count)
        return self._candidates.rows[self._chosen].tolist()

    def _refuse(self) -> None:
        """Say why there is nothing to choose from."""
        if self.known:
            readable = " that can be read" if self.skipped else ""
            raise DataError(f"The model knows every photo of '{self._source}'{readable} already; give it others to choose from.")
        if self.skipped:
            raise DataError(f"None of the photos without a label in '{self._source}' can be read; check that it holds pictures.")
        raise DataError(
            f"Every photo of '{self._source}' has a label, by its folder or its list; give photos without labels, "
            "in one folder. Labels that may be wrong are found with --wrong."
        )

    def written(self, place: Path, paths: Sequence[str], files: Sequence[ImageFile]) -> SuggestResult:
        """Write the list of the chosen photos, which lie in ``files``."""
        found, chosen, names = self._candidates, self._chosen, self._predictor.class_names
        images = tuple(
            SuggestedImage(paths[row], names[guess], probability, unsure)
            for row, guess, probability, unsure in zip(
                found.rows[chosen].tolist(),
                found.guesses[chosen].tolist(),
                found.probabilities[chosen].tolist(),
                found.unsure[chosen].tolist(),
                strict=True,
            )
        )
        if len(images) < self._count:
            log.warning("there is no more to choose from than %s, so the list has all of them", counted(len(images), "photo"))
        if gone := [image.path for image, file in zip(images, files, strict=True) if not is_there(file)]:
            are = "photo is" if len(gone) == 1 else "photos are"
            log.warning("%d %s not where extraction read from (%s); the list names the old place", len(gone), are, _few(gone))
        if self.skipped:
            log.warning("%s could not be read (%s)", counted(len(self.skipped), "file"), _few(self.skipped))
        rows = (("", no_formula(one.guess), f"{one.probability:.4f}", f"{one.uncertainty:.4f}") for one in images)
        write_list(place, HEADER, files, rows)
        return SuggestResult(
            str(place), images, len(self._seen), self.known, self.labelled, self.copies, tuple(sorted(self.skipped))
        )


def _few(paths: Sequence[str]) -> str:
    return few(quoted(sorted(paths)))
