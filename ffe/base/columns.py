"""Columns of many values in little memory: a list of as many objects takes several times as much."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:  # it is imported where it is needed: listing is part of the start of every command
    import numpy as np

_T = TypeVar("_T", bound=Hashable)
_V = TypeVar("_V")


class Texts(Sequence[str]):
    """Texts that others can be put behind; one is made again each time that it is asked for."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes, self._ends = bytearray(), array("Q", (0,))
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Put a text behind the others."""
        self._bytes += text.encode("utf-8", "surrogatepass")
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
        return self._bytes[self._ends[index] : self._ends[index + 1]].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def order(self) -> np.ndarray:
        """Return the positions of the texts in the order of their code points, uint32 (N,)."""
        import numpy as np

        widest = max((end - start for start, end in itertools.pairwise(self._ends)), default=1)
        coded = (bytes(self._bytes[start:end]) for start, end in itertools.pairwise(self._ends))
        return np.fromiter(coded, f"S{max(1, widest)}", len(self)).argsort(kind="stable").astype(np.uint32)


class Repeated(Sequence[_T], Generic[_T]):
    """Values of which there are few different ones, each kept once."""

    def __init__(self, values: Iterable[_T] = ()) -> None:
        self.codes = array("i")  # of each value, an index into ``values``
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
        if isinstance(index, slice):
            return [self._make(i) for i in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._make(index)


class Pairs(Sequence[tuple[int, int]]):
    """Pairs of whole numbers, in 64 bits each."""

    def __init__(self, pairs: Iterable[tuple[int, int]]) -> None:
        self._flat = array("q")
        for pair in pairs:
            self._flat.extend(pair)

    def __len__(self) -> int:
        return len(self._flat) // 2

    def __getitem__(self, index: Any) -> Any:
        return tuple(self._flat[2 * index : 2 * index + 2])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._flat[::2], self._flat[1::2], strict=True)
