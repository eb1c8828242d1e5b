"""What the page of a search, a training or an evaluation shows, as plain values, and how they are made of columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ffe.base.text import counted, listed, of_a_hundred, percent, span
from ffe.dataset.leaks import in_two_classes
from ffe.dataset.table import ImageTable
from ffe.evaluation.label_errors import find_label_errors
from ffe.evaluation.learning_curve import LearningCurve
from ffe.evaluation.reject import SelectiveScores, selective_scores
from ffe.evaluation.temperature import Calibration
from ffe.images.image_handle import ImageFile
from ffe.report.projection import Projection
from ffe.report.thumbnails import Heat
from ffe.splits.groups import Groups
from ffe.wording.results import CAUSES

_LONGEST_TITLE = 60
_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class Curves:
    """How a dense head, or a whole network, learned."""

    # train_loss, valid_loss: one number for each epoch, >= 0; empty if unknown, as NaN is
    train_loss: Sequence[float] = ()
    valid_loss: Sequence[float] = ()
    # train_accuracy, valid_accuracy: one share for each epoch, in [0, 1]; empty if unknown, as NaN is
    train_accuracy: Sequence[float] = ()
    valid_accuracy: Sequence[float] = ()
    over_time: Sequence[tuple[float, float]] = ()  # (seconds since the beginning, validation accuracy); empty if unknown
    note: str = ""  # what was trained when, in words; empty = the first dense head of a search
    first: int = 1  # the number of the first epoch; 0 = the state before any
    kept: int | None = None  # place among these of the epoch whose weights were kept, from 0 on; None = unknown


@dataclass(frozen=True)
class Picture:
    """A photo, its label, and what was said of it; both are indices into the class names."""

    path: str  # the name to show
    file: ImageFile | None  # where the picture lies; None = it is not at hand
    true: int
    predicted: int
    probability: float  # of the predicted class, in [0, 1]
    heat: Heat | None = None  # where the predicted class was seen


@dataclass(frozen=True)
class Duplicates:
    """Photos that are the same, or nearly: why, in words, and of each the name to show and where it lies."""

    cause: str
    members: Sequence[tuple[str, ImageFile | None]]


@dataclass(frozen=True)
class Page:
    """All that such a page shows. What is None or empty is left out, and the page says so."""

    title: str  # the head line
    # backbone, input size, rows, features, head, version: what stands beside the head line
    facts: Mapping[str, str] = field(default_factory=dict)
    class_names: Sequence[str] = ()  # the label i means class_names[i]
    evaluation: Mapping[str, Any] | None = None  # the test, from ``Evaluation.to_json``
    leaderboard: Sequence[Mapping[str, Any]] = ()  # the trials, from ``Trial.to_json``, the one chosen first
    metric: str = "accuracy"  # what the scores of the leaderboard are
    comparison: str | None = None  # the verdict on the first two heads, or on the model before and after, in words
    curves: Curves | None = None  # how the first dense trial of the leaderboard learned
    pictures: Sequence[Picture] = ()  # the test rows
    # photos whose label may be wrong, most suspicious first; None = nothing is known of that
    label_issues: Sequence[Picture] | None = None
    calibration: Calibration | None = None  # what the temperature does
    coverage: Sequence[SelectiveScores] = ()  # what comes of answering from a threshold on, once it is applied
    duplicates: Sequence[Duplicates] | None = None  # groups of equal photos; None = not looked for
    leak: str | None = None  # what accuracy would have been claimed without keeping them together, in words
    map: Projection | None = None  # the features on a plane
    learning_curve: LearningCurve | None = None  # how accuracy grows with the number of training photos
    not_grown: str = ""  # why there is no such curve and how to get one, a sentence without its full stop; empty = not known
    made: Mapping[str, str] = field(default_factory=dict)  # command, options, seed, versions: how to make it again
    unsure: str = ""  # what comes of the threshold below which the model answers "not sure", in words; empty = there is none
    searched: bool = False  # whether a search chose the head, or it was given
    trained: bool = False  # whether it is a network that learnt, and not a head alone
    apart: str = ""  # that validation and test differ by more than chance, in words; empty = they do not
    scored: bool = False  # whether a finished model was scored on photos, and nothing was made


def title_of(class_names: Sequence[str]) -> str:
    """Return ``cat or dog``; for many classes, or long names, how many they are."""
    title = listed(class_names, "or")
    return title if len(title) <= _LONGEST_TITLE else counted(len(class_names), "class", "classes")


def headline_of(name: str, test: Mapping[str, Any]) -> dict[str, str]:
    """Return what the head of a page says of the best of several: its name, and its scores on the test images as text."""
    accuracy, interval = test["accuracy"], test["intervals"]["accuracy"]
    words = of_a_hundred(accuracy, interval, test["n"])
    return {"name": name, "accuracy": percent(accuracy), "interval": span(interval), "words": words}


def photos_fact(rows: Mapping[str, int]) -> str:
    """Return ``120 train, 30 valid, 40 test, 2 left out``."""
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in rows.items() if count)


def pictures_of(images: ImageTable, rows: np.ndarray, probabilities: np.ndarray) -> list[Picture]:
    """Return some images, rows int64 (n,), with what was said of them: float64 (n, K)."""
    return [
        Picture(images.paths[i], images.files[i], int(images.labels[i]), int(row.argmax()), float(row.max()))
        for i, row in zip(rows.tolist(), probabilities, strict=True)
    ]


def suspects_of(images: ImageTable, rows: np.ndarray, calibrated: np.ndarray, photos: np.ndarray) -> list[Picture] | None:
    """Return those of some images whose label may be wrong by calibrated answers; None where these cannot tell.

    ``photos``, int64 (n,), has one number for images that are the same file.
    """
    issues = find_label_errors(calibrated, images.labels[rows], photos)
    if issues is None:
        return None
    found = [(int(rows[issue.row]), (issue.given, issue.suggested, issue.probability_suggested)) for issue in issues]
    return [Picture(images.paths[i], images.files[i], *said) for i, said in found]


def coverage_of(calibrated: np.ndarray, labels: np.ndarray) -> list[SelectiveScores]:
    """Return what comes of answering from some thresholds on."""
    return [selective_scores(calibrated, labels, threshold) for threshold in _THRESHOLDS]


def duplicates_of(groups: Groups, images: ImageTable) -> list[Duplicates]:
    """Return the groups of images that belong together; the images are the grouped ones.

    Those with an image in more than one class come first, then the largest.
    """
    sizes = np.bincount(groups.ids)
    torn = set(groups.ids[in_two_classes(groups.levels["copies"], images.labels)].tolist())
    return [
        Duplicates(
            ", ".join([*map(CAUSES.__getitem__, causes), *(["in more than one class"] if group in torn else [])]),
            [(images.paths[i], images.files[i]) for i in groups.members(group)],
        )
        for group, causes in sorted(groups.causes.items(), key=lambda item: (item[0] not in torn, -int(sizes[item[0]])))
    ]
