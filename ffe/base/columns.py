"""Columns of many values in little memory: a list of as many objects takes several times as much.

Long ones lie in temporary files without a name, mapped: what the driver of an extraction holds for each image is there, so that
its own memory does not grow with their number. The files lie where Python's ``tempfile`` puts them (``TMPDIR``).
"""

from __future__ import annotations

import contextlib
import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload
from weakref import WeakSet

from ffe.base.system import reserved

if TYPE_CHECKING:  # they are imported where they are needed: listing is part of the start of every command
    from mmap import mmap

    import numpy as np

_T = TypeVar("_T", bound=Hashable)
_V = TypeVar("_V")

MAPPED_BYTES = 256 << 10  # of a column, from which on it lies in a file
_MOST_FILES = 256  # for each is open
_files: WeakSet[mmap] = WeakSet()
_LEAST_BYTES = 64
PIECE = 1 << 10  # values that are made at once


def room(size: int) -> memoryview:
    """Return so many bytes, all 0: in memory or, where they are many and the disk has reserved them, in a temporary file."""
    if size >= MAPPED_BYTES and len(_files) < _MOST_FILES:
        import tempfile
        from mmap import mmap

        with contextlib.suppress(OSError), tempfile.TemporaryFile(prefix="ffe-") as file:
            file.truncate(size)
            if reserved(file.fileno(), size):  # else the process would die where the disk fills up
                made = mmap(file.fileno(), size)
                _files.add(made)
                return memoryview(made)
    return memoryview(bytearray(size))


