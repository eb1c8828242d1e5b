"""Arrays out of a file that PyTorch wrote before version 1.6, without PyTorch, and without running anything from it.

Such a file is five pickles (a magic number, the version, facts about the machine, the tensors, the keys of their storages) and
then the storages: for each key its length as int64 and its values. A pickle can have any function of Python called, and change
the objects that it is given. Here four names are known, each for a piece of data that nothing can change; all others are refused,
as are instructions that such a file does not need.
https://github.com/pytorch/pytorch/blob/v2.0.0/torch/serialization.py (``_legacy_load``)
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import pickletools
import struct
from typing import Any, NamedTuple

import numpy as np

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_MOST_AXES = 8
_FLOATS, _LONGS = "<f4", "<i8"
_INSTRUCTIONS = """
    PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL REDUCE BUILD BINPERSID
"""
_NEEDED = frozenset(_INSTRUCTIONS.split())


# no object here has attributes that a pickle could set (BUILD): its checks would be worth nothing
class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Rebuild:
    """Stand for ``torch._utils._rebuild_tensor_v2``, and check that the tensor lies inside its storage."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> _Tensor:
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a tensor in it is none")
        if len(shape) != len(strides) or len(shape) > _MOST_AXES:
            raise ValueError("a tensor in it has another number of axes than of strides, or too many")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if 0 in shape or last >= storage.size or math.prod(shape) > storage.size:
            raise ValueError("a tensor in it is larger than its storage")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


_KNOWN = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    ("torch", "FloatStorage"): _FLOATS,
    ("torch", "LongStorage"): _LONGS,
}


class _Reader(pickle.Unpickler):
    """Knows four names and no others."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise ValueError(f"it names {module}.{name}, of which no weights are made") from None

    def persistent_load(self, identity: Any) -> _Storage:
        match identity:
            case ("storage", kind, str(key), str(), int(count), None) if kind in (_FLOATS, _LONGS) and count > 0:
                return _Storage(key, np.dtype(kind), count)
        raise ValueError("a storage in it is none")


def _load(file: io.BytesIO, size: int) -> Any:
    """Load the next pickle of a file of ``size`` bytes, once it is known to hold only instructions that are needed."""
    start = file.tell()
    try:
        instructions = list(pickletools.genops(file))
    except ValueError as error:
        raise ValueError("it is damaged (no whole pickle)") from error
    for instruction, argument, _ in instructions:
        if instruction.name not in _NEEDED or ("PUT" in instruction.name and int(argument or 0) > size):
            raise ValueError(f"it has an instruction that no weights need ({instruction.name})")
    file.seek(start)
    return _Reader(file).load()


def read_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Return the tensors of a file, by name: float32 or int64 arrays of their own, contiguous; any other file is a ValueError."""
    file = io.BytesIO(data)
    try:
        head = [_load(file, len(data)) for _ in range(3)]
        tensors, keys = _load(file, len(data)), _load(file, len(data))
    except ValueError:
        raise
    except Exception as error:  # pickle raises all sorts on damaged data
        raise ValueError(f"it is damaged ({type(error).__name__})") from error
    if head[:2] != [_MAGIC, _VERSION] or not isinstance(head[2], dict) or head[2].get("little_endian") is not True:
        raise ValueError("it is no file of PyTorch's old format")
    if not isinstance(tensors, dict) or not all(isinstance(k, str) and isinstance(t, _Tensor) for k, t in tensors.items()):
        raise ValueError("it holds something else than tensors by name")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if not isinstance(keys, list) or len(keys) != len(storages) or set(keys) != storages.keys():
        raise ValueError("its storages are not those of its tensors")
    values = {key: _values(file, storages[key]) for key in keys}
    if file.read(1):
        raise ValueError("it goes on after its end")
    return {name: _array(tensor, values) for name, tensor in tensors.items()}


def _values(file: io.BytesIO, storage: _Storage) -> np.ndarray:
    length, values = file.read(8), file.read(storage.size * storage.dtype.itemsize)
    if length != struct.pack("<q", storage.size) or len(values) != storage.size * storage.dtype.itemsize:
        raise ValueError("it is cut off, or a storage in it has another length")
    return np.frombuffer(values, storage.dtype)


def _array(tensor: _Tensor, values: dict[str, np.ndarray]) -> np.ndarray:
    stored = values[tensor.storage.key]
    if stored.dtype != tensor.storage.dtype or len(stored) != tensor.storage.size:
        raise ValueError("two tensors in it take one storage for two things")
    strides = [stride * stored.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(stored[tensor.offset :], tensor.shape, strides, writeable=False).copy(order="C")
