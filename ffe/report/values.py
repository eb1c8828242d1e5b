"""Everything that the page of a search shows, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "CalibrationView",
    "Curves",
    "Duplicates",
    "FeatureMap2D",
    "GrowthView",
    "Page",
    "Picture",
    "Suspect",
]


@dataclass(frozen=True)
class Curves:
    """How a dense head, or a whole network, learned.

    Attributes:
        train_loss, valid_loss: one number for each epoch, >= 0; empty if unknown, as NaN is.
        train_accuracy, valid_accuracy: one share for each epoch, in [0, 1]; empty if unknown, as NaN is.
        over_time: (seconds since the beginning, validation accuracy); empty if unknown.
        note: what was trained when, in words; empty = the best dense head of a search.
        first: the number of the first epoch; 0 = the state before any.
        kept: place among these of the epoch whose weights were kept, from 0 on; None = unknown.
    """

    train_loss: Sequence[float] = ()
    valid_loss: Sequence[float] = ()
    train_accuracy: Sequence[float] = ()
    valid_accuracy: Sequence[float] = ()
    over_time: Sequence[tuple[float, float]] = ()
    note: str = ""
    first: int = 1
    kept: int | None = None


@dataclass(frozen=True)
class Picture:
    """A test photo and what was said of it.

    Attributes:
        path: the name to show.
        file: where the picture lies; None = it is not at hand.
        true, predicted: indices into the class names.
        probability: of the predicted class, in [0, 1].
    """

    path: str
    file: Path | None
    true: int
    predicted: int
    probability: float


@dataclass(frozen=True)
class Suspect:
    """A photo whose label may be wrong: what was fitted without it is sure of another class.

    Attributes:
        path, file: as for ``Picture``.
        given, suggested: indices into the class names.
        probability: of the suggested class, in [0, 1].
    """

    path: str
    file: Path | None
    given: int
    suggested: int
    probability: float


@dataclass(frozen=True)
class CalibrationView:
    """Whether a probability of 90 % means nine right of ten.

    Attributes:
        factor: what the scores were scaled by, > 0.
        ece_before, ece_after: expected calibration error, in [0, 1].
        before, after: (mean confidence, accuracy, count) of each bin that has photos.
        coverage: (threshold, share answered, accuracy of the answers; None if there are none).
        before_intervals, after_intervals, coverage_intervals: 95 % of each of these accuracies; empty = unknown.
    """

    factor: float
    ece_before: float
    ece_after: float
    before: Sequence[tuple[float, float, int]] = ()
    after: Sequence[tuple[float, float, int]] = ()
    coverage: Sequence[tuple[float, float, float | None]] = ()
    before_intervals: Sequence[tuple[float, float]] = ()
    after_intervals: Sequence[tuple[float, float]] = ()
    coverage_intervals: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Duplicates:
    """Photos that are the same, or nearly.

    Attributes:
        cause: in words, such as ``the same file`` or ``near copies``.
        members: (name to show, where it lies).
    """

    cause: str
    members: Sequence[tuple[str, Path | None]]


@dataclass(frozen=True)
class FeatureMap2D:
    """The features of N photos, laid out on a plane.

    Attributes:
        x, y: float32 (N,), any range; a point that is not finite is left out.
        labels: int (N,), indices into the class names; -1 = no label.
        correct: bool (N,), whether the head was right; None = not asked.
        paths: N names to show.
        files: N places of pictures, or None.
        method: how it was made, in words, such as ``PCA, 41 % of the variance``.
    """

    x: np.ndarray
    y: np.ndarray
    labels: Sequence[int] | np.ndarray
    correct: Sequence[bool] | np.ndarray | None
    paths: Sequence[str]
    files: Sequence[Path | None]
    method: str


@dataclass(frozen=True)
class GrowthView:
    """How accuracy grows with the number of training photos.

    Attributes:
        sizes: numbers of photos, > 0, rising.
        accuracy, low, high: at each of them, in [0, 1]; low and high may be empty.
        fit: (number of photos, accuracy) along the fitted curve; empty if there is none.
        twice: (number of photos, accuracy, low, high) foreseen for twice as many; None if unknown.
        sentence: what follows from it, in words.
    """

    sizes: Sequence[float]
    accuracy: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    fit: Sequence[tuple[float, float]] = ()
    twice: tuple[float, float, float, float] | None = None
    sentence: str = ""


@dataclass(frozen=True)
class Page:
    """All that the page of a search shows. What is None or empty is left out, and the page says so.

    Attributes:
        title: the head line.
        facts: backbone, input size, rows, features, head, version: what stands beside the head line.
        class_names: the label i means class_names[i].
        evaluation: the test, as ``Evaluation.to_json`` gives it; keys that are missing are left out:
            ``n``, ``accuracy``, ``balanced_accuracy``, ``log_loss``, ``auc``, ``expected_calibration_error``,
            ``confusion`` (K rows true, K columns predicted), ``precision``, ``recall`` (K each),
            ``intervals`` ({score: (low, high)}), ``precision_intervals``, ``recall_intervals`` (K pairs),
            ``confusion_intervals`` (K times K pairs: photos).
        leaderboard: the trials, best first, each with ``head``, ``score``, and where known ``spread``,
            ``fit_seconds``, ``size`` (bytes), ``parameters``, ``finished`` (seconds since the search began).
        metric: what the scores of the leaderboard are.
        comparison: the verdict on the best two heads, or on the model before and after, in words.
        curves: how the best dense trial learned.
        pictures: the test rows.
        label_issues: photos whose label may be wrong, most suspicious first; None = nothing is known of that.
        calibration: see ``CalibrationView``.
        duplicates: groups of equal photos; None = not looked for.
        leak: what accuracy would have been claimed without keeping them together, in words.
        map: the features on a plane.
        growth: see ``GrowthView``.
        made: command, options, seed, versions: how to make it again.
        unsure: what comes of the threshold below which the model answers "not sure", in words; empty = there is none.
        searched: whether a search chose the head, or it was given.
        trained: whether it is a network that learnt, and not a head alone.
        scored: whether a finished model was scored on photos, and nothing was made.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    class_names: Sequence[str] = ()
    evaluation: Mapping[str, Any] | None = None
    leaderboard: Sequence[Mapping[str, Any]] = ()
    metric: str = "accuracy"
    comparison: str | None = None
    curves: Curves | None = None
    pictures: Sequence[Picture] = ()
    label_issues: Sequence[Suspect] | None = None
    calibration: CalibrationView | None = None
    duplicates: Sequence[Duplicates] | None = None
    leak: str | None = None
    map: FeatureMap2D | None = None
    growth: GrowthView | None = None
    made: Mapping[str, str] = field(default_factory=dict)
    unsure: str = ""
    searched: bool = False
    trained: bool = False
    scored: bool = False
