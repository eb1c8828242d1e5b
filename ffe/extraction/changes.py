"""What a feature file knows of its source already, and what has changed since it was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import PIL

from ffe._version import __version__
from ffe.images.scan import ImageRecord
from ffe.stamps import NO_STAMP, Stamp, stamp_now
from ffe.store.layout import Row, Skipped
from ffe.store.reader import FeatureStore

JUDGED_BY = f"ffe {__version__}, Pillow {PIL.__version__}"  # another one may read what this one cannot

# what lies in the file itself: rights, memory and limits may have changed
_LASTING = {"empty", "not-an-image", "truncated", "broken", "unsupported"}


@dataclass(frozen=True)
class Known:
    """The files of a source, told apart by their sizes and times of change alone.

    Attributes:
        stamps: of every record, as it is now.
        rows: of files that have not changed, by position.
        skipped: files that gave no row and have not changed, by position.
        read: positions of all others, in order: they must be read.
        doubtful: how many of ``read`` the feature file probably holds: the same
            path with an unknown stamp, or the size of a file that is gone.
    """

    stamps: tuple[Stamp, ...]
    rows: dict[int, Row]
    skipped: dict[int, Skipped]
    read: tuple[int, ...]
    doubtful: int


def known(records: Sequence[ImageRecord], existing: FeatureStore | None, *, trusted: bool) -> Known:
    """See which files of a source need not be opened.

    Args:
        records: the source.
        existing: the feature file that was made from it earlier, or None.
        trusted: whether equal stamps say that a file is the same; they do not
            where the source is another folder, or the user wants all files read.
    """
    stamps = tuple(stamp_now(record.file) for record in records)
    if existing is None:
        return Known(stamps, {}, {}, tuple(range(len(records))), 0)
    places = {path: i for i, path in enumerate(existing.paths)}
    stored: list[Stamp] = [(size, changed) for size, changed in existing.stat.tolist()]
    sha256, phash = existing.sha256, existing.phash.tolist()
    judged = {item.path: item for item in existing.skipped if existing.judged_by == JUDGED_BY}
    rows: dict[int, Row] = {}
    skipped: dict[int, Skipped] = {}
    read, doubtful, new = [], 0, Counter[int]()
    for i, (record, stamp) in enumerate(zip(records, stamps, strict=True)):
        place = places.get(record.path)
        if stamp == NO_STAMP or not trusted:
            same = False
        elif place is not None:
            same = stored[place] == stamp
        else:
            same = record.path in judged and judged[record.path].stat == stamp
        if same and place is not None:
            rows[i] = Row(record.path, sha256[place], record.label, record.split, 0, phash[place], record.group, stamp)
        elif same:
            skipped[i] = judged[record.path]
        else:
            read.append(i)
            if place is None:
                new[stamp[0]] += stamp != NO_STAMP
            else:
                doubtful += not trusted or stored[place] == NO_STAMP or stored[place][0] == stamp[0]
    paths = {record.path for record in records}
    gone = Counter(size for path, (size, _) in zip(existing.paths, stored, strict=True) if path not in paths)
    return Known(stamps, rows, skipped, tuple(read), doubtful + (new & gone).total())


def lasting(item: Skipped) -> Skipped:
    """Return a skipped file without its stamp, where another look may come to another end."""
    return item if item.reason in _LASTING else replace(item, stat=NO_STAMP)


@dataclass(frozen=True)
class Changes:
    """How the rows of a new feature file differ from those of the old one.

    Attributes:
        unchanged: rows of the same path and content.
        new: rows of paths that were not there.
        changed: rows of the same path and another content.
        removed: rows whose files are gone, or give no row any more.
        renamed: rows of the same content under another path, one for each path that is gone.
    """

    unchanged: int = 0
    new: int = 0
    changed: int = 0
    removed: int = 0
    renamed: int = 0


def changes(existing: FeatureStore | None, rows: Sequence[Row]) -> Changes:
    """Count what changed; without an old file all rows are new."""
    before = {} if existing is None else dict(zip(existing.paths, existing.sha256, strict=True))
    after = {row.path: row.sha256 for row in rows}
    gone = Counter(sha256 for path, sha256 in before.items() if path not in after)
    come = Counter(sha256 for path, sha256 in after.items() if path not in before)
    renamed = (gone & come).total()
    stayed = [path for path in before if path in after]
    unchanged = sum(before[path] == after[path] for path in stayed)
    return Changes(unchanged, come.total() - renamed, len(stayed) - unchanged, gone.total() - renamed, renamed)
