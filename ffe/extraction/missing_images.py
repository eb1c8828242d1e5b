"""Images that a feature file has and its source has no more: a few were deleted, most of them lie on a disk that is not there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path

from ffe.base.file_stat import NO_STAMP, Stamp
from ffe.base.text import counted, few
from ffe.dataset.class_checks import check_readable
from ffe.errors import SourceError
from ffe.extraction.request import Job
from ffe.images.file_names import ByName
from ffe.images.image_handle import are_there
from ffe.images.sources import UNLABELLED, image_at
from ffe.store.reader import FeatureStore

LEAST = 10  # images of a file, below which nothing is a mass
SHARE = 0.5  # of its images, above which it is one


def refuse_losses(job: Job, existing: FeatureStore | None, stamps: Sequence[Stamp]) -> None:
    """Make sure, by the ``stamps`` of its files, that a source has not lost what cannot be meant; one moved has its old size."""
    there = [i for i, stamp in enumerate(stamps) if stamp != NO_STAMP or not isinstance(job.records[i].file, Path)]
    if existing is not None:
        names = ByName((job.records[i].path, None) for i in there)
        known = ByName((existing.paths[row], None) for row in existing.plain.tolist())
        new = Counter(stamps[i][0] for i in there if job.records[i].path not in known)
        sizes = existing.stat[:, 0].tolist()
        gone, unknown = [], 0  # an image of no known size may be any of the new files
        for row in lost_rows(job, existing, {path for path in existing.paths if path not in names}):
            if new[sizes[row]] > 0:
                new[sizes[row]] -= 1
            elif sizes[row] < 0 and unknown < new.total():
                unknown += 1
            else:
                gone.append(row)
        refuse_mass_loss(job, existing, gone)
    missing = {
        i: "it cannot be reached" if os.path.lexists(record.file) else "no such file"
        for i, (record, stamp) in enumerate(zip(job.records, stamps, strict=True))
        if stamp == NO_STAMP and isinstance(record.file, Path)
    }
    check_readable(job.found.class_names, job.records, missing)


def lost_rows(job: Job, existing: FeatureStore, paths: Set[str]) -> list[int]:
    """Return the rows of images of some paths; but for those that lie where they lay, and are not asked for."""
    asked = ByName((record.path, None) for record in job.records)
    rows = [row for row in existing.plain.tolist() if existing.paths[row] in paths]
    unasked = [row for row in rows if existing.paths[row] not in asked]
    there = are_there([image_at(job.found.root, existing.paths[row]) for row in unasked])
    lying = {row for row, is_there in zip(unasked, there, strict=True) if is_there}
    return [row for row in rows if row not in lying]


def refuse_mass_loss(job: Job, existing: FeatureStore, gone: Sequence[int]) -> None:
    """Refuse that the rows ``gone`` are most of a feature file, a whole class or a whole split, unless all is to be pruned."""
    plain = existing.plain.tolist()
    if job.options.prune or not gone or len(plain) < LEAST:
        return
    classes = [_class(existing, row) for row in plain]
    of_class, lost_of_class = Counter(classes), Counter(_class(existing, row) for row in gone)
    splits = [existing.split[row] for row in plain]
    of_split, lost_of_split = Counter(splits), Counter(existing.split[row] for row in gone)
    whole = [name for name in of_split if name and lost_of_split[name] == of_split[name]]
    if len(gone) <= SHARE * len(plain) and not whole and not any(lost_of_class[name] == of_class[name] for name in of_class):
        return
    worst = sorted(lost_of_class, key=lambda name: (-lost_of_class[name] / of_class[name], -lost_of_class[name], name))
    lost = [f"{lost_of_split[name]:,} of {of_split[name]:,} of the split '{name}'" for name in sorted(whole)]
    lost += [f"{lost_of_class[name]:,} of {of_class[name]:,} of {name}" for name in worst]
    raise SourceError(
        f"{len(gone):,} of {counted(len(plain), 'image')} in '{job.output}' are gone from '{job.found.root}': {few(lost, 5)}. "
        "See whether a disk or a link is missing; if they are gone for good, run the same command with --prune."
    )


def _class(existing: FeatureStore, row: int) -> str:
    """Return the class of a row, or where it has none the folder of its image."""
    label = int(existing.labels[row])
    if label != UNLABELLED:
        return f"'{existing.class_names[label]}'"
    folder, _, _ = existing.paths[row].rpartition("/")
    return f"the folder '{folder}'" if folder else "the images without a folder"
