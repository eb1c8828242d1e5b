"""What a feature file knows of its source already, and what has changed since it was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL

from ffe._version import __version__
from ffe.base.columns import Made, Numbers, Pairs, Repeated, kept, zeros
from ffe.base.digests import DigestIndex
from ffe.base.file_stat import NO_STAMP, Stamp, stamp_now
from ffe.base.text import counted, listed
from ffe.dataset.held_images import HeldImages, held_images
from ffe.extraction.request import Job
from ffe.extraction.views import counts_of, shared_count
from ffe.images.file_names import places_of
from ffe.images.image_handle import ImageHandle, are_there, reading_order
from ffe.images.records import ImageRecord
from ffe.images.sources import images_at
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
        self._there = zeros((count,), bool)
        self._sha256, self._phash = zeros((count, 32), np.uint8), zeros((count,), np.uint64)
        self._stat = zeros((count, 2), np.int64)

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

    @property
    def copies(self) -> int:
        """How many rows hold the same file as one before them; 8 bytes of a digest tell files apart."""
        digests = self._sha256[:, :8][self._there].view(np.uint64)
        return len(digests) - len(np.unique(digests))

    def listed(self) -> Sequence[Row]:
        """Return the rows alone, in order; each is made whenever it is asked for."""
        positions = kept(np.flatnonzero(self._there).astype(np.uint32))
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
    counts = counts_of(records, views, len(records))
    if existing is None:
        return Known(stamps, {}, {}, *_in_reading_order(job, range(len(records)), (1 + count for count in counts)))
    trusted = job.has_source(existing.source) and not job.options.rehash
    plain, stat, made = existing.plain, existing.stat, existing.made_views
    places = places_of(records.paths, held_images([existing]).paths)
    seen = zeros((len(plain),), bool)
    alike = shared_count(views, made)
    held = _views_held(existing, alike)
    judged = {
        item.path: item
        for item in existing.skipped
        if existing.judged_by == JUDGED_BY and not (job.options.truncated == "keep" and item.reason == "truncated")
    }
    rows = FoundRows(records)
    skipped: dict[int, Skipped] = {}
    read, missing, doubtful, new = Numbers("I"), Numbers("I"), 0, Counter[int]()
    doubtful_rows = copied = 0
    for i, (path, stamp, place, count) in enumerate(zip(records.paths, stamps, places.data, counts, strict=True)):
        there, before = place >= 0, judged[path].stat if path in judged else NO_STAMP
        if there:
            row, seen[place] = int(plain[place]), True
            before = (int(stat[row, 0]), int(stat[row, 1]))
        same = trusted and stamp != NO_STAMP and stamp == before
        if same and there:
            lacking = count - held.get(existing.sha256[row], 0) if count else 0
            copied += 1 + count - lacking
            if lacking:
                read.append(i)
                missing.append(lacking)
            else:
                rows.put(i, existing.sha256[row], int(existing.phash[row]), stamp)
        elif same:
            skipped[i] = judged[path]
        else:
            read.append(i)
            missing.append(1 + count)
            if not there:
                new[stamp[0]] += stamp != NO_STAMP
            elif not trusted or before == NO_STAMP or before[0] == stamp[0]:
                doubtful += 1
                doubtful_rows += min(1 + count, 1 + held.get(existing.sha256[row], 0))
    gone = Counter(int(stat[row, 0]) for row in plain[~seen])
    renamed = (new & gone).total()
    doubtful, doubtful_rows = doubtful + renamed, doubtful_rows + renamed * (1 + (min(alike, made.count) if made else 0))
    return Known(stamps, rows, skipped, *_in_reading_order(job, read, missing), doubtful, doubtful_rows, copied)


def _in_reading_order(job: Job, read: Iterable[int], missing: Iterable[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Return positions, and what lacks of each, so that neighbours in an archive are neighbours here."""
    columns = [Numbers("I", read), Numbers("I", missing)]
    if job.any_order:
        return columns[0], columns[1]
    archives, places = Repeated[str](), Numbers("Q")
    for i in columns[0]:
        archive, place = reading_order(job.records[i].file)
        archives.append(archive)
        places.append(place)
    rank = {archive: number for number, archive in enumerate(sorted(archives.values))}
    archive_of = np.asarray([rank[archive] for archive in archives.values], np.uint32)[archives.codes.array()]
    order = np.lexsort((places.array(), archive_of))
    for column in columns:
        moved = column.array()[order]
        column.keep(0)
        column.extend(moved)
    return columns[0], columns[1]


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
    come, seen, unchanged = Counter[str](), zeros((len(held.paths),), bool), 0
    places = places_of(Made(len(rows), lambda i: rows[i].path), held.paths)
    for row, place in zip(rows, places.data, strict=True):
        if place < 0:
            come[row.sha256] += 1
        else:
            seen[place] = True
            unchanged += row.sha256 == held.sha256[place]
    removed = []
    for path, sha256 in sorted((held.paths[i], held.sha256[i]) for i in np.flatnonzero(~seen).tolist()):
        if come[sha256]:
            come[sha256] -= 1
        else:
            removed.append(path)
    stayed = int(seen.sum())
    renamed = len(seen) - stayed - len(removed)
    new = len(rows) - stayed - renamed
    return Changes(unchanged, new, stayed - unchanged, len(removed), renamed), removed


def removed_text(paths: Sequence[str], skipped: Sequence[Skipped], source: str | Path) -> tuple[str, bool]:
    """Say why rows of an old file are not in the new one, and whether any is lost: a shorter list is what somebody wanted."""
    unreadable = {item.path for item in skipped}.intersection(paths)
    unlisted = sum(are_there([*map(images_at(source), sorted({*paths} - unreadable))]))
    causes = [
        (len(paths) - len(unreadable) - unlisted, ("file is", "files are"), "gone"),
        (len(unreadable), ("file", None), "can no longer be read"),
        (unlisted, ("file is", "files are"), "no longer listed"),
    ]
    return listed([f"{counted(count, *files)} {what}" for count, files, what in causes if count], "and"), unlisted < len(paths)
