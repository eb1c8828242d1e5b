"""The rows of a feature file -> the problem that a search solves: what trains, in which folds, how much each class counts."""

from __future__ import annotations

import dataclasses
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffe._version import __version__
from ffe.base.digests import bytes_digest, canonical_json
from ffe.base.text import counted, few, listed, quoted
from ffe.dataset.stored_rows import StoredSplit
from ffe.errors import DataError, HeadError
from ffe.evaluation.class_weights import class_weights as weights_of_classes
from ffe.heads import HEADS
from ffe.specs import SearchSpec, ViewsSpec
from ffe.splits.folds import assign_folds
from ffe.splits.holdout import LEFT_OUT, TRAIN, VALID, groups_of_classes
from ffe.store.reader import FeatureStore
from ffe.tuning.problem import AllRows, Problem, fold_parts
from ffe.tuning.search_sample import SEARCH_ROWS, searched_sides
from ffe.tuning.trial_store import TrialStore

log = logging.getLogger("ffe")

AUTO = "auto"


@dataclass(frozen=True)
class TrainedViews:
    """The views that a feature file has, and what they were used for."""

    made: ViewsSpec  # how many of each image, and how they differ
    used: str  # ``all``, ``epoch`` or ``none``; see ``ffe.specs.SearchSpec``

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**self.made.to_json(), "used": self.used}


def views_used(store: FeatureStore, spec: SearchSpec) -> TrainedViews | None:
    """Return what the views of a file are used for, None where it has none; refuse what cannot be done with them."""
    if store.made_views is None:
        if spec.views in {"all", "epoch"}:
            raise DataError(
                f"'{store.path}' has no views, so --views {spec.views} has nothing to take; leave it out, "
                f"or add some with 'ffe extract SOURCE -o {store.path} --views 4 --augment flip,zoom=0.8-1.2,rotate=15'."
            )
        return None
    by_epochs = [name for name, kind in HEADS.items() if any(parameter.name == "epochs" for parameter in kind.space)]
    if spec.views == "epoch" and not set(by_epochs) & set(spec.heads):
        raise HeadError(
            f"--views epoch draws a view for each epoch, and of the heads only {listed(by_epochs, 'and')} trains by epochs; "
            "search it too, or use --views all."
        )
    return TrainedViews(store.made_views, spec.views or "all")


def build_problem(rows: StoredSplit, spec: SearchSpec, folds: int | None, views: TrainedViews | None) -> tuple[Problem, str]:
    """Load the rows that train or validate, and say how trials are scored on them."""
    side = searched_sides(rows, folds, spec.seed)
    store, seen, classes = rows.main.main, np.isin(side, (TRAIN, VALID)), len(rows.class_names)
    labels, groups, sampled = rows.images.labels[seen], rows.groups.ids[seen], side is not rows.side
    train, held = (np.flatnonzero(side[seen] == each) for each in (TRAIN, VALID))
    if sampled and folds is None and not (rows.side == VALID).any():
        _fewest(store, rows.labels(TRAIN), rows.groups.ids[rows.side == TRAIN])
    if len(held):
        parts, validation = [(train, held)], counted(len(held), "validation row")
        if sampled:
            there = sum(rows.counts()[each] for each in (TRAIN, VALID))
            validation = f"{validation}, after fits on {counted(len(train), 'row')}, of {there:,}"
        if folds is not None:
            log.warning("there are validation rows, so there is no cross-validation, and --folds does nothing")
    else:
        count = _fold_count(store, labels[train], groups[train], folds)
        digests = [rows.images.sha256[row] for row in np.flatnonzero(side == TRAIN).tolist()]
        parts = fold_parts(train, assign_folds(labels[train], digests, groups[train], count, spec.seed, store.class_names))
        validation = f"{count}-fold cross-validation on {counted(len(train), 'row')}"
        validation += f" of {rows.counts()[TRAIN]:,}" if sampled else ""
    weights = weights_of_classes(spec.class_weights, rows.labels(TRAIN), classes)
    even = bool(np.allclose(weights, 1))
    if not even and spec.class_weights == AUTO:
        rarest = store.class_names[int(np.bincount(rows.labels(TRAIN), minlength=classes).argmin())]
        log.info("the class '%s' is rare, so classes are weighted to count the same (--class-weights none: as they are)", rarest)
    widened = views is not None and views.used != "none"
    table = rows.views[seen][train] if widened else np.empty((len(train), 0), np.int64)
    more = table >= 0
    features, class_weights = rows.load(seen, table[more]), None if even else weights
    every = _every(rows, rows.side == TRAIN, widened) if sampled else None
    plain = Problem(features, labels, train, parts, classes, rows.main.layout, class_weights, groups=groups)
    plain = dataclasses.replace(plain, images=np.flatnonzero(seen), every=every)
    if views is None or not widened:
        return plain, validation
    image = np.concatenate([np.arange(len(labels)), np.broadcast_to(train[:, None], table.shape)[more]])
    problem = dataclasses.replace(plain, labels=labels[image], image=image, drawn=views.used == "epoch")
    wide = [(problem.with_views(fit), score) for fit, score in parts]
    return dataclasses.replace(problem, train=problem.with_views(train), parts=wide), validation


