"""``verify``: is a feature file, or a model, what it says; and if not, mend what can be mended."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ffe.base.file_access import HDF5_SIGNATURE, first_bytes, is_model
from ffe.base.text import few
from ffe.base.urls import is_url
from ffe.bundle.io import Bundle
from ffe.engines.base import Engine
from ffe.errors import BundleError, FfeError, SourceError, SpecError, StaleStoreError, StoreError, StoreInUseError, one_line
from ffe.extraction.pipeline import Pipeline
from ffe.extraction.stored_engine import open_stored_engine
from ffe.heads.base import Head
from ffe.images.image_handle import ImageFile, content_digest
from ffe.images.limits import Limits
from ffe.images.loader import ImageStream
from ffe.images.sources import images_at
from ffe.predictor import Predictor
from ffe.specs import ExtractSpec
from ffe.store.check import Problem, check_store, read_unchecked
from ffe.store.compression import crc32
from ffe.store.journal import Journal
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import write_like

# how far features of one picture may lie apart, as a share of the largest: other processors add up in another order,
# and what is rounded in between then falls on the other side at times
_TOLERANCE = {"float32": 1e-4, "int8": 0.05, "mixed_float16": 0.02, "mixed_bfloat16": 0.1}
_NO_LIMITS = Limits(sys.maxsize, sys.maxsize, "keep")  # pictures with the content that was extracted once
_FLOAT16_STEP = 2.0**-10
_CHANGED_SINCE = "its picture changed since"
_SUFFIXES = {".h5", ".hdf5"}  # of what is a damaged feature file at worst


@dataclass(frozen=True)
class VerifyResult:
    """What was found."""

    file: Path  # that was checked
    kind: Literal["features", "model"]
    schema: int | None = None  # of the file; None where it could not be opened
    rows: int | None = None  # of a feature file that could be opened
    checksums: bool = True  # whether the file can tell every damage; earlier versions of ffe wrote none
    problems: tuple[Problem, ...] = ()  # what is not right with the file
    notes: tuple[str, ...] = ()  # what could not be checked, and why
    recomputed: int = 0  # rows, or golden pictures, that were put through the backbone again
    repaired: int = 0  # rows that were damaged, and are not any more

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong (any more)."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe verify --json`` prints."""
        return {"ok": self.ok, **asdict(self), "file": str(self.file)}


