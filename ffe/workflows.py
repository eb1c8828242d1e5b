"""The calls behind ``ffe tune``, ``ffe train`` and ``ffe evaluate``: files in, a value and a file out."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ffe._version import __version__
from ffe.backbones.weights import Weights
from ffe.bundle import manifest as layout
from ffe.bundle.io import Bundle, SplitRow, write_bundle
from ffe.bundle.manifest import Manifest
from ffe.engines.choose import open_engine
from ffe.errors import BundleError, DataError, ModelMismatchError, SourceError
from ffe.evaluation import Evaluation, evaluate_probabilities
from ffe.extraction.pipeline import compute_features
from ffe.extraction.plan import weights_of
from ffe.heads import HEADS, find_head
from ffe.heads.base import Head
from ffe.heads.space import complete
from ffe.images.scan import scan
from ffe.images.synthetic import KINDS, draw
from ffe.keys import spec_differences
from ffe.predict import Predictor
from ffe.report import model_card
from ffe.specs import HeadSpec, SearchSpec
from ffe.splits import assign_folds, hold_out
from ffe.store.reader import FeatureStore
from ffe.tuning.search import FLAT_FEATURES, Problem, Trial, fold_parts, poolings_searched, refit, search

log = logging.getLogger("ffe")

_LEAST_IMAGES = 3
_LIBRARIES = ("tensorflow", "keras", "keras-tuner", "scikit-learn", "numpy", "h5py", "pillow")


@dataclass(frozen=True)
class TuneResult:
    """What a search, or a training, came to.

    Attributes:
        output: the model file; None if none was asked for.
        head: the fitted winner.
        leaderboard: all trials, the best first; empty after ``train``.
        evaluation: scores on the test rows, which nothing had seen before.
        rows: how many rows went to train, valid and test.
        validation: what the trials were scored on, for people.
        seconds: the whole call.
    """

    output: Path | None
    head: Head
    leaderboard: tuple[Trial, ...]
    evaluation: Evaluation
    rows: dict[str, int]
    validation: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe tune --json`` prints."""
        return {
            "output": None if self.output is None else str(self.output),
            "head": self.head.name,
            "parameters": self.head.parameters,
            "evaluation": {"test": self.evaluation.to_json()},
            "leaderboard": [trial.to_json() for trial in self.leaderboard],
            "rows": self.rows,
            "validation": self.validation,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class EvaluateResult:
    """Scores of a model on data.

    Attributes:
        evaluation: the scores.
        seen: rows among them that the model was fitted or chosen on.
        skipped: images that could not be read, and unlabelled ones.
    """

    evaluation: Evaluation
    seen: int
    skipped: int

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe evaluate --json`` prints."""
        return {**self.evaluation.to_json(), "seen_in_training": self.seen, "skipped": self.skipped}


def tune(
    features: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    heads: Sequence[str] = tuple(HEADS),
    trials: int = 8,
    executions: int = 1,
    epochs: int = 50,
    folds: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    valid: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
    weights: str = "imagenet",
    with_backbone: bool = True,
    on_trial: Callable[[Trial, int, int], None] = lambda trial, done, total: None,
) -> TuneResult:
    """Search over heads on stored features; refit the winner; test it once; write a model file.

    Splits are taken from the file, or from ``valid`` and ``test``; where there
    are none, a stratified share is held out for the test, and the trials are
    scored by stratified cross-validation on the rest. Identical images stand on
    one side. The winner is fitted again on all training rows.

    Args:
        features: a feature file.
        output: the model file; None = write none.
        heads: names of heads.
        trials: parameter sets tried for each head.
        executions: trainings of each set, for heads that depend on a seed.
        epochs: longest training of a dense head.
        folds: parts for cross-validation; None = 5, or fewer for small classes.
        test_fraction: share held out for the test, where no split is given.
        seed: start of every random choice.
        valid, test: feature files to score the trials and the winner on.
        weights: where the backbone's weights are: ``imagenet`` (looked for), or a path.
        with_backbone: put the backbone into the model file.
        on_trial: called after every trial.

    Raises:
        StoreError, DataError, HeadError, WeightsError: before the search starts.
    """
    started = time.monotonic()
    for name in heads:
        find_head(name)
    spec = SearchSpec(tuple(heads), trials, executions, epochs, folds or 5, test_fraction, seed)
    with FeatureStore(features) as store:
        found = _check_output(store, output, weights, with_backbone)
        rows = _split_rows(store, valid, test, test_fraction, seed)
        problem, validation = _make_problem(rows, store, folds, seed)
        if len(poolings_searched(store.grid)) == 3:
            log.info("the search pools the %d features; flat ones are tried up to %d", store.dims, FLAT_FEATURES)
        leaderboard = search(problem, spec, on_trial)
        head = refit(problem, leaderboard[0], seed)
        return _finish(store, rows, head, leaderboard, spec.to_json(), output, found, validation, started)


def train(
    features: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    head: str,
    settings: Mapping[str, Any] | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    valid: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
    weights: str = "imagenet",
    with_backbone: bool = True,
) -> TuneResult:
    """Fit one head with given parameters, without a search; test it; write a model file.

    Args:
        features: a feature file.
        output: the model file; None = write none.
        head: name of the head.
        settings: its parameters; defaults fill in the rest.
        test_fraction, seed, valid, test, weights, with_backbone: see ``tune``.

    Raises:
        StoreError, DataError, HeadError, WeightsError: before the fit starts.
    """
    started = time.monotonic()
    kind = find_head(head)
    parameters = complete(kind.space, settings or {}, head)
    with FeatureStore(features) as store:
        found = _check_output(store, output, weights, with_backbone)
        rows = _split_rows(store, valid, test, test_fraction, seed)
        chosen = rows.split == "train"
        fitted = kind(parameters, store.grid).fit(rows.load(chosen), rows.labels[chosen], len(rows.class_names), seed=seed)
        return _finish(store, rows, fitted, [], {"seed": seed}, output, found, "none: no search was made", started)


def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    unseen: bool = False,
    weights: str = "imagenet",
    batch_size: int = 32,
    workers: int | None = None,
) -> EvaluateResult:
    """Score a model on a feature file, or on a labelled source of images.

    Args:
        model: a model file.
        data: a feature file of the same spec, or a folder or CSV of labelled images.
        unseen: leave out images that the model was fitted or chosen on.
        weights: where the backbone's weights are, if the model file has none.
        batch_size, workers: for images; see ``ffe.extract``.

    Raises:
        BundleError, StoreError, SourceError: one of the files cannot be used.
        ModelMismatchError: the features, or the classes, are not those of the model.
        DataError: there is no labelled row to score.
    """
    predictor = Predictor(model, weights=weights, batch_size=batch_size, workers=workers)
    path = Path(data)
    if path.is_file() and h5py.is_hdf5(path):
        probabilities, labels, digests, skipped = _predict_stored(predictor, path)
    else:
        probabilities, labels, digests, skipped = _predict_images(predictor, path)
    known = {row.sha256 for row in predictor.bundle.splits() if row.split != "test"}
    seen = np.asarray([digest in known for digest in digests], bool)
    if unseen:
        probabilities, labels, seen = probabilities[~seen], labels[~seen], seen[~seen]
        if not len(labels):
            raise DataError(f"The model was fitted or chosen on every image of '{path}'; score it on others.")
    elif seen.any():
        log.warning(
            "%d of the %d images were used to fit or choose this model, so the scores are too good; --unseen leaves them out",
            seen.sum(),
            len(seen),
        )
    return EvaluateResult(evaluate_probabilities(probabilities, labels, predictor.class_names), int(seen.sum()), skipped)


@dataclass(frozen=True)
class _SplitRows:
    """The labelled rows of one to three feature files, with the split of each.

    Attributes:
        labels: int64 (N,), in the classes of the main file.
        split: str (N,), ``train``, ``valid`` or ``test``.
        sha256, names: N strings; a name is a path, behind ``FILE:`` for a second file.
        class_names: of the main file.
        origin: int64 (N, 2), (file, row in it).
        files: the feature files.
    """

    labels: np.ndarray
    split: np.ndarray
    sha256: tuple[str, ...]
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    origin: np.ndarray
    files: tuple[Path, ...]

    def load(self, chosen: np.ndarray) -> np.ndarray:
        """Read the features of some rows: bool (N,) -> float32 (n, D)."""
        parts = []
        for i, path in enumerate(self.files):
            rows = self.origin[chosen & (self.origin[:, 0] == i), 1]
            if len(rows):
                with FeatureStore(path) as store:
                    parts.append(store.features(rows))
        features = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if not np.isfinite(features).all():
            bad = int(np.flatnonzero(~np.isfinite(features).all(axis=1))[0])
            name = self.names[int(np.flatnonzero(chosen)[bad])]
            raise DataError(f"The features of '{name}' hold NaN or infinity; make them again with 'ffe extract --overwrite'.")
        return features

    def counts(self) -> dict[str, int]:
        """Return how many rows each split has."""
        return {name: int((self.split == name).sum()) for name in ("train", "valid", "test")}


def _split_rows(
    store: FeatureStore,
    valid: str | os.PathLike[str] | None,
    test: str | os.PathLike[str] | None,
    test_fraction: float,
    seed: int,
) -> _SplitRows:
    """Gather labelled rows and decide who trains, chooses and tests."""
    used = np.flatnonzero(store.labels >= 0)
    if len(used) < len(store):
        log.warning("%d rows of '%s' have no label and are left out", len(store) - len(used), store.path)
    labels = store.labels[used]
    given = np.asarray(store.split, object)[used]
    _check_classes(store, labels, [store.sha256[i] for i in used])
    split = np.where(given == "", "train", given).astype("U5")
    columns = [(labels, split, [store.sha256[i] for i in used], [store.paths[i] for i in used], used)]
    files = [store.path]
    for name, path in (("valid", valid), ("test", test)):
        if path is None:
            continue
        if (split == name).any():
            raise DataError(f"'{store.path}' brings its own {name} rows; leave --{name} out, or give a file without them.")
        with FeatureStore(path) as other:
            columns.append(_rows_of_other(store, other, name))
            files.append(other.path)
    all_labels = np.concatenate([column[0] for column in columns])
    all_split = np.concatenate([column[1] for column in columns])
    sha256 = tuple(digest for column in columns for digest in column[2])
    names = tuple(name for column in columns for name in column[3])
    origin = np.concatenate([np.stack([np.full(len(c[4]), i), c[4]], 1) for i, c in enumerate(columns)])
    if not (all_split == "test").any():
        training = np.flatnonzero(all_split == "train")
        held = hold_out(all_labels[training], [sha256[i] for i in training], test_fraction, seed)
        all_split[training[held]] = "test"
    rows = _SplitRows(all_labels, all_split, sha256, names, store.class_names, origin, tuple(files))
    _warn_of_leaks(rows)
    missing = [n for i, n in enumerate(store.class_names) if not ((all_labels == i) & (all_split == "train")).any()]
    if missing:
        raise DataError(f"The class '{missing[0]}' has no training rows in '{store.path}'; give it some, or drop the class.")
    return rows


def _check_classes(store: FeatureStore, labels: np.ndarray, sha256: Sequence[str]) -> None:
    if not len(labels):
        raise DataError(f"No row of '{store.path}' has a label; extract from one folder per class, or from a CSV with labels.")
    different = Counter(label for label, _ in set(zip(labels.tolist(), sha256, strict=True)))
    if len(different) < 2:
        only = store.class_names[int(labels[0])]
        raise DataError(
            f"All labelled rows of '{store.path}' are of one class ('{only}'); a head needs images of at least two classes."
        )
    for i, name in enumerate(store.class_names):
        if different[i] < _LEAST_IMAGES:
            count = f"{different[i]} image{'s' if different[i] != 1 else ''}"
            raise DataError(
                f"The class '{name}' has only {count} in '{store.path}'; "
                f"give every class at least {_LEAST_IMAGES} different images, or leave the class out."
            )


def _rows_of_other(store: FeatureStore, other: FeatureStore, split: str) -> tuple[Any, ...]:
    """Take the labelled rows of a second feature file, with the labels of the first."""
    if other.spec_digest != store.spec_digest:
        differences = "; ".join(spec_differences(other.spec, store.spec))
        raise ModelMismatchError(
            f"'{other.path}' and '{store.path}' hold different features ({differences}); extract both with the same options."
        )
    unknown = sorted(set(other.class_names) - set(store.class_names))
    if unknown:
        raise ModelMismatchError(
            f"'{other.path}' has the class '{unknown[0]}', which '{store.path}' has not; give both the same classes."
        )
    used = np.flatnonzero(other.labels >= 0)
    if not len(used):
        raise DataError(f"No row of '{other.path}' has a label; give a labelled file to --{split}.")
    index = np.asarray([store.class_names.index(name) for name in other.class_names], np.int64)
    return (
        index[other.labels[used]],
        np.full(len(used), split, "U5"),
        [other.sha256[i] for i in used],
        [f"{other.path.name}:{other.paths[i]}" for i in used],
        used,
    )


def _warn_of_leaks(rows: _SplitRows) -> None:
    sides: dict[str, set[str]] = {}
    classes: dict[str, set[int]] = {}
    for digest, split, label in zip(rows.sha256, rows.split.tolist(), rows.labels.tolist(), strict=True):
        sides.setdefault(digest, set()).add(split)
        classes.setdefault(digest, set()).add(label)
    shared = sum("test" in splits and len(splits) > 1 for splits in sides.values())
    if shared:
        log.warning("%d images stand in the test split and in another one, so the test score is too good", shared)
    twice = sum(len(labels) > 1 for labels in classes.values())
    if twice:
        log.warning("%d images stand in more than one class; look for wrong labels", twice)


def _make_problem(rows: _SplitRows, store: FeatureStore, folds: int | None, seed: int) -> tuple[Problem, str]:
    """Load the rows that a search may see, and say how they are scored."""
    chosen = rows.split != "test"
    split, labels = rows.split[chosen], rows.labels[chosen]
    sha256 = [digest for digest, keep in zip(rows.sha256, chosen, strict=True) if keep]
    train, held = np.flatnonzero(split == "train"), np.flatnonzero(split == "valid")
    if len(held):
        parts = [(train, held)]
        validation = f"{len(held)} validation rows"
    else:
        smallest = min(Counter(label for label, _ in set(zip(labels.tolist(), sha256, strict=True))).values())
        count = folds if folds is not None else min(5, smallest)
        if count < 2:
            raise DataError(f"A class of '{store.path}' has a single training image; add images to it, or give --valid.")
        if count < 5 and folds is None:
            log.warning("the smallest class has %d different training images, so there are %d folds, not 5", smallest, count)
        parts = fold_parts(train, assign_folds(labels[train], [sha256[i] for i in train], count, seed))
        validation = f"{count}-fold cross-validation on {len(train)} rows"
    features = rows.load(chosen)
    return Problem(features, labels, train, parts, len(store.class_names), store.grid), validation


def _check_output(
    store: FeatureStore, output: str | os.PathLike[str] | None, weights: str, with_backbone: bool
) -> Weights | None:
    """Make sure, before anything slow, that the model file can be written; return the backbone's weights."""
    if output is None:
        return None
    path = Path(output)
    if path.is_dir() or not path.parent.is_dir():
        raise BundleError(f"The output '{path}' cannot be written; name a file in an existing folder, such as model.ffe.")
    if path.exists():
        try:
            Bundle(path)
        except BundleError:
            raise BundleError(f"'{path}' exists and is no model file; choose another output.") from None
    return weights_of(store.spec, weights) if with_backbone else None


def _finish(
    store: FeatureStore,
    rows: _SplitRows,
    head: Head,
    leaderboard: Sequence[Trial],
    search_json: dict[str, Any],
    output: str | os.PathLike[str] | None,
    found: Weights | None,
    validation: str,
    started: float,
) -> TuneResult:
    """Test the fitted head once, and write the model file."""
    testing = rows.split == "test"
    probabilities = head.predict_proba(rows.load(testing))
    evaluation = evaluate_probabilities(probabilities, rows.labels[testing], rows.class_names)
    path = None if output is None else Path(output)
    if path is not None:
        manifest = Manifest(
            schema=layout.SCHEMA,
            ffe_version=__version__,
            libraries=_library_versions(),
            spec=store.spec,
            spec_digest=store.spec_digest,
            grid=store.grid,
            head=HeadSpec(head.name, head.parameters),
            class_names=rows.class_names,
            evaluation={"test": evaluation.to_json()},
            leaderboard=tuple(trial.to_json() for trial in leaderboard),
            search={**search_json, "validation": validation, "rows": rows.counts()},
            members={},
        )
        splits = [SplitRow(*row) for row in zip(rows.names, rows.sha256, rows.split.tolist(), strict=True)]
        _write(path, manifest, head, splits, found)
    return TuneResult(
        output=path,
        head=head,
        leaderboard=tuple(leaderboard),
        evaluation=evaluation,
        rows=rows.counts(),
        validation=validation,
        seconds=time.monotonic() - started,
    )


def _library_versions() -> dict[str, str]:
    installed = {
        distribution.metadata["Name"].lower(): distribution.version for distribution in importlib.metadata.distributions()
    }
    return {name: installed[name] for name in _LIBRARIES if name in installed}


def _write(path: Path, manifest: Manifest, head: Head, splits: list[SplitRow], found: Weights | None) -> None:
    """Write the bundle, with the backbone and a few drawn pictures that it must always answer the same."""
    golden: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory(prefix="ffe-bundle-") as folder:
        backbone = None
        if found is not None:
            engine = open_engine(manifest.spec, found, batch_size=len(KINDS))
            size = manifest.spec.preprocess.size
            images = np.stack([np.asarray(draw(kind, 0, size)) for kind in KINDS])
            features = engine.extract(images)
            golden = {"images": images, "features": features, "probabilities": head.predict_proba(features)}
            model = getattr(engine, "backbone", None)
            if model is not None:
                backbone = Path(folder) / layout.BACKBONE
                model.save(backbone)
        write_bundle(path, manifest, head=head, golden=golden, splits=splits, card=model_card(manifest), backbone=backbone)


def _predict_stored(predictor: Predictor, path: Path) -> tuple[np.ndarray, np.ndarray, list[str], int]:
    manifest = predictor.bundle.manifest
    with FeatureStore(path) as store:
        if store.spec_digest != manifest.spec_digest:
            differences = "; ".join(spec_differences(store.spec, manifest.spec))
            raise ModelMismatchError(
                f"The model '{predictor.bundle.path}' was made for other features than '{path}' holds ({differences}); "
                "extract with the options of the model, or tune a new one."
            )
        index = _model_labels(predictor, store.class_names, path)
        used = np.flatnonzero(store.labels >= 0)
        probabilities = [np.empty((0, len(manifest.class_names)))]
        step = 256
        for start in range(0, len(used), step):
            probabilities.append(predictor.head.predict_proba(store.features(used[start : start + step])))
        digests = [store.sha256[i] for i in used]
        return np.concatenate(probabilities), index[store.labels[used]], digests, len(store) - len(used)


def _predict_images(predictor: Predictor, path: Path) -> tuple[np.ndarray, np.ndarray, list[str], int]:
    found = scan(path)
    records = [record for record in found.records if record.label >= 0]
    if not records:
        raise SourceError(f"The images of '{path}' have no labels; give one folder per class, or a CSV with labels.")
    index = _model_labels(predictor, found.class_names, path)
    probabilities, labels, digests = [], [], []
    spec = predictor.bundle.manifest.spec
    for batch in compute_features(
        (record.file for record in records),
        spec.preprocess.size,
        predictor.engine,
        batch_size=predictor.batch_size,
        workers=predictor.workers,
    ):
        good = [item for item in batch if item.features is not None]
        if good:
            probabilities.append(predictor.head.predict_proba(np.stack([item.features for item in good])))  # type: ignore[misc]
            labels += [int(index[records[item.index].label]) for item in good]
            digests += [item.sha256 for item in good]
    skipped = len(found.records) + len(found.left_out) - len(labels)
    if not probabilities:
        raise SourceError(f"None of the images in '{path}' could be decoded; check that it holds pictures.")
    return np.concatenate(probabilities), np.asarray(labels, np.int64), digests, skipped


def _model_labels(predictor: Predictor, class_names: Sequence[str], path: Path) -> np.ndarray:
    """Return, for each class of the data, the label that the model gives it."""
    known = predictor.class_names
    unknown = sorted(set(class_names) - set(known))
    if unknown:
        raise ModelMismatchError(
            f"'{path}' has the class '{unknown[0]}', which the model '{predictor.bundle.path}' does not know "
            f"(it knows {', '.join(known)}); score it on those classes."
        )
    return np.asarray([known.index(name) for name in class_names], np.int64)