def all_of_them(rows: StoredSplit, problem: Problem, views: TrainedViews | None) -> Problem:
    """Return the problem whose head is fitted on the rows of every side, and on their views where those of training rows are."""
    taken = rows.side != LEFT_OUT
    every = _every(rows, taken, views is not None and views.used != "none")
    whole, size = np.arange(len(every.labels)), int(taken.sum())
    streamed = size > SEARCH_ROWS
    return dataclasses.replace(
        problem,
        features=problem.features if streamed else every.source[whole],
        labels=every.labels,
        train=whole,
        parts=[],
        image=every.image if len(whole) > size else None,
        groups=None,
        images=None,
        every=every if streamed else None,
    )


def _every(rows: StoredSplit, taken: np.ndarray, with_views: bool) -> AllRows:
    """Return chosen images, bool (N,), and behind them their views."""
    plain = np.arange(int(taken.sum()))
    table = rows.views[taken] if with_views else np.empty((len(plain), 0), np.int64)
    image = np.concatenate([plain, np.broadcast_to(plain[:, None], table.shape)[table >= 0]])
    return AllRows(rows.stay(taken, table[table >= 0]), rows.images.labels[taken][image], image)


def _fold_count(store: FeatureStore, labels: np.ndarray, groups: np.ndarray, folds: int | None) -> int:
    """Return how many folds there are: as many as asked for, or 5, or fewer where a class is small."""
    if folds is not None:
        return folds
    if (smallest := _fewest(store, labels, groups)) < 5:
        log.warning("the smallest class has %d different training images, so there are %d folds, not 5", smallest, smallest)
    return min(5, smallest)


def _fewest(store: FeatureStore, labels: np.ndarray, groups: np.ndarray) -> int:
    """Return how many groups the smallest class has, at least two."""
    sizes = groups_of_classes(labels, groups)
    smallest = min(sizes.values())
    if smallest < 2:
        alone = quoted(store.class_names[label] for label, size in sizes.items() if size == smallest)
        have, them = ("has", "it") if len(alone) == 1 else ("each have", "them")
        raise DataError(f"In '{store.path}', {few(alone)} {have} a single training image; add images to {them}, or give --valid.")
    return smallest


def trial_store_of(
    output: str | os.PathLike[str] | None, rows: StoredSplit, problem: Problem, views: TrainedViews | None
) -> TrialStore:
    """Return where finished trials are kept: beside the output, under a digest of all that decides their scores."""
    if output is None:
        return TrialStore()
    about = {
        "version": __version__,
        "spec": rows.main.digest,
        "rows": [list(row) for row in zip(rows.images.sha256, rows.images.labels.tolist(), rows.side.tolist(), strict=True)],
        "parts": [score.tolist() for _, score in problem.parts],
        "weights": None if problem.class_weights is None else problem.class_weights.tolist(),
    }
    if views is not None and views.used != "none":
        about["views"] = views.to_json()
    path = Path(output)
    return TrialStore(path.with_name(path.name + ".search"), bytes_digest(canonical_json(about)))
