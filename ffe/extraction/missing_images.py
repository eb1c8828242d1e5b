"""Images that a feature file has and its source has no more: a few were deleted, most of them lie on a disk that is not there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

import numpy as np

from ffe.base.columns import zeros
from ffe.base.file_stat import NO_STAMP, Stamp
from ffe.base.text import counted, few
from ffe.dataset.class_checks import check_readable
from ffe.dataset.held_images import HeldImages
from ffe.errors import SourceError
from ffe.extraction.request import Job
from ffe.images.file_names import ByName, places_of
from ffe.images.image_handle import are_there
from ffe.images.sources import images_at

LEAST = 10  # images of a file, below which nothing is a mass
SHARE = 0.5  # of its images, above which it is one


def refuse_losses(job: Job, held: HeldImages, stamps: Iterable[Stamp]) -> None:
    """Make sure, by the ``stamps`` of its files, that a source has not lost what cannot be meant; one moved has its old size."""
    new, missing = Counter[int](), dict[int, str]()
    seen = zeros((len(held.paths),), bool)
    for i, (stamp, place) in enumerate(zip(stamps, places_of(job.records.paths, held.paths).data, strict=True)):
        if stamp == NO_STAMP and isinstance(file := job.records[i].file, Path):
            missing[i] = "it cannot be reached" if os.path.lexists(file) else "no such file"
        elif place < 0:
            new[stamp[0]] += 1
        else:
            seen[place] = True
    if held.paths:
        gone, unknown = [], 0  # an image of no known size may be any of the new files
        for image in lost_images(job, held, {held.paths[image] for image in np.flatnonzero(~seen).tolist()}):
            if new[held.sizes[image]] > 0:
                new[held.sizes[image]] -= 1
            elif held.sizes[image] < 0 and unknown < new.total():
                unknown += 1
            else:
                gone.append(image)
        refuse_mass_loss(job, held, gone)
    if not job.shard:
        check_readable(job.found.class_names, job.records, missing)


def lost_images(job: Job, held: HeldImages, paths: Set[str]) -> list[int]:
    """Return the images of some paths, by position; but for those that lie where they lay, and are not asked for."""
    if not paths:
        return []
    asked = ByName((record.path, None) for record in job.records)
    images = [image for image, path in enumerate(held.paths) if path in paths]
    unasked = sorted((image for image in images if held.paths[image] not in asked), key=held.paths.__getitem__)  # by archives
    there = are_there([*map(images_at(job.place), (held.paths[image] for image in unasked))])
    lying = {image for image, is_there in zip(unasked, there, strict=True) if is_there}
    return [image for image in images if image not in lying]


def refuse_mass_loss(job: Job, held: HeldImages, gone: Sequence[int]) -> None:
    """Refuse that the images ``gone`` are most of a feature file, a whole class or a whole split, unless all is to be pruned.

    Of a shard alone, only the first: it may have few images of a class.
    """
    if job.options.prune or not gone or len(held.paths) < LEAST:
        return
    classes = [_class(held, image) for image in range(len(held.paths))]
    of_class, lost_of_class = Counter(classes), Counter(classes[image] for image in gone)
    of_split, lost_of_split = Counter(held.split), Counter(held.split[image] for image in gone)
    whole = [name for name in of_split if name and lost_of_split[name] == of_split[name]]
    all_of_one = whole or any(lost_of_class[name] == of_class[name] for name in of_class)
    if len(gone) <= SHARE * len(held.paths) and (job.shard or not all_of_one):
        return
    worst = sorted(lost_of_class, key=lambda name: (-lost_of_class[name] / of_class[name], -lost_of_class[name], name))
    lost = [f"{lost_of_split[name]:,} of {of_split[name]:,} of the split '{name}'" for name in sorted(whole)]
    lost += [f"{lost_of_class[name]:,} of {of_class[name]:,} of {name}" for name in worst]
    raise SourceError(
        f"{len(gone):,} of {counted(len(held.paths), 'image')} in '{job.output}' are gone from '{job.options.source}': "
        f"{few(lost, 5)}. See whether a disk or a link is missing; if they are gone for good, run the same command with --prune "
        "(in Python prune=True)."
    )


def _class(held: HeldImages, image: int) -> str:
    """Return the class of an image, or where it has none its folder."""
    if held.classes[image]:
        return f"'{held.classes[image]}'"
    folder, _, _ = held.paths[image].rpartition("/")
    return f"the folder '{folder}'" if folder else "the images without a folder"