def verify(
    file: str | os.PathLike[str],
    *,
    recompute: int = 0,
    source: str | os.PathLike[str] | None = None,
    weights: str = "imagenet",
    engine: str = "auto",
    repair: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> VerifyResult:
    """Check every promise of a feature file or a model file.

    Args:
        file: a feature file or a ``.ffe`` file.
        recompute: of a feature file: put so many rows, drawn by ``seed``, through the backbone again.
            They agree within a tolerance of their precision, as other processors, and engines
            that are not ``exact``, give other last bits.
        source: folder (or CSV) of the pictures; None = where the file says that they came from.
        weights, engine: for the backbone; see ``ffe.extract``.
        repair: make damaged rows of a feature file again, from pictures that still have the same content.
        seed: of the draw.
        progress: called with the number of rows checked, and of all rows.

    Returns:
        What was found; damage is a finding, not an exception.

    Raises:
        StoreError, BundleError: there is no such file, it is of another kind, or it cannot be repaired.
        SourceError: there is no such source.
        WeightsError, EngineError: rows are to be computed again, nothing else is wrong, and the backbone cannot be had.
        SpecError: an option is not for this kind of file.
    """
    path = Path(file)
    if is_model(path):
        if recompute or repair or source is not None:
            raise SpecError("A model file has no rows to compute again; leave --recompute, --repair and --source out.")
        return _verify_model(path, engine)
    if recompute < 0:
        raise SpecError(f"recompute is {recompute}, but must be at least 0.")
    try:
        with FeatureStore(path) as store:
            spec = store.spec
    except StoreError as error:
        if isinstance(error, StoreInUseError) or not path.is_file():
            raise
        if path.suffix.lower() not in _SUFFIXES and first_bytes(path) != HDF5_SIGNATURE:
            raise StoreError(f"'{path}' is no feature file and no model; give a file that ffe wrote.") from error
        return VerifyResult(path, "features", problems=(Problem(str(error)),))
    with contextlib.closing(_lock(path, spec)) if repair else contextlib.nullcontext(), FeatureStore(path) as store:
        recomputer = _Recomputer(store, source, weights, engine)
        problems = check_store(store, lambda done: progress(done, len(store)))
        found = VerifyResult(path, "features", store.schema, len(store), store.crc32 is not None, tuple(problems))
        if not found.checksums:
            note = (
                f"the file has schema {store.schema}, and with it no checksums: a damaged feature shows only where it is no "
                f"number; extract again, or 'ffe pack {path} -o NEW.h5', to add them"
            )
            found = replace(found, notes=(note,))
        if repair:
            found = _repair(store, found, recomputer)
    if recompute:
        with FeatureStore(path) as store:
            found = _recompute(store, found, _Recomputer(store, source, weights, engine), recompute, seed)
    return found


def _lock(path: Path, spec: ExtractSpec) -> Journal:
    """Keep other processes from writing a file that is to be repaired."""
    try:
        return Journal(path, spec)
    except StaleStoreError as error:
        raise StaleStoreError(
            f"Beside '{path}' stands an unfinished run with other options; "
            f"finish it, or delete '{path}.partial', and repair then."
        ) from error


class _Recomputer:
    """Computes rows of a feature file anew, as they were made; ``error`` says why its backbone could not be used, if so."""

    def __init__(self, store: FeatureStore, source: str | os.PathLike[str] | None, weights: str, engine: str) -> None:
        roots = [os.fspath(name) for name in (store.sources if source is None else (source,))]
        if source is not None and not is_url(roots[0]) and not Path(roots[0]).exists():
            raise SourceError(f"There is no file or folder '{roots[0]}'; check the path.")
        self._images_of = [*map(images_at, roots)]
        self._store, self._weights, self._engine = store, weights, engine
        self.error: FfeError | None = None

    def compute(self, rows: list[int]) -> Iterator[tuple[int, np.ndarray | str]]:
        """Yield (row, float32 (D,)), or in words why there are no features."""
        found = {row: self._image_of(row) for row in rows}
        yield from ((row, why) for row, why in found.items() if isinstance(why, str))
        files = {row: file for row, file in found.items() if not isinstance(file, str)}
        try:
            for row, features in self._computed(dict(files)):
                del files[row]
                yield row, features
        except FfeError as error:  # what was found so far must not be lost with it
            self.error = error
            yield from ((row, f"its backbone cannot be used: {str(error).rstrip('.')}") for row in files)

    def _image_of(self, row: int) -> ImageFile | str:
        """Return the image of a row, or in words why there is none with the same content."""
        changed, why = False, "its picture is gone (--source names its place)"
        for image_of in self._images_of:
            file = image_of(self._store.paths[row])
            try:
                digest = content_digest(file)
            except (OSError, ValueError) as error:
                if getattr(error.__cause__, "reason", "missing") != "missing":
                    why = f"its picture cannot be read: {error}"
                continue
            if digest == self._store.sha256[row]:
                return file
            changed |= bool(digest)
        return _CHANGED_SINCE if changed else why

    def _open(self) -> Engine:
        return open_stored_engine(self._store, self._weights, self._engine)

    def _computed(self, files: Mapping[int, ImageFile]) -> Iterator[tuple[int, np.ndarray | str]]:
        rows, spec, made = list(files), self._store.spec, self._store.made_views
        images = ImageStream(
            iter(files.values()),
            spec.preprocess,
            limits=_NO_LIMITS,
            views=lambda index: (int(self._store.views[rows[index]]),),
            augment=None if made is None else made.augment,
        )
        with images:
            for batch in Pipeline(images, self._open, dtype=spec.dtype):
                for item in batch:
                    row = rows[item.index]
                    if item.features is None:
                        yield row, f"its picture cannot be read: {item.error}"
                    elif item.sha256 != self._store.sha256[row]:
                        yield row, _CHANGED_SINCE
                    else:
                        yield row, item.features


def _recompute(store: FeatureStore, found: VerifyResult, recomputer: _Recomputer, count: int, seed: int) -> VerifyResult:
    """Put some undamaged rows through the backbone again, and compare."""
    damaged = {problem.row for problem in found.problems}
    intact = np.asarray([row for row in range(len(store)) if row not in damaged], np.int64)
    rows = sorted(np.random.default_rng(seed).choice(intact, min(count, len(intact)), replace=False).tolist())
    tolerance = _TOLERANCE[store.spec.precision] + (_FLOAT16_STEP if store.spec.dtype == "float16" else 0.0)
    problems, missing, compared = list(found.problems), defaultdict[str, list[int]](list), 0
    for row, features in recomputer.compute(rows):
        if isinstance(features, str):
            missing[features].append(row)
            continue
        compared += 1
        if apart := _difference(features, store.features(np.asarray([row]))[0], tolerance):
            problems.append(Problem(f"its picture gives other features here, {apart}", row, store.paths[row]))
    if recomputer.error is not None and not problems:
        raise recomputer.error
    notes = []
    for missed, why in sorted((sorted(rows), why) for why, rows in missing.items()):
        names = few([f"row {row}, '{store.paths[row]}'" for row in missed])
        notes.append(f"{names} {'was' if len(missed) == 1 else 'were'} not computed again: {why}")
    return replace(found, problems=tuple(problems), notes=(*found.notes, *notes), recomputed=compared)


def _difference(computed: np.ndarray, stored: np.ndarray, tolerance: float) -> str:
    """Say how far features lie apart, as a share of the largest stored one; empty = within the tolerance."""
    apart = float(np.abs(computed - stored).max()) / max(float(np.abs(stored).max()), 1e-12)
    return "" if apart <= tolerance else f"{apart:.2g} of the largest apart, where {tolerance:.2g} may be"


def _repair(store: FeatureStore, found: VerifyResult, recomputer: _Recomputer) -> VerifyResult:
    """Make damaged rows again, and put the file in place in one step; rows that cannot be made again keep their checksum."""
    damaged = {problem.row: problem for problem in found.problems if problem.row is not None}
    if not damaged:
        return found
    if store.parts:
        names = "', '".join(str(part.path) for part in store.parts)
        raise StoreError(f"'{store.path}' is virtual, its features lie in other files; repair those: '{names}'.")
    made, lost = dict[int, np.ndarray](), dict[int, str]()
    for row, features in recomputer.compute(sorted(damaged)):
        if isinstance(features, str):
            lost[row] = features
            continue
        stored = features.astype(store.spec.dtype)
        if store.crc32 is not None and crc32(stored) != int(store.crc32[row]):
            lost[row] = "its picture gives other features here, on another engine or machine than then; extract it again"
        else:
            made[row] = stored
    rows = store.rows()
    index = {(row.path, row.view): i for i, row in enumerate(rows)}
    checksums = {i: 0 if store.crc32 is None else int(store.crc32[i]) for i in lost}

    def features_of(row: Row) -> np.ndarray:
        i = index[row.path, row.view]
        if i in lost:
            block = np.empty((1, store.dims), store.spec.dtype)
            read_unchecked(store, i, block)
            return block[0]
        return made[i] if i in made else store.raw_row(i)

    def recorded(row: Row) -> int | None:
        return checksums.get(index[row.path, row.view])

    if made:
        write_like(store, store.path, rows=rows, features=features_of, recorded=recorded, compress=store.compression)
    others = [problem for problem in found.problems if problem.row is None]
    left = [replace(damaged[row], message=f"{damaged[row].message}, and {why}") for row, why in sorted(lost.items())]
    return replace(found, problems=(*others, *left), repaired=len(made))


def _verify_model(path: Path, engine: str) -> VerifyResult:
    """Check the digests of a model file, and ask it about its golden pictures."""
    try:
        bundle = Bundle(path)
        head, golden = bundle.head(), bundle.golden()
        bundle.splits()
        bundle.card()
        for number in range(len(bundle.manifest.backbones)):
            bundle.ir(number)
    except BundleError as error:
        if not path.is_file():
            raise
        return VerifyResult(path, "model", problems=(Problem(str(error)),))
    found = VerifyResult(path, "model", bundle.manifest.schema)
    if not golden and not bundle.has_backbone:
        return replace(found, notes=("its backbone is not inside the file, so there are no golden pictures to ask it about",))
    problem = "its test pictures are gone, so nothing shows whether it still answers as it did"
    if golden:
        try:
            return _check_golden(found, bundle, head, golden, engine)
        except (LookupError, ValueError, TypeError) as error:
            problem = f"its golden pictures cannot be used ({one_line(error)})"
    return replace(found, problems=(Problem(problem),))


def _check_golden(found: VerifyResult, bundle: Bundle, head: Head, golden: Mapping[str, np.ndarray], engine: str) -> VerifyResult:
    """Compare what a model says of its golden pictures with what it said when it was made."""
    problems = []
    backbones = bundle.manifest.backbones
    numbers = [str(number + 1) if number else "" for number in range(len(backbones))]
    images = [golden[f"images{number}"] for number in numbers]
    stored, probabilities = [golden[f"features{number}"] for number in numbers], golden["probabilities"]
    several = len(images) > 1
    batch = np.concatenate([pictures.reshape(len(pictures), -1) for pictures in images], axis=1) if several else images[0]
    computed = Predictor(found.file, engine=engine, batch_size=max(1, len(batch))).engine().extract(batch)
    ends = np.cumsum([features.dims for _, features in backbones])[:-1]
    for (spec, _), rows, was in zip(backbones, np.split(computed, ends, axis=1), stored, strict=True):
        if apart := _difference(rows, was, _TOLERANCE[spec.precision] + (_FLOAT16_STEP if spec.dtype == "float16" else 0.0)):
            name = f" {spec.backbone.name}" if several else ""
            problems.append(Problem(f"its backbone{name} gives other features for the golden pictures, {apart}"))
    difference = float(np.abs(head.predict_proba(np.concatenate(stored, axis=1)) - probabilities).max())
    if not difference <= _TOLERANCE["float32"]:
        problems.append(Problem(f"its head gives other probabilities for the golden pictures, {difference:.2g} apart"))
    return replace(found, problems=tuple(problems), recomputed=len(batch))
