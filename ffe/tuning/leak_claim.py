"""What would have been claimed if images that belong together stood on both sides of a split."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ffe.dataset.leaks import flattering, leaking
from ffe.dataset.stored_rows import StoredSplit
from ffe.specs import SearchSpec
from ffe.tuning.problem import Problem, fold_parts
from ffe.tuning.search import mean_accuracy, score_once
from ffe.tuning.trial import Trial


@dataclass(frozen=True)
class Leak:
    """What would have been claimed without keeping images together that belong together."""

    groups: int  # of more than one image, among the labelled rows
    images: int  # in such groups
    links: dict[str, int]  # how many, by cause; see ``ffe.splits.groups``
    honest: float  # accuracy of the best single head in cross-validation, in [0, 1]
    claimed: float | None  # the same where folds ignore the groups; None where there was no cross-validation
    test_leaking: int  # test rows that a given split has a near copy of elsewhere
    test_clean: float | None  # accuracy on the other test rows; None where all or none leak
    valid_leaking: int = 0  # validation rows that a given split has a near copy of in the training
    # images beyond the first of each group, by cause: as ``ffe scan`` counts copies
    extra: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(vars(self))


def _folds_of_single_images(problem: Problem, groups: np.ndarray) -> np.ndarray:
    """Return folds int64 (n,) of the training rows in which the images of a group are assigned one by one; all others stay."""
    folds = np.empty(len(problem.features), np.int64)
    for fold, (_, score) in enumerate(problem.parts):
        folds[score] = fold
    train = problem.plain(problem.train)
    by_group = train[np.argsort(groups[train], kind="stable")]
    starts = np.flatnonzero(np.diff(groups[by_group], prepend=-1))
    place = np.arange(len(by_group)) - np.repeat(starts, np.diff(starts, append=len(by_group)))
    folds[by_group] = (folds[by_group] + place) % len(problem.parts)
    return folds[train]


def leak_of(
    rows: StoredSplit,
    problem: Problem,
    spec: SearchSpec,
    single: Trial,
    probabilities: np.ndarray,
    *,
    claim: bool = True,
) -> Leak | None:
    """Count what leaks, and say what the winner would have claimed: a claim takes its fits once more."""
    if not rows.groups.count:
        return None
    claimed = None
    if claim and len(problem.parts) > 1 and problem.groups is not None:
        folds = _folds_of_single_images(problem, problem.groups)
        parts = fold_parts(problem.plain(problem.train), folds)
        naive = dataclasses.replace(problem, parts=[(problem.with_views(fit), score) for fit, score in parts])
        if all(len(score) and len(np.unique(naive.labels[fit])) == naive.classes for fit, score in naive.parts):
            claimed = score_once(naive, spec, single.head, single.parameters)
    testing = rows.side == "test"
    leaks, right = leaking(rows.side, rows.groups)[testing], probabilities.argmax(axis=1) == rows.images.labels[testing]
    return Leak(
        groups=rows.groups.count,
        images=rows.groups.images,
        links=dict(rows.groups.links),
        honest=mean_accuracy(problem, single.probabilities),
        claimed=None if claimed is None else mean_accuracy(naive, claimed.probabilities),
        test_leaking=int(leaks.sum()),
        test_clean=float(right[~leaks].mean()) if leaks.any() and not leaks.all() else None,
        valid_leaking=int(flattering(rows.side, rows.groups).sum()),
        extra=rows.groups.extra,
    )
