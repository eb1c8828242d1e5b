"""``suggest``: a model and photos without labels in; which of them to label next, as a list to fill in, out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffe.base.text import counted, did_you_mean, few, listed, no_formula, quoted
from ffe.commands.evaluate import answered, check_spec, holds_features
from ffe.dataset.label_next import WAYS, By, Candidates, most_kept, spread_out
from ffe.dataset.photo_list import check_list, write_list
from ffe.dataset.stored_rows import image_file
from ffe.errors import DataError, SpecError
from ffe.exporting.read_table import open_features
from ffe.extraction.stage_times import Progress
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Truncated
from ffe.images.sources import scan
from ffe.predictor import Predictor
from ffe.store.reader import FeatureStore

log = logging.getLogger("ffe")

COUNT = 50
_HEADER = ("path", "label", "guess", "probability", "uncertainty")
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
        overwrite: replace a list that is there; other files never are.
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
    source = Path(photos)
    place = check_list(output, _HEADER, source, overwrite=overwrite)
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
    choice = _Choice(predictor, source, count, by)
    if holds_features(source):
        with open_features(source) as store:
            choice.of_store(store)
            return choice.written(place, store.paths, [_named_file(store, row) for row in choice.rows()])
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


def _named_file(store: FeatureStore, row: int) -> Path:
    """Return where the photo of a row lies, or lay."""
    root = Path(store.source)
    return image_file(store, row) or (root.parent if root.is_file() else root) / store.paths[row]


class _Choice:
    """Sees all photos once, keeps few, and chooses among them."""

    def __init__(self, predictor: Predictor, source: Path, count: int, by: By) -> None:
        self._predictor, self._source, self._count, self._by = predictor, source, count, by
        self._layout = predictor.bundle.manifest.layout
        splits = predictor.bundle.splits()
        if not splits:
            log.warning("the model keeps no list of its photos (--anonymous), so those that it knows are not left out")
        self._known: Collection[str] = {row.sha256 for row in splits}
        self._seen: set[str] = set()
        self._candidates = Candidates.none()
        self.labelled = self.known = self.copies = 0
        self.skipped: list[str] = []

    def is_new(self, sha256: str) -> bool:
        """Return whether a photo is neither known nor equal to an earlier one, and count it."""
        if sha256 in self._known:
            self.known += 1
            return False
        self.copies += sha256 in self._seen
        new = sha256 not in self._seen
        self._seen.add(sha256)
        return new

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
        if not self._seen:
            self._refuse()
        self._chosen = spread_out(self._candidates, self._count)
        return self._candidates.rows[self._chosen].tolist()

    def _refuse(self) -> None:
        """Say why there is nothing to choose from."""
        if self.skipped:
            raise DataError(f"None of the photos without a label in '{self._source}' can be read; check that it holds pictures.")
        if self.known:
            raise DataError(f"The model knows every photo of '{self._source}' already; give it others to choose from.")
        raise DataError(
            f"Every photo of '{self._source}' has a label, by its folder or its list; give photos without labels, "
            "in one folder. Labels that may be wrong are found with --wrong."
        )

    def written(self, place: Path, paths: Sequence[str], files: Sequence[Path]) -> SuggestResult:
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
        if gone := [image.path for image, file in zip(images, files, strict=True) if not file.is_file()]:
            are = "photo is" if len(gone) == 1 else "photos are"
            log.warning("%d %s not where extraction read from (%s); the list names the old place", len(gone), are, _few(gone))
        if self.skipped:
            log.warning("%s could not be read (%s)", counted(len(self.skipped), "photo"), _few(self.skipped))
        rows = (("", no_formula(one.guess), f"{one.probability:.4f}", f"{one.uncertainty:.4f}") for one in images)
        write_list(place, _HEADER, files, rows)
        return SuggestResult(
            str(place), images, len(self._seen), self.known, self.labelled, self.copies, tuple(sorted(self.skipped))
        )


def _few(paths: Sequence[str]) -> str:
    return few(quoted(sorted(paths)))
