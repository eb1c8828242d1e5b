"""What a feature file knows of its source already, and what has changed since it was made."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL

from ffe._version import __version__
from ffe.base.columns import Made, Pairs
from ffe.base.digests import DigestIndex
from ffe.base.file_stat import NO_STAMP, Stamp, stamp_now
from ffe.base.text import counted, listed
from ffe.dataset.held_images import HeldImages
from ffe.extraction.request import Job
from ffe.extraction.views import counts_of, shared_count
from ffe.images.file_names import ByName
from ffe.images.image_handle import ImageHandle, are_there, reading_order
from ffe.images.records import ImageRecord
from ffe.images.sources import image_at
from ffe.store.journal import names_of
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row, Skipped

JUDGED_BY = f"ffe {__version__}, Pillow {PIL.__version__}, rules 3"  # another one may read what this one cannot

# what lies in the file itself: rights, memory and limits may have changed
_LASTING = {"empty", "not-an-image", "truncated", "broken", "unsupported"}


class FoundRows(Mapping[int, Row]):
    """Rows by the positions of their records, in ascending order, whatever order they were put in.

    They are columns: of many photos, a row of its own for each would be most of the memory.
    """

    def __init__(self, records: Sequence[ImageRecord]) -> None:
        count = len(records)
        self._records = records
        self._there = np.zeros(count, bool)
        self._sha256, self._phash = np.zeros((count, 32), np.uint8), np.zeros(count, np.uint64)
        self._stat = np.zeros((count, 2), np.int64)

    def put(self, position: int, sha256: str, phash: int, stat: Stamp) -> None:
        """Give a record a row."""
        self._sha256[position] = memoryview(bytes.fromhex(sha256))
        self._phash[position], self._stat[position], self._there[position] = phash, stat, True

    def __len__(self) -> int:
        return int(self._there.sum())

    def __iter__(self) -> Iterator[int]:
        return map(int, np.flatnonzero(self._there))

    def __getitem__(self, position: int) -> Row:
        if not self._there[position]:
            raise KeyError(position)
        record, sha256 = self._records[position], self._sha256[position].tobytes().hex()
        size, changed = self._stat[position].tolist()
        phash = int(self._phash[position])
        return Row(record.path, sha256, record.label, record.split, 0, phash, record.group, (size, changed))

    def listed(self) -> Sequence[Row]:
        """Return the rows alone, in order; each is made whenever it is asked for."""
        positions = np.flatnonzero(self._there)
        return Made(len(positions), lambda i: self[int(positions[i])])


@dataclass
class StoredRows:
    """The rows of the existing files of a job, of all its shards: where its path changes, an image may change its shard."""

    stores: list[FeatureStore] = field(default_factory=list)

    @cached_property
    def _index(self) -> DigestIndex:
        named = ((names_of(store.made_views), zip(store.sha256, store.views.tolist(), strict=True)) for store in self.stores)
        return DigestIndex(name(*key) for name, keys in named for key in keys)

    def __contains__(self, name: str) -> bool:
        return name in self._index

    def keys(self) -> np.ndarray:
        """Return what stands for all names, see ``ffe.base.digests``: uint8 (N, 32)."""
        return self._index.keys()

    def find(self, name: str) -> tuple[FeatureStore, int] | None:
        """Return the file and the row of what has a name; None = there is none."""
        row = self._index.row(name)
        for store in self.stores if row >= 0 else ():
            if row < len(store):
                return store, row
            row -= len(store)
        return None


@dataclass(frozen=True)
class Known:
    """The files of a source, told apart by their sizes and times of change alone."""

    stamps: Sequence[Stamp]  # of every record, as it is now
    rows: Mapping[int, Row]  # of files that have not changed, by position
    skipped: dict[int, Skipped]  # files that gave no row and have not changed, by position
    # positions of all others, and of unchanged files of which the feature file lacks views, in the order to read them
    read: Sequence[int]
    missing: Sequence[int]  # rows that the feature file lacks of each of ``read``, as far as stamps tell
    # how many of ``read`` the feature file probably holds: a known path with an unknown stamp, or the size of a file that is gone
    doubtful: int = 0
    doubtful_rows: int = 0  # rows of such files, those of views too
    copied: int = 0  # rows that the feature file has, of files that have not changed


def known(job: Job, existing: FeatureStore | None) -> Known:
    """See which files of a source need not be opened, by the feature file that was made from it earlier.

    Equal stamps say that a file is the same, unless the source is another folder, or all files are to be read. With
    ``truncated="keep"`` files that were cut off are read again.
    """
    records, views = job.records, job.views
    files = (record.file for record in records)
    stamps = Pairs(file.stamp if isinstance(file, ImageHandle) else stamp_now(file) for file in files)
    wanted = [1 + count for count in counts_of(records, views, len(records))]
    if existing is None:
        return Known(stamps, {}, {}, *_in_reading_order(job, range(len(records)), wanted))
    trusted = existing.source == job.source and not job.options.rehash
    places = ByName((existing.paths[i], i) for i in existing.plain.tolist())
    made = existing.made_views
    alike = shared_count(views, made)
    held = _views_held(existing, alike)
    stored: list[Stamp] = [(size, changed) for size, changed in existing.stat.tolist()]
    sha256, phash = existing.sha256, existing.phash.tolist()
    judged = {
        item.path: item
        for item in existing.skipped
        if existing.judged_by == JUDGED_BY and not (job.options.truncated == "keep" and item.reason == "truncated")
    }
    rows = FoundRows(records)
    skipped: dict[int, Skipped] = {}
    read, missing, doubtful, new = list[int](), list[int](), 0, Counter[int]()
    doubtful_rows = copied = 0
    for i, (record, stamp) in enumerate(zip(records, stamps, strict=True)):
        place = places.get(record.path)
        before = stored[place] if place is not None else judged[record.path].stat if record.path in judged else None
        same = trusted and stamp != NO_STAMP and stamp == before
        if same and place is not None:
            lacking = wanted[i] - 1 - held.get(sha256[place], 0) if wanted[i] > 1 else 0
            copied += wanted[i] - lacking
            if lacking:
                read.append(i)
                missing.append(lacking)
            else:
                rows.put(i, sha256[place], phash[place], stamp)
        elif same:
            skipped[i] = judged[record.path]
        else:
            read.append(i)
            missing.append(wanted[i])
            if place is None:
                new[stamp[0]] += stamp != NO_STAMP
            elif not trusted or stored[place] == NO_STAMP or stored[place][0] == stamp[0]:
                doubtful += 1
                doubtful_rows += min(wanted[i], 1 + held.get(sha256[place], 0))
    paths = ByName((record.path, None) for record in records)
    gone = Counter(stored[place][0] for path, place in places.items() if path not in paths)
    renamed = (new & gone).total()
    doubtful, doubtful_rows = doubtful + renamed, doubtful_rows + renamed * (1 + (min(alike, made.count) if made else 0))
    return Known(stamps, rows, skipped, *_in_reading_order(job, read, missing), doubtful, doubtful_rows, copied)


def _in_reading_order(job: Job, read: Sequence[int], missing: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Return positions, and what lacks of each, so that neighbours in an archive are neighbours here."""
    order: Sequence[int] = range(len(read))
    if any(isinstance(job.records[i].file, ImageHandle) for i in read):
        order = sorted(order, key=lambda i: reading_order(job.records[read[i]].file))
    return array("q", (read[i] for i in order)), array("q", (missing[i] for i in order))


