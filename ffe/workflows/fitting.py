"""``tune`` and ``train``: a feature file in, a tested model and its file out."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffe._version import __version__
from ffe.backbones.build import build
from ffe.backbones.catalog import FAKE
from ffe.backbones.weights import Weights
from ffe.bundle import manifest as layout
from ffe.bundle.io import Bundle, SplitRow, write_bundle
from ffe.bundle.manifest import Manifest
from ffe.engines.choose import float_model_if_any, open_saved_engine
from ffe.errors import BundleError, DataError
from ffe.evaluation.scores import Evaluation, evaluate_probabilities
from ffe.extraction.plan import weights_of
from ffe.heads import HEADS, find_head
from ffe.heads.base import Head
from ffe.heads.space import complete
from ffe.heads.svm import check_rows
from ffe.images.synthetic import KINDS, draw
from ffe.ir import IrModel
from ffe.report.text import model_card
from ffe.specs import HeadSpec, SearchSpec
from ffe.splits.folds import assign_folds
from ffe.splits.sides import groups_of_classes
from ffe.store.reader import FeatureStore
from ffe.tuning.search import FLAT_FEATURES, Problem, Trial, fold_parts, poolings_searched, refit, search
from ffe.workflows.rows import SplitRows, split_rows

log = logging.getLogger("ffe")

_LIBRARIES = ("openvino", "nncf", "tensorflow", "keras", "keras-tuner", "scikit-learn", "numpy", "h5py", "pillow")


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
    spec = SearchSpec(tuple(dict.fromkeys(heads)), trials, executions, epochs, 5 if folds is None else folds, test_fraction, seed)
    with FeatureStore(features) as store:
        found = _check_output(store, output, weights, with_backbone)
        rows = split_rows(store, valid, test, test_fraction, seed)
        if "svm" in heads:
            check_rows(int((rows.split == "train").sum()))
        problem, validation = _make_problem(rows, store, folds, seed)
        unseen = rows.load(rows.split == "test")
        if len(poolings_searched(store.grid)) == 3:
            log.info("an image has %d features, so they are searched pooled; flat only up to %d", store.dims, FLAT_FEATURES)
        leaderboard = search(problem, spec, on_trial)
        head = refit(problem, leaderboard[0], seed)
        record = {**spec.to_json(), "folds": len(problem.parts)}
        return _finish(store, rows, unseen, head, leaderboard, record, output, found, validation, started)


def train(
    features: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    head: str,
    settings: Mapping[str, Any] | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
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
        test_fraction, seed, test, weights, with_backbone: see ``tune``.

    Raises:
        StoreError, DataError, HeadError, WeightsError: before the fit starts.
    """
    started = time.monotonic()
    kind = find_head(head)
    SearchSpec((head,), test_fraction=test_fraction, seed=seed)  # checks the numbers
    parameters = complete(kind.space, settings or {}, head)
    with FeatureStore(features) as store:
        found = _check_output(store, output, weights, with_backbone)
        rows = split_rows(store, None, test, test_fraction, seed)
        chosen, unseen = rows.split == "train", rows.load(rows.split == "test")
        fitted = kind(parameters, store.grid).fit(rows.load(chosen), rows.labels[chosen], len(rows.class_names), seed=seed)
        return _finish(store, rows, unseen, fitted, [], {"seed": seed}, output, found, "none: no search was made", started)


def _make_problem(rows: SplitRows, store: FeatureStore, folds: int | None, seed: int) -> tuple[Problem, str]:
    """Load the rows that a search may see, and say how they are scored."""
    chosen = np.isin(rows.split, ("train", "valid"))
    split, labels = rows.split[chosen], rows.labels[chosen]
    sha256 = [digest for digest, keep in zip(rows.sha256, chosen, strict=True) if keep]
    train, held = np.flatnonzero(split == "train"), np.flatnonzero(split == "valid")
    if len(held):
        parts = [(train, held)]
        validation = f"{len(held)} validation rows"
    else:
        groups = rows.groups.ids[chosen][train]
        smallest = min(groups_of_classes(labels[train], groups).values())
        count = folds if folds is not None else min(5, smallest)
        if count < 2:
            raise DataError(f"A class of '{store.path}' has a single training image; add images to it, or give --valid.")
        if count < 5 and folds is None:
            log.warning("the smallest class has %d different training images, so there are %d folds, not 5", smallest, count)
        digests = [sha256[i] for i in train]
        parts = fold_parts(train, assign_folds(labels[train], digests, groups, count, seed, store.class_names))
        validation = f"{count}-fold cross-validation on {len(train)} rows"
    features = rows.load(chosen)
    return Problem(features, labels, train, parts, len(store.class_names), store.grid), validation


def _check_output(
    store: FeatureStore, output: str | os.PathLike[str] | None, weights: str, with_backbone: bool
) -> Weights | IrModel | None:
    """Make sure, before anything slow, that the model file can be written; return what its backbone is made from."""
    if output is None:
        return None
    path = Path(output)
    if path.is_dir() or not path.parent.is_dir():
        problem = "is a folder" if path.is_dir() else f"lies in a folder that does not exist ('{path.parent}')"
        raise BundleError(f"The output '{path}' {problem}; name a file in an existing folder, such as model.ffe.")
    if not os.access(path.parent, os.W_OK):
        raise BundleError(f"The folder '{path.parent}' cannot be written to; choose another place for the output.")
    if path.exists():
        try:
            Bundle(path)
        except BundleError:
            raise BundleError(f"'{path}' exists and is no model file; choose another output.") from None
    quantized = store.quantized()
    if quantized is not None and not with_backbone:
        raise BundleError("An int8 backbone exists nowhere else, so it must be in the model file; leave --without-backbone out.")
    return (quantized or weights_of(store.spec, weights)) if with_backbone else None


def _finish(
    store: FeatureStore,
    rows: SplitRows,
    unseen: np.ndarray,
    head: Head,
    leaderboard: Sequence[Trial],
    search_json: dict[str, Any],
    output: str | os.PathLike[str] | None,
    found: Weights | IrModel | None,
    validation: str,
    started: float,
) -> TuneResult:
    """Test the fitted head once, and write the model file."""
    testing = rows.split == "test"
    evaluation = evaluate_probabilities(head.predict_proba(unseen), rows.labels[testing], rows.class_names)
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


def _write(path: Path, manifest: Manifest, head: Head, splits: list[SplitRow], found: Weights | IrModel | None) -> None:
    """Write the bundle, with the backbone and a few drawn pictures that it must always answer the same."""
    spec = manifest.spec
    golden: dict[str, np.ndarray] = {}
    ir = file = None
    with tempfile.TemporaryDirectory(prefix="ffe-bundle-") as folder:
        if isinstance(found, IrModel):
            ir = found
        elif found is not None and spec.backbone.name != FAKE:
            file = Path(folder) / layout.BACKBONE
            build(spec, found).save(file)
            ir = float_model_if_any(spec, found)
        if found is not None:
            engine = open_saved_engine(spec, ir=ir, keras_file=lambda: contextlib.nullcontext(file), batch_size=len(KINDS))
            images = np.stack([np.asarray(draw(kind, 0, spec.preprocess.size)) for kind in KINDS])
            features = engine.extract(images)
            golden = {"images": images, "features": features, "probabilities": head.predict_proba(features)}
        card = model_card(manifest)
        write_bundle(path, manifest, head=head, golden=golden, splits=splits, card=card, keras_file=file, ir=ir)
