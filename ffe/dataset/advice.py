"""What a scan found -> what to do about it, in sentences. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from ffe.base.text import counted, few, is_are, plain, quoted
from ffe.dataset.class_checks import least_images, two_classes_text
from ffe.dataset.scan_result import Advice, ScanResult
from ffe.evaluation.class_weights import FAIR_SHARE, class_weights
from ffe.images.records import LEVELS, Level
from ffe.specs import SearchSpec

_STEP = 32  # most backbones halve their input five times
_MUCH_LARGER = 2.5  # times the input, from where fast decoding pays
_FEW_NAMED = 3
_GOOD_START = 50  # photos of a class

_Said = Iterator[tuple[Level, str]]


def advise(found: ScanResult, min_size: int, remarks: Sequence[str] = ()) -> tuple[Advice, ...]:
    """Return what to do, the gravest first; ``min_size``: pixels that the backbone needs, ``remarks``: on files to look at."""
    said = [
        *((f.level, f.text if f.text.endswith(".") else f"{f.text[:1].upper()}{f.text[1:]}.") for f in found.findings),
        *_of_classes(found),
        *_of_balance(found),
        *_of_files(found),
        *_of_twins(found),
        *_of_sizes(found, min_size),
        *_of_kinds(found, remarks),
    ]
    return tuple(Advice(level, text) for level, text in sorted(said, key=lambda pair: LEVELS.index(pair[0])))


def _of_classes(found: ScanResult) -> _Said:
    """Whether a head can be tuned on such classes, and on how many folds."""
    if not found.photos:
        return
    if not found.classes:
        nothing = "No photo has a label, so nothing can be learnt from them"
        yield "note", f"{nothing}; put them into one folder per class to train on them."
        return
    if len(found.classes) == 1:
        yield "refused", f"All photos are of one class ('{found.classes[0].name}'); a head needs at least two classes."
        return
    least = least_images("valid" in found.splits, "test" in found.splits)
    if rare := [f"'{row.name}' ({row.different})" for row in found.classes if row.different < least]:
        needed = f"tune needs at least {least} of each class. Add some, or leave the class out."
        yield "refused", f"Too few different photos of {few(rare)}: {needed}"
        return
    if found.splits and (empty := [row.name for row in found.classes if not row.training]):
        yield "refused", f"No training photos of {few(quoted(empty))}: give the training split some, or leave the class out."
        return
    if "valid" in found.splits:
        return
    smallest = min(found.classes, key=lambda row: row.different)
    share = 1 - (0 if "test" in found.splits else SearchSpec.test_fraction)
    train = max(1, round(smallest.different * share))
    if train < SearchSpec.folds:
        yield (
            "warning",
            f"The smallest class, '{smallest.name}', has {counted(smallest.different, 'different photo')}, "
            f"of which about {train} will train: tune then deals about {max(2, train)} folds, not {SearchSpec.folds}, "
            f"and the scores are rough. {_GOOD_START} of each class are a good start.",
        )


def _of_balance(found: ScanResult) -> _Said:
    """Whether classes are of a size, and what --class-weights makes of it."""
    counts = np.asarray([row.training for row in found.classes])
    if len(counts) < 2 or not counts.all():
        return
    labels = np.repeat(np.arange(len(counts)), counts)
    share = counts.min() * len(counts) / len(labels)
    rarest = found.classes[int(counts.argmin())].name
    weighted = class_weights("auto", labels, len(counts)).max() != 1
    rule = f"--class-weights auto makes all classes count the same where the rarest has less than {FAIR_SHARE:g} of a fair share"
    said = f"The rarest class, '{rarest}', has {counted(int(counts.min()), 'training photo')}, {share:.2f} of a fair share"
    if weighted:
        yield "warning", f"{said}. {rule}: here it does ('none' turns it off). Look at the balanced accuracy."
    elif share < 0.8:
        yield "note", f"{said}. {rule}: here it does not; 'balanced' asks for it."


def _of_files(found: ScanResult) -> _Said:
    """What will be skipped."""
    if count := len(found.skipped):
        counts = Counter(file.reason for file in found.skipped)
        reasons = ", ".join(f"{times} {reason}" for reason, times in sorted(counts.items()))
        them = "it" if count == 1 else "them"
        yield (
            "warning",
            f"{counted(count, 'file')} cannot be read ({reasons}: {few(_paths([file.path for file in found.skipped]))}), "
            f"and extraction will skip {them}; mend or remove {them}."
            + (" --truncated keep takes those that are cut off." if "truncated" in counts else ""),
        )
    if count := len(found.left_out):
        what = f"{counted(count, 'file or folder', 'files or folders')} in the source"
        yield "note", f"{what} {is_are(count)} left out ({few(_paths([path for path, _ in found.left_out]))})."


def _of_twins(found: ScanResult) -> _Said:
    """What copies do to a score."""
    if not found.twins:
        return
    firsts = [
        [(twins.paths[twins.labels.index(label)], label) for label in dict.fromkeys(twins.labels) if label is not None]
        for twins in found.twins
    ]
    if mixed := [photo for photo in firsts if len(photo) > 1]:
        yield "warning", f"{two_classes_text(mixed)}."
    if leaking := sum(split == "test" and len(set(twins.splits)) > 1 for twins in found.twins for split in twins.splits):
        what = counted(leaking, "test photo is a copy", "test photos are copies")
        yield "warning", f"{what} of photos in other splits, so the test score will be too good; remove one of each."
    if choosing := sum(split == "valid" and "train" in twins.splits for twins in found.twins for split in twins.splits):
        what = counted(choosing, "validation photo is a copy", "validation photos are copies")
        yield "warning", f"{what} of training photos, so what is chosen by them will look too good; remove one of each."
    extra = sum(len(twins.paths) - 1 for twins in found.twins)
    kept = "tune keeps copies on one side of every split that it makes; nothing needs to be removed. "
    yield (
        "note",
        f"{counted(extra, 'photo')} {is_are(extra)} there already: the same file, or saved again or resized. "
        f"{'' if mixed or leaking or choosing else kept}tune counts them in the same way, but compares features too, "
        "so it may find more: cut, brighter, or of a burst.",
    )


def _of_sizes(found: ScanResult, min_size: int) -> _Said:
    """Whether the input suits the photos."""
    if found.dimensions is None:
        return
    (height, width), sizes, photos = found.size, found.dimensions, found.photos
    medians = sizes.height.median, sizes.width.median
    what = f"{found.backbone} at {height}x{width}"
    if sizes.smaller:
        number = counted(sizes.smaller, "photo")
        if sizes.smaller == photos:
            number = "The one photo" if photos == 1 else "All photos"
        better = int(min(medians)) // _STEP * _STEP
        advice = ""
        if sizes.smaller > photos / 2 and min_size <= better < max(found.size):
            advice = f"; --size {better} is as much as most of them hold"
        smaller = f"{is_are(sizes.smaller)} smaller than the input of {what}"
        yield "note", f"{number} {smaller}, and will be enlarged, which adds nothing{advice}."
    if medians[0] > _MUCH_LARGER * height and medians[1] > _MUCH_LARGER * width and found.formats.get("JPEG", 0) > photos / 2:
        yield "note", f"Most photos are much larger than the input of {what}: --decode fast reads such JPEG files quicker."
    if sizes.elongated:
        yield (
            "note" if sizes.elongated < photos / 4 else "warning",
            f"{counted(sizes.elongated, 'photo is', 'photos are')} more than twice as long one way as the other, "
            f"and will be squeezed to {height}x{width}; cut out what matters, "
            "or give --size HEIGHTxWIDTH if all are of such a shape.",
        )


def _of_kinds(found: ScanResult, remarks: Sequence[str]) -> _Said:
    """What extraction makes of unusual files."""
    if count := len(found.other_endings):
        holds = "it holds" if count == 1 else "they hold"
        photos = counted(count, "photo is", "photos are")
        yield "note", f"{photos} named as another format than {holds}; ffe goes by the content, other programs may not."
    for remark in remarks:
        yield "warning", f"{remark}."
    if transparent := sum(count for name, count in found.colours.items() if "transparent" in name):
        yield "note", f"{counted(transparent, 'photo')} may be transparent in part; white will show through."
    if found.animated:
        yield "note", f"{counted(found.animated, 'file is', 'files are')} animated; the first picture will be taken."


def _paths(paths: Sequence[str]) -> list[str]:
    return quoted(map(plain, paths))
