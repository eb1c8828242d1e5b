"""Images that choose or test and are known from the training: where a source brings its splits, it may bring leaks too."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np

from ffe.base.text import few, quoted
from ffe.dataset.class_checks import two_classes_text
from ffe.dataset.table import ImageTable
from ffe.splits.groups import Groups
from ffe.splits.holdout import TEST, TRAIN, VALID

log = logging.getLogger("ffe")

# of one image of the test split, of more, and of both
_LEAKS = {
    "copies": ("stands", "stand", "in the test split and in another one, so the test score is too good"),
    "re-encoded": (
        "of the test split is an image",
        "of the test split are images",
        "of another one, saved again or resized, so the test score is too good",
    ),
    "near": (
        "of the test split looks nearly like an image",
        "of the test split look nearly like images",
        "of another one, so the test score may be too good",
    ),
    "named": (
        "of the test split belongs to a group",
        "of the test split belong to groups",
        "that another one has too, so the test score is too good",
    ),
}


def leaking(split: np.ndarray, groups: Groups, cause: str = "named") -> np.ndarray:
    """Return which test images belong to one that trains or chooses: bool (N,); ``cause`` is the last of ``CAUSES`` to count."""
    ids = groups.levels[cause]
    seen = np.isin(split, ("train", "valid"))
    return (split == TEST) & (np.bincount(ids, seen) > 0)[ids]


def flattering(split: np.ndarray, groups: Groups) -> np.ndarray:
    """Return which validation images belong to one that trains: bool (N,); see ``leaking``."""
    ids = groups.ids
    return (split == VALID) & (np.bincount(ids, split == TRAIN) > 0)[ids]


def warn_of_leaks(split: np.ndarray, groups: Groups, images: ImageTable, class_names: Sequence[str]) -> None:
    """Say in the log which test images leak, and why; which validation images do; and which stand in several classes."""
    sha256, names = images.sha256, images.paths

    def warn(rows: np.ndarray, one: str, many: str, rest: str) -> None:
        what = f"1 image {one}" if len(rows) == 1 else f"{len(rows)} images {many}"
        log.warning("%s %s (%s)", what, rest, few(quoted(sorted(names[row] for row in rows.tolist()))))

    def once(rows: Iterable[int]) -> np.ndarray:
        """Return one row of each image: that of the least name."""
        return np.asarray(list({sha256[row]: row for row in sorted(rows, key=lambda row: names[row], reverse=True)}.values()))

    said = np.zeros(len(split), bool)
    for cause, sentence in _LEAKS.items():
        more = leaking(split, groups, cause) & ~said
        if more.any():
            rows = np.flatnonzero(more)
            warn(once(rows.tolist()) if cause == "copies" else rows, *sentence)
        said |= more
    known = np.flatnonzero(flattering(split, groups))
    if len(known):
        so = "together with images that train, so its scores are too good"
        warn(known, "of the validation split belongs", "of the validation split belong", so)
    warn_of_two_classes(groups.levels["copies"], images, class_names)


def in_two_classes(photos: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return which rows are of photos in more than one class: bool (N,); rows of one photo have one number (N,), from 0 on."""
    label = np.zeros(photos.max(initial=-1) + 1, labels.dtype)
    label[photos] = labels  # one of those that each photo has
    return (np.bincount(photos, label[photos] != labels) > 0)[photos]


def warn_of_two_classes(photos: np.ndarray, images: ImageTable, class_names: Sequence[str]) -> None:
    """Say in the log which photos stand in more than one class, and of each the least path in every class."""
    found: dict[int, dict[int, str]] = {}
    for row in sorted(np.flatnonzero(in_two_classes(photos, images.labels)).tolist(), key=images.paths.__getitem__):
        found.setdefault(int(photos[row]), {}).setdefault(int(images.labels[row]), images.paths[row])
    if found:
        places = ([(path, class_names[label]) for label, path in paths.items()] for paths in found.values())
        log.warning("%s", two_classes_text(list(places)))
