"""Canonical JSON, SHA-256, and which row has which digest: the one place that knows what makes a cached feature stale."""

from __future__ import annotations

import binascii
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ffe.base.columns import Numbers, room

if TYPE_CHECKING:  # it is imported where it is needed: listing is part of the start of every command
    import numpy as np

KEY_BYTES = 32
_LOST = b"\xff" * KEY_BYTES  # of a row that has none
_FULL = 2 / 3  # of the slots, at the most


def canonical_json(value: Any) -> bytes:
    """Return JSON as UTF-8 with sorted keys and no spaces: equal values, equal bytes; a ValueError for NaN or infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def bytes_digest(data: bytes | memoryview) -> str:
    """Return the SHA-256 of ``data`` in 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, read in pieces."""
    with path.open("rb") as file:
        return stream_digest(file)


def stream_digest(file: IO[bytes]) -> str:
    """Return the SHA-256 of what is left of an open file, read in pieces."""
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def path_digest(path: str) -> str:
    """Return the SHA-256 of the text of a path: the rows of a feature file are sorted by it."""
    return bytes_digest(path.encode())


def key_of(name: str) -> bytes:
    """Return the 32 bytes that stand for a name: those of a SHA-256 in 64 digits, or the SHA-256 of any other text."""
    if len(name) == 2 * KEY_BYTES:
        try:
            return binascii.unhexlify(name)
        except ValueError:
            pass
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


class DigestIndex:
    """The keys of rows, in order, and the first row of each key, in some fifty bytes a row: a dict takes several times as much.

    One thread may add rows while others look them up.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._keys = Numbers("B")
        self._slots = room(64).cast("I")  # by the last bytes of a key, or behind that: its row, from 1; 0 = free
        self._distinct = 0
        for name in names:
            self.append(key_of(name))

    def __len__(self) -> int:
        """Return the number of different keys."""
        return self._distinct

    def __contains__(self, name: str) -> bool:
        return self.row(name) >= 0

    @property
    def rows(self) -> int:
        """Rows, those of equal keys and those that have none too."""
        return len(self._keys) // KEY_BYTES

    def row(self, name: str) -> int:
        """Return the first row of a name; -1 = there is none."""
        slots = self._slots  # another thread may be making larger ones
        return slots[self._slot(slots, key_of(name))] - 1

    def _slot(self, slots: memoryview, key: bytes) -> int:
        """Return where a key is, or may be put."""
        last, keys = len(slots) - 1, self._keys
        at = int.from_bytes(key[-8:], "big") & last
        while (row := slots[at]) and keys[KEY_BYTES * (row - 1) : KEY_BYTES * row] != key:
            at = (at + 1) & last
        return at

    def append(self, key: bytes | None) -> None:
        """Add a row; None = it has no key."""
        self._keys.extend(_LOST if key is None else key)
        self._index(self.rows - 1)

    def put(self, row: int, key: bytes) -> None:
        """Give a row that has no key one; rows without keys fill what lies between."""
        self._keys.extend(_LOST * (row + 1 - self.rows))
        self._keys[KEY_BYTES * row : KEY_BYTES * (row + 1)][:] = key
        self._index(row)

    def _index(self, row: int) -> None:
        key = bytes(self._keys[KEY_BYTES * row : KEY_BYTES * (row + 1)])
        if key == _LOST:
            return
        if self._distinct >= _FULL * len(self._slots):
            self._rebuild(2 * len(self._slots))
        at = self._slot(self._slots, key)
        if not self._slots[at]:
            self._slots[at] = row + 1
            self._distinct += 1

    def _rebuild(self, size: int) -> None:
        slots, distinct = room(4 * size).cast("I"), 0
        for row in range(self.rows):
            key = bytes(self._keys[KEY_BYTES * row : KEY_BYTES * (row + 1)])
            if key != _LOST and not slots[at := self._slot(slots, key)]:
                slots[at], distinct = row + 1, distinct + 1
        self._slots, self._distinct = slots, distinct

    def keep(self, rows: int) -> None:
        """Drop all rows behind the first ones."""
        if rows < self.rows:
            self._keys.keep(KEY_BYTES * rows)
            self._rebuild(len(self._slots))

    def keep_whole(self) -> None:
        """Drop the rows at the end that have no key."""
        rows = self.rows
        while rows and self._keys[KEY_BYTES * (rows - 1) : KEY_BYTES * rows] == _LOST:
            rows -= 1
        self.keep(rows)

    def begins_with(self, names: Iterable[str]) -> int:
        """Return how many names there are, where the first rows are theirs, in their order; 0 = they are not."""
        count = 0
        for count, name in enumerate(names, 1):
            if self._keys[KEY_BYTES * (count - 1) : KEY_BYTES * count] != key_of(name):
                return 0
        return count

    def keys(self) -> np.ndarray:
        """Return the keys of all rows that have one, uint8 (N, 32)."""
        import numpy as np

        keys = self._keys.array().view(f"S{KEY_BYTES}")
        return keys[keys != _LOST].view(np.uint8).reshape(-1, KEY_BYTES)
