"""The classes of a source, before anything is learnt from it: there are labels, of two classes or more, and none gets lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ffe.base.text import counted, few, quoted
from ffe.errors import DataError, SourceError
from ffe.images.sources import ImageRecord


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
    """Make sure that every class has an image that can be read.

    Args:
        class_names: of the source.
        records: its images.
        failed: position of each that cannot be read, and why not.
        after: a sentence that ends the message.

    Raises:
        SourceError: a class has none.
    """
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
