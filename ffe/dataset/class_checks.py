"""The classes of a source, before anything is learnt from it: there are labels, of two classes or more, and none gets lost."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ffe.base.output_file import check_output_folder
from ffe.base.text import counted, few, plain, quoted
from ffe.errors import DataError, ModelMismatchError, SourceError, StoreError
from ffe.images.folder_layout import LISTS
from ffe.images.records import ImageRecord
from ffe.images.sources import Scan

_FEW_NAMED = 3


def check_labelled(labelled: object, source: object, *, so: str = "", end: str = ".") -> None:
    """Raise a SourceError where nothing is labelled; ``so`` says what follows of it, ``end`` what else may be given."""
    if not labelled:
        raise SourceError(f"The images of '{source}' have no labels{so}; give one folder per class, or a CSV with labels{end}")


def check_two_classes(class_names: Sequence[str], what: str, then: str) -> None:
    """Raise a DataError where there is one class alone; ``what`` is all of it, ``then`` ends the sentence."""
    if len(class_names) == 1:
        raise DataError(f"All {what} are of one class ('{class_names[0]}'){then}")


def check_readable(
    class_names: Sequence[str], records: Sequence[ImageRecord], failed: Mapping[int, str], after: str = ""
) -> None:
    """Make sure that every class has an image outside ``failed``, position -> why not; ``after`` ends the message."""
    readable = {record.label for i, record in enumerate(records) if i not in failed}
    lost = [label for label in range(len(class_names)) if label not in readable]
    if not lost:
        return
    files = [i for i, record in enumerate(records) if record.label == lost[0]]
    none = "The only file" if len(files) == 1 else f"None of the {counted(len(files), 'file')}"
    can = "cannot" if len(files) == 1 else "can"
    more = f", and no file of {few(quoted(class_names[label] for label in lost[1:]))}" if len(lost) > 1 else ""
    raise SourceError(
        f"{none} of the class '{class_names[lost[0]]}' {can} be read ('{records[files[0]].path}': {failed[files[0]]}){more}; "
        f"mend them, or take what cannot be read out of the source.{after}"
    )


def check_own_folder(folder: Path, found: Scan, what: str, option: str, then: str, holds: str = "") -> None:
    """Make sure that a folder named by ``option`` can be made, and is not the one of the images, and not in it."""
    check_output_folder(folder, what, StoreError, option=option, holds=holds)
    if not folder.parent.is_dir():
        raise StoreError(f"The {what} '{folder}' lies in a folder that does not exist ('{folder.parent}'); {then}.")
    place, root = os.path.realpath(folder), os.path.realpath(found.root)
    if found.kind not in LISTS and (place == root or place.startswith(root.rstrip(os.sep) + os.sep)):
        raise StoreError(f"The {what} '{folder}' lies among the images of '{found.root}'; name another folder with {option}.")


def check_classes(found: Scan, class_names: Sequence[str], model: str) -> None:
    """Make sure that a source has labels, and no other classes than a model."""
    check_labelled(found.class_names, found.root, end=f", with the classes of '{model}': {', '.join(class_names)}.")
    unknown = sorted(set(found.class_names) - set(class_names))
    missing = sorted(set(class_names) - set(found.class_names))
    if unknown or missing:
        what = f"has the class '{unknown[0]}', which" if unknown else f"has no class '{missing[0]}', which"
        known = "does not know" if unknown else "knows"
        raise ModelMismatchError(
            f"'{found.root}' {what} the model '{model}' {known} (it knows {', '.join(class_names)}); "
            "give images of the same classes, or make a model of the new ones with 'ffe tune'."
        )


def least_images(valid_given: bool, test_given: bool) -> int:
    """Return how many images a class needs: one to train, and one to choose and one to test where no split brings those."""
    return 1 + (not valid_given) + (not test_given)


def too_few(counts: Mapping[int, int], class_names: Sequence[str], least: int) -> dict[str, int]:
    """Return the classes that have fewer than ``least`` of what is counted, and how many each has."""
    return {name: counts.get(label, 0) for label, name in enumerate(class_names) if counts.get(label, 0) < least}


def too_few_text(small: Mapping[str, int], what: str, of: str = "") -> str:
    """Return the beginning of a sentence about classes that have too few of something, such as ``image``."""
    (name, count), *others = small.items()
    if not others:
        return f"The class '{name}' has only {counted(count, what)}{of}"
    names = few([f"'{name}' ({count})" for name, count in small.items()])
    return f"{counted(len(small), 'class has', 'classes have')} too few {what}s{of}: {names}"


def two_classes_text(photos: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Return that photos stand in more than one class; of each there are paths, with the class of each."""
    shown = [few([f"'{plain(path)}' ({plain(name, 40)})" for path, name in photo]) for photo in photos[:_FEW_NAMED]]
    more = [f"{len(photos) - _FEW_NAMED:,} more"] if len(photos) > _FEW_NAMED else []
    stand = counted(len(photos), "photo stands", "photos stand")
    return f"{stand} in more than one class ({'; '.join([*shown, *more])}); look for wrong labels"


def check_counts(found: Scan) -> None:
    """Make sure, before anything is read, that every class has an image to train, to validate and to test."""
    least = least_images(valid_given=False, test_given=False)
    if small := too_few(Counter(record.label for record in found.records), found.class_names, least):
        what = too_few_text(small, "image")
        raise DataError(f"{what}; give every class at least {least} different ones: to train, to validate and to test.")
