"""What a look at the photos showed -> what to do about it, in sentences. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ffe.base.text import counted, few, plain, quoted
from ffe.evaluation.class_weights import FAIR_SHARE, class_weights
from ffe.specs import SearchSpec

Level = Literal["refused", "warning", "note"]

LEVELS: tuple[Level, ...] = ("refused", "warning", "note")
_STEP = 32  # most backbones halve their input five times
_MUCH_LARGER = 2.5  # times the input, from where fast decoding pays
_FEW_NAMED = 3
_GOOD_START = 50  # photos of a class


@dataclass(frozen=True)
class Advice:
    """One finding.

    Attributes:
        level: ``refused`` (nothing can be learnt before it is mended), ``warning``, or ``note``.
        text: what was found and what to do, in a sentence or two.
    """

    level: Level
    text: str


@dataclass(frozen=True)
class Facts:
    """What advice is drawn from.

    Attributes:
        classes: (name, photos, different photos) of each class.
        training: photos of each class that may train.
        splits: split -> photos; empty where the source gives none.
        skipped: reason -> files that cannot be read.
        unreadable: paths of these.
        left_out: paths of what lies in the source and is no photo of it.
        twins: (paths, labels, splits) of each group of equal photos.
        medians: (height, width) in pixels; None where nothing can be read.
        smaller: photos smaller than the input, in height or width.
        elongated: photos more than twice as long one way as the other.
        photos: all that can be read.
        jpegs, other_endings, transparent, animated: photos of such a kind.
        remarks: on files that are taken and had better be looked at, each a sentence without its end.
        backbone, size, min_size: what the photos are for; (height, width), and the least of either.
    """

    classes: Sequence[tuple[str, int, int]]
    training: Sequence[int]
    splits: dict[str, int]
    skipped: dict[str, int]
    unreadable: Sequence[str]
    left_out: Sequence[str]
    twins: Sequence[tuple[tuple[str, ...], tuple[str | None, ...], tuple[str, ...]]]
    medians: tuple[float, float] | None
    smaller: int
    elongated: int
    photos: int
    jpegs: int
    other_endings: int
    transparent: int
    animated: int
    remarks: Sequence[str]
    backbone: str
    size: tuple[int, int]
    min_size: int


def advise(facts: Facts, known: Sequence[Advice] = ()) -> list[Advice]:
    """Return what to do, the gravest first; ``known`` is what the list of the photos showed."""
    found = [
        *known,
        *_of_classes(facts),
        *_of_balance(facts),
        *_of_files(facts),
        *_of_twins(facts),
        *_of_sizes(facts),
        *_of_kinds(facts),
    ]
    return sorted(found, key=lambda advice: LEVELS.index(advice.level))


def _of_classes(facts: Facts) -> Iterator[Advice]:
    """Whether a head can be tuned on such classes, and on how many folds."""
    if not facts.photos:
        return
    if not facts.classes:
        yield Advice(
            "note",
            "No photo has a label, so nothing can be learnt from them; put them into one folder per class to train on them.",
        )
        return
    if len(facts.classes) == 1:
        yield Advice("refused", f"All photos are of one class ('{facts.classes[0][0]}'); a head needs at least two classes.")
        return
    # one photo to train on, one to choose with, one to test on: unless a split brings the latter two
    least = 1 + ("valid" not in facts.splits) + ("test" not in facts.splits)
    rare = [(name, different) for name, _, different in facts.classes if different < least]
    if rare:
        names = few([f"'{name}' ({count})" for name, count in rare])
        yield Advice(
            "refused",
            f"Too few different photos of {names}: tune needs at least {least} of each class. Add some, or leave the class out.",
        )
        return
    if facts.splits:
        empty = [name for (name, _, _), count in zip(facts.classes, facts.training, strict=True) if not count]
        if empty:
            names = few(quoted(empty))
            yield Advice("refused", f"No training photos of {names}: give the training split some, or leave the class out.")
            return
    if "valid" in facts.splits:
        return
    name, different = min(((name, different) for name, _, different in facts.classes), key=lambda item: item[1])
    share = 1 - (0 if "test" in facts.splits else SearchSpec.test_fraction)
    train = max(1, round(different * share))
    if train < SearchSpec.folds:
        yield Advice(
            "warning",
            f"The smallest class, '{name}', has {counted(different, 'different photo')}, of which about {train} will train: "
            f"tune then deals about {max(2, train)} folds, not {SearchSpec.folds}, and the scores are rough. "
            f"{_GOOD_START} of each class are a good start.",
        )


def _of_balance(facts: Facts) -> Iterator[Advice]:
    """Whether classes are of a size, and what --class-weights makes of it."""
    counts = np.asarray(facts.training)
    if len(counts) < 2 or not counts.all():
        return
    labels = np.repeat(np.arange(len(counts)), counts)
    share = counts.min() * len(counts) / len(labels)
    rarest = facts.classes[int(counts.argmin())][0]
    weighted = class_weights("auto", labels, len(counts)).max() != 1
    rule = f"--class-weights auto makes all classes count the same where the rarest has less than {FAIR_SHARE:g} of a fair share"
    said = f"The rarest class, '{rarest}', has {counted(int(counts.min()), 'training photo')}, {share:.2f} of a fair share"
    if weighted:
        yield Advice("warning", f"{said}. {rule}: here it does ('none' turns it off). Look at the balanced accuracy.")
    elif share < 0.8:
        yield Advice("note", f"{said}. {rule}: here it does not; 'balanced' asks for it.")


def _of_files(facts: Facts) -> Iterator[Advice]:
    """What will be skipped."""
    if facts.skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(facts.skipped.items()))
        them = "it" if sum(facts.skipped.values()) == 1 else "them"
        files = counted(sum(facts.skipped.values()), "file")
        yield Advice(
            "warning",
            f"{files} cannot be read ({reasons}: {few(_paths(facts.unreadable))}), and extraction will skip {them}; "
            f"mend or remove {them}."
            + (" --truncated keep takes those that are cut off." if "truncated" in facts.skipped else ""),
        )
    if count := len(facts.left_out):
        what = f"{counted(count, 'file or folder', 'files or folders')} in the source"
        yield Advice("note", f"{what} {_is(count)} left out ({few(_paths(facts.left_out))}).")


def _of_twins(facts: Facts) -> Iterator[Advice]:
    """What copies do to a score."""
    photos = sum(len(paths) for paths, _, _ in facts.twins)
    if not photos:
        return
    firsts = [
        [paths[labels.index(label)] for label in dict.fromkeys(labels) if label is not None] for paths, labels, _ in facts.twins
    ]
    mixed = [paths for paths in firsts if len(paths) > 1]
    if mixed:
        groups = counted(len(mixed), "photo stands", "photos stand")
        yield Advice("warning", f"{groups} in more than one class ({_eachfew(mixed)}); look for wrong labels.")
    leaking = sum(split == "test" and len(set(splits)) > 1 for _, _, splits in facts.twins for split in splits)
    if leaking:
        what = counted(leaking, "test photo is a copy", "test photos are copies")
        yield Advice("warning", f"{what} of photos in other splits, so the test score will be too good; remove one of each.")
    choosing = sum(split == "valid" and "train" in splits for _, _, splits in facts.twins for split in splits)
    if choosing:
        what = counted(choosing, "validation photo is a copy", "validation photos are copies")
        yield Advice("warning", f"{what} of training photos, so what is chosen by them will look too good; remove one of each.")
    extra = photos - len(facts.twins)
    kept = (
        "" if leaking or choosing else " tune keeps copies on one side of every split that it makes; nothing needs to be removed."
    )
    kept += " tune counts them in the same way, but compares features too, so it may find more: cut, brighter, or of a burst."
    yield Advice("note", f"{counted(extra, 'photo')} {_is(extra)} there already: the same file, or saved again or resized.{kept}")


def _of_sizes(facts: Facts) -> Iterator[Advice]:
    """Whether the input suits the photos."""
    if facts.medians is None:
        return
    height, width = facts.size
    what = f"{facts.backbone} at {height}x{width}"
    if facts.smaller:
        number = (
            "The one photo"
            if facts.photos == 1
            else "All photos"
            if facts.smaller == facts.photos
            else counted(facts.smaller, "photo")
        )
        are = "is" if facts.smaller == 1 else "are"
        better = int(min(facts.medians)) // _STEP * _STEP
        advice = ""
        if facts.smaller > facts.photos / 2 and facts.min_size <= better < max(facts.size):
            advice = f"; --size {better} is as much as most of them hold"
        yield Advice(
            "note", f"{number} {are} smaller than the input of {what}, and will be enlarged, which adds nothing{advice}."
        )
    if facts.medians[0] > _MUCH_LARGER * height and facts.medians[1] > _MUCH_LARGER * width and facts.jpegs > facts.photos / 2:
        yield Advice(
            "note", f"Most photos are much larger than the input of {what}: --decode fast reads such JPEG files quicker."
        )
    if facts.elongated:
        are = "is" if facts.elongated == 1 else "are"
        yield Advice(
            "note" if facts.elongated < facts.photos / 4 else "warning",
            f"{counted(facts.elongated, 'photo')} {are} more than twice as long one way as the other, and will be squeezed "
            f"to {height}x{width}; cut out what matters, or give --size HEIGHTxWIDTH if all are of such a shape.",
        )


def _of_kinds(facts: Facts) -> Iterator[Advice]:
    """What extraction makes of unusual files."""
    if facts.other_endings:
        one = facts.other_endings == 1
        photos = counted(facts.other_endings, "photo is", "photos are")
        holds = "it holds" if one else "they hold"
        yield Advice("note", f"{photos} named as another format than {holds}; ffe goes by the content, other programs may not.")
    for remark in facts.remarks:
        yield Advice("warning", f"{remark}.")
    if facts.transparent:
        yield Advice("note", f"{counted(facts.transparent, 'photo')} may be transparent in part; white will show through.")
    if facts.animated:
        yield Advice(
            "note", f"{counted(facts.animated, 'file')} {_is(facts.animated)} animated; the first picture will be taken."
        )


def _paths(paths: Sequence[str]) -> list[str]:
    return [f"'{plain(path)}'" for path in paths]


def _eachfew(groups: Sequence[Sequence[str]]) -> str:
    """Return the first few groups of paths in words, and how many more there are."""
    shown = [few([plain(path) for path in paths]) for paths in groups[:_FEW_NAMED]]
    more = [f"{len(groups) - _FEW_NAMED:,} more"] if len(groups) > _FEW_NAMED else []
    return "; ".join(shown + more)


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