def _views_held(existing: FeatureStore, most: int) -> dict[str, int]:
    """Count the views 1 to ``most`` that a file has of each content."""
    wanted = np.flatnonzero((existing.views > 0) & (existing.views <= most)).tolist()
    found = {(existing.sha256[row], int(existing.views[row])) for row in wanted}  # copies have the same ones
    return Counter(sha256 for sha256, _ in found)


def lasting(item: Skipped) -> Skipped:
    """Return a skipped file without its stamp, where another look may come to another end."""
    return item if item.reason in _LASTING else replace(item, stat=NO_STAMP)


@dataclass(frozen=True)
class Changes:
    """How the rows of a new feature file differ from those of the old one; an image and its views count once."""

    unchanged: int = 0  # rows of the same path and content
    new: int = 0  # rows of paths that were not there
    changed: int = 0  # rows of the same path and another content
    removed: int = 0  # rows whose files are gone, are no longer listed, or give no row any more
    renamed: int = 0  # rows of the same content under another path, one for each path that is gone


def changes(held: HeldImages, rows: Sequence[Row]) -> tuple[Changes, list[str]]:
    """Count what changed, and return the paths of an old file that no row has any more, and whose content is under no other.

    ``held`` is of the old file, if there is one; a path that looks like an old one is that one.
    """
    old = ByName(zip(held.paths, held.sha256, strict=True))
    before, after = dict(old.items()), {old.spelt(row.path) or row.path: row.sha256 for row in rows}
    come = Counter(sha256 for path, sha256 in after.items() if path not in before)
    removed = []
    for path in sorted(before.keys() - after.keys()):
        if come[before[path]]:
            come[before[path]] -= 1
        else:
            removed.append(path)
    stayed = before.keys() & after.keys()
    renamed = len(before) - len(stayed) - len(removed)
    unchanged = len(before.items() & after.items())
    new = len(after) - len(stayed) - renamed
    return Changes(unchanged, new, len(stayed) - unchanged, len(removed), renamed), removed


def removed_text(paths: Sequence[str], skipped: Sequence[Skipped], source: str | Path) -> tuple[str, bool]:
    """Say why rows of an old file are not in the new one, and whether any is lost: a shorter list is what somebody wanted."""
    unreadable = {item.path for item in skipped}.intersection(paths)
    unlisted = sum(are_there([image_at(source, path) for path in sorted(paths) if path not in unreadable]))
    causes = [
        (len(paths) - len(unreadable) - unlisted, ("file is", "files are"), "gone"),
        (len(unreadable), ("file", None), "can no longer be read"),
        (unlisted, ("file is", "files are"), "no longer listed"),
    ]
    return listed([f"{counted(count, *files)} {what}" for count, files, what in causes if count], "and"), unlisted < len(paths)