def zeros(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Return an array of 0 that lies in a ``room``."""
    import numpy as np

    return np.ndarray(shape, dtype, buffer=room(max(1, math.prod(shape) * np.dtype(dtype).itemsize)))


def kept(array: np.ndarray, dtype: Any = None) -> np.ndarray:
    """Return a copy of an array that lies in a ``room``, of another ``dtype`` where one is given."""
    copy = zeros(array.shape, dtype or array.dtype)
    copy[...] = array
    return copy


def in_pieces(values: Iterable[Any], dtype: Any, count: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield so many values, piece by piece: where each piece belongs, and its values (n,)."""
    import numpy as np

    values = iter(values)
    for start in range(0, count, PIECE):
        place = slice(start, min(start + PIECE, count))
        yield place, np.fromiter(itertools.islice(values, place.stop - start), dtype, place.stop - start)


def filled(values: Iterable[Any], dtype: Any, count: int) -> np.ndarray:
    """Return so many values as an array (count,) that lies in a ``room``."""
    made = zeros((count,), dtype)
    for place, piece in in_pieces(values, dtype, count):
        made[place] = piece
    return made


def sorted_rows(texts: Iterable[bytes], width: int, count: int) -> np.ndarray:
    """Return so many byte strings, of at most ``width`` bytes, in their order: ``text`` and, where it stood, ``position`` (N,).

    They are sorted in place, in a ``room``: indices to sort would lie in memory.
    """
    rows = filled(((text, i) for i, text in enumerate(texts)), [("text", f"S{width}"), ("position", ">u4")], count)
    rows.view(f"S{width + 4}").sort()
    return rows


class Numbers(Sequence[int]):
    """Whole numbers of a ``kind`` of ``array``, that others can be put behind. A thread may read while another one appends."""

    def __init__(self, kind: str, numbers: Iterable[int] = ()) -> None:
        self.kind = kind
        self._room, self._count = room(_LEAST_BYTES).cast(kind), 0  # type: ignore[call-overload]
        for number in numbers:
            self.append(number)

    def append(self, number: int) -> None:
        """Put a number behind the others."""
        if self._count == len(self._room):
            self._widen(self._count + 1)
        self._room[self._count] = number
        self._count += 1

    def extend(self, numbers: Any) -> None:
        """Put numbers behind the others, those of an array of the same kind, or of bytes."""
        end = self._count + len(numbers)
        if end > len(self._room):
            self._widen(end)
        self._room[self._count : end] = numbers
        self._count = end

    def _widen(self, count: int) -> None:
        wider = room(max(count, self._count + self._count // 2) * self._room.itemsize).cast(self.kind)  # type: ignore[call-overload]
        wider[: self._count] = self._room[: self._count]
        self._room = wider

    def keep(self, count: int) -> None:
        """Drop all numbers behind the first ones."""
        self._count = min(self._count, count)

    def put(self, place: int, number: int) -> None:
        """Set the number of a place; zeros fill what lies between."""
        while self._count <= place:
            self.append(0)
        self._room[place] = number

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """Return the number of a place; of a slice a view, which sees what is set later."""
        return self._room[: self._count][index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._room[: self._count])

    def array(self) -> np.ndarray:
        """Return the numbers as a read-only array (N,) that shares their memory."""
        import numpy as np

        return np.frombuffer(self._room.toreadonly(), self.kind)[: self._count]


class Texts(Sequence[str]):
    """Texts that others can be put behind; one is made again each time that it is asked for."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes, self._ends = Numbers("B"), Numbers("Q", (0,))
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Put a text behind the others."""
        self._bytes.extend(text.encode("utf-8", "surrogatepass"))
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        count = len(self._ends) - 1
        if not -count <= index < count:
            raise IndexError(index)
        index %= count
        start, end = self._ends[index : index + 2]
        return str(self._bytes[start:end], "utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def order(self) -> np.ndarray:
        """Return the positions of the texts in the order of their code points, uint32 (N,)."""
        import numpy as np

        widest = max((end - start for start, end in itertools.pairwise(self._ends)), default=1) or 1
        coded = (bytes(self._bytes[start:end]) for start, end in itertools.pairwise(self._ends))
        return kept(sorted_rows(coded, widest, len(self))["position"], np.uint32)


class Repeated(Sequence[_T], Generic[_T]):
    """Values of which there are few different ones, each kept once."""

    def __init__(self, values: Iterable[_T] = ()) -> None:
        self.codes = Numbers("i")  # of each value, an index into ``values``
        self.values: list[_T] = []
        self._code: dict[_T, int] = {}
        for value in values:
            self.append(value)

    def append(self, value: _T) -> None:
        """Put a value behind the others."""
        code = self._code.setdefault(value, len(self.values))
        if code == len(self.values):
            self.values.append(value)
        self.codes.append(code)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: Any) -> Any:
        """Return the value at a position."""
        return self.values[self.codes[index]]


class Made(Sequence[_V], Generic[_V]):
    """So many values, each made by its position whenever it is asked for."""

    def __init__(self, count: int, make: Callable[[int], _V]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        chosen = range(self._count)[index]
        return [self._make(i) for i in chosen] if isinstance(index, slice) else self._make(chosen)

    def __iter__(self) -> Iterator[_V]:
        return map(self._make, range(self._count))


def joined(parts: Sequence[Sequence[_V]]) -> Sequence[_V]:
    """Return the values of several sequences behind each other."""
    ends = [*itertools.accumulate(map(len, parts))]

    def value(index: int) -> _V:
        part = bisect_right(ends, index)
        return parts[part][index - (ends[part - 1] if part else 0)]

    return parts[0] if len(parts) == 1 else Made(ends[-1] if ends else 0, value)


class Pairs(Sequence[tuple[int, int]]):
    """Pairs of whole numbers, in 64 bits each."""

    def __init__(self, pairs: Iterable[tuple[int, int]]) -> None:
        self._flat = Numbers("q", itertools.chain.from_iterable(pairs))

    def __len__(self) -> int:
        return len(self._flat) // 2

    def __getitem__(self, index: Any) -> Any:
        return tuple(self._flat[2 * index : 2 * index + 2])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._flat[::2], self._flat[1::2], strict=True)
