"""A feature file in shards: which shard a row belongs to, and how many shards an output has.

A shard is an ordinary feature file of the rows whose digests lie in its range. Rows are sorted by these digests, so the shards
behind each other are the rows of one file in their order; and whatever is added to a source, no image moves to another shard.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import h5py

from ffe.base.digests import path_digest
from ffe.base.shard_names import MOST_SHARDS, shard_path, shards_beside
from ffe.base.text import REPLACE, counted
from ffe.errors import SpecError, StoreError
from ffe.store.journal_records import has_rows
from ffe.store.virtual import read_parts

_DIGITS = 16  # of a digest, which decide


def shard_of(path: str, count: int) -> int:
    """Return the number, from 1, of the shard that the row of an image belongs to: the same on every machine."""
    return 1 + (int(path_digest(path)[:_DIGITS], 16) * count >> 4 * _DIGITS)


def parse_shards(value: int | str | None) -> tuple[int | None, int]:
    """Return how many shards are asked for (None = as the output has them), and which of them alone (0 = all)."""
    if value is None:
        return None, 0
    match = re.fullmatch(r"(?:(\d{1,4})/)?(\d{1,4})", str(value))
    only, count = (int(match[1] or 0), int(match[2])) if match else (0, 0)
    if not match or not 1 <= count <= MOST_SHARDS or not (match[1] is None or 1 <= only <= count):
        raise SpecError(
            f"shards is {str(value)!r}, but must be a number from 1 to {MOST_SHARDS:,}, or one of them alone, such as 3/8."
        )
    return count, only


def choose_shards(output: Path, asked: int | None, *, overwrite: bool) -> int:
    """Return how many shards an output has or gets, 1 = it is one file; a StoreError says that it is made otherwise already."""
    there, beside = recorded_shards(output), shards_beside(output)
    found = there or (beside[0][0] if beside else 1)  # of a run that did not come to its end
    count = found if asked is None else asked
    if there and there != count and not overwrite:
        if there == 1:
            raise StoreError(
                f"'{output}' is one file, or an unfinished run makes one, and --shards asks for {count}; leave --shards out, "
                f"{REPLACE}."
            )
        raise StoreError(
            f"'{output}' is in {counted(there, 'shard')}, and --shards asks for {count}; leave --shards out, choose another "
            f"output, or make one file of it with 'ffe pack {output} -o NEW.h5'."
        )
    others = [name for of, name in beside if of != count]
    if others and (count > 1 or there != 1):
        raise StoreError(
            f"'{output.with_name(others[0])}' is a shard of another number of shards than {count}; "
            "delete it and those like it, or choose another output."
        )
    return count


def recorded_shards(output: Path) -> int:
    """Return how many shards a file says that it has: 1 = it is one file, finished or not; 0 = there is none yet."""
    if not output.exists():
        return int(has_rows(output))
    parts = []
    for locking in (None, False):  # some disks have no locks; a file that is open with one takes no other way
        # whoever reads it says what is wrong with it
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), h5py.File(output, "r", locking=locking) as file:
            parts = read_parts(file)
            break
    count = len(parts)
    names = [shard_path(output, number, count).name for number in range(1, count + 1)]
    return count if count and [part.file for part in parts] == names else 1
