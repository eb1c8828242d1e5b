"""Arrays out of files of PyTorch's old format: what is right is read, nothing else runs or is taken."""

from __future__ import annotations

import collections
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ffe.backbones.torch_checkpoint import _KNOWN, read_arrays

MAGIC, MACHINE = 0x1950A86A20F9469CFC6C, {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}


class Named:
    """Pickles as a name that the reader looks up."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __reduce__(self) -> str:
        return self.name


class Writer(pickle._Pickler):  # type: ignore[name-defined]
    """Writes names without importing them, and storages as PyTorch does."""

    def persistent_id(self, value: Any) -> Any:
        return value.identity if isinstance(value, Storage) else None

    def save_global(self, value: Any, name: str | None = None) -> None:
        if isinstance(value, Named):
            self.write(b"c" + f"{value.module}\n{value.name}\n".encode())
        else:
            super().save_global(value, name)


class Storage:
    def __init__(self, *identity: Any) -> None:
        self.identity = identity


class Tensor:
    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any) -> None:
        self.arguments = (storage, offset, shape, strides, False, collections.OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return Called("torch._utils", "_rebuild_tensor_v2"), self.arguments


class Called(Named):
    def __call__(self, *arguments: Any) -> None:
        """Only so that pickle takes it for a function."""


FLOATS = Named("torch", "FloatStorage")


def storage(count: int = 6, kind: Any = FLOATS, key: str = "1") -> Storage:
    return Storage("storage", kind, key, "cpu", count, None)


def written(path: Path, *objects: Any, values: bytes = b"") -> bytes:
    with path.open("wb") as file:
        for value in objects:
            Writer(file, 2).dump(value)
        file.write(values)
    return path.read_bytes()


def file_of(
    path: Path, tensors: Any, keys: Any = ("1",), count: int = 6, head: tuple[Any, ...] = (MAGIC, 1001, MACHINE)
) -> bytes:
    values = struct.pack("<q", count) + np.arange(count, dtype="<f4").tobytes()
    return written(path, *head, tensors, list(keys), values=values)


def test_tensors_of_any_strides_are_read(tmp_path: Path) -> None:
    tensors = {
        "rows": Tensor(storage(), 0, (2, 3), (3, 1)),
        "columns": Tensor(storage(), 0, (2, 3), (1, 2)),
        "end": Tensor(storage(), 4, (2,), (1,)),
        "number": Tensor(storage(), 5, (), ()),
    }
    found = read_arrays(file_of(tmp_path / "f.pth", collections.OrderedDict(tensors)))
    assert {name: array.tolist() for name, array in found.items()} == {
        "rows": [[0, 1, 2], [3, 4, 5]],
        "columns": [[0, 2, 4], [1, 3, 5]],
        "end": [4, 5],
        "number": 5,
    }
    assert all(array.dtype == np.float32 and array.flags.c_contiguous and array.flags.owndata for array in found.values())


class Hostile:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (Hostile(os.system, "touch {}"), f"{os.system.__module__}.system"),
        (Hostile(eval, "open('{}', 'w')"), "builtins.eval"),
        (Hostile(getattr, "text", "upper"), "builtins.getattr"),
    ],
)
@pytest.mark.parametrize("place", range(5))
def test_a_hostile_file_runs_nothing(tmp_path: Path, call: Hostile, named: str, place: int) -> None:
    trace = tmp_path / "trace"
    function, arguments = call.call
    bad = Hostile(function, *(text.format(trace) for text in arguments))
    objects: list[Any] = [MAGIC, 1001, MACHINE, {"x": Tensor(storage(), 0, (6,), (1,))}, ["1"]]
    objects[place] = bad
    with pytest.raises(ValueError, match=rf"^it names {named.replace('__builtin__', 'builtins')}, of which no weights are made$"):
        read_arrays(written(tmp_path / "f.pth", *objects).replace(b"c__builtin__\n", b"cbuiltins\n"))
    assert not trace.exists()


@pytest.mark.parametrize("name", [f"{module} {name}" for module, name in _KNOWN])
@pytest.mark.parametrize(
    "state", [({"dtype": "V", "__defaults__": "V", "shape": "V"}, None), (None, {"dtype": "V"}), (None, {"__defaults__": ()})]
)
def test_what_a_file_names_cannot_be_changed(name: str, state: tuple[Any, Any]) -> None:
    known = _KNOWN[tuple(name.split())]  # type: ignore[index]
    before = [getattr(known, attribute, None) for attribute in ("dtype", "__defaults__", "shape")]
    hostile = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n" + pickle.dumps(state, 2)[2:-1] + b"b."
    with pytest.raises(ValueError, match=r"^it is damaged "):
        read_arrays(hostile)
    assert [getattr(known, attribute, None) for attribute in ("dtype", "__defaults__", "shape")] == before


def test_a_tensor_cannot_be_changed_once_it_is_checked(tmp_path: Path) -> None:
    class Changed(Tensor):
        def __reduce__(self) -> tuple[Any, ...]:
            return *super().__reduce__(), {"shape": (1 << 20,)}

    with pytest.raises(ValueError, match=r"^it is damaged "):
        read_arrays(file_of(tmp_path / "f.pth", {"x": Changed(storage(), 0, (6,), (1,))}))


@pytest.mark.parametrize(
    ("data", "instruction"),
    [
        (b"\x80\x02]r\xff\xff\xff\x0f.", "LONG_BINPUT"),  # room for 2 ** 28 objects
        (b"\x80\x02]p268435455\n.", "PUT"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "NEWOBJ"),
        (b"\x80\x02]2.", "DUP"),
    ],
)
def test_instructions_that_no_weights_need_are_refused(data: bytes, instruction: str) -> None:
    with pytest.raises(ValueError, match=rf"^it has an instruction that no weights need \({instruction}\)$"):
        read_arrays(data)


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (Tensor(storage(), 0, (7,), (1,)), "a tensor in it is larger than its storage"),
        (Tensor(storage(), 1, (2, 3), (3, 1)), "a tensor in it is larger than its storage"),
        (Tensor(storage(), 0, (1 << 40,), (0,)), "a tensor in it is larger than its storage"),
        (Tensor(storage(), 0, (2, 3), (1,)), "a tensor in it has another number of axes"),
        (Tensor(storage(), -1, (2,), (1,)), "a tensor in it is none"),
        (Tensor(storage(), 0, (2,), (-1,)), "a tensor in it is none"),
        (Tensor(storage(), 0, ("2",), (1,)), "a tensor in it is none"),
        (Tensor("storage", 0, (2,), (1,)), "a tensor in it is none"),
        (Tensor(storage(-6), 0, (2,), (1,)), "a storage in it is none"),
        (Tensor(storage(kind=Named("collections", "OrderedDict")), 0, (2,), (1,)), "a storage in it is none"),
        (Tensor(storage(kind=Named("torch", "HalfStorage")), 0, (2,), (1,)), "it names torch.HalfStorage"),
        (Tensor(Storage("module", "code"), 0, (2,), (1,)), "a storage in it is none"),
        ("text", "it holds something else than tensors by name"),
        (Tensor(storage(key="2"), 0, (2,), (1,)), "its storages are not those of its tensors"),
        (Tensor(storage(5), 0, (2,), (1,)), "it is cut off, or a storage in it has another length"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, tensor: Any, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}"):
        read_arrays(file_of(tmp_path / "f.pth", {"x": tensor}))


def test_a_file_that_is_cut_off_or_goes_on_is_refused(tmp_path: Path) -> None:
    data = file_of(tmp_path / "f.pth", {"x": Tensor(storage(), 0, (6,), (1,))})
    read_arrays(data)
    for end in range(len(data)):
        with pytest.raises(ValueError, match="it is"):
            read_arrays(data[:end])
    with pytest.raises(ValueError, match="it goes on after its end"):
        read_arrays(data + b"x")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    tensors = {"x": Tensor(storage(), 0, (6,), (1,))}
    for head in ((1, 1001, MACHINE), (MAGIC, 2, MACHINE), (MAGIC, 1001, {**MACHINE, "little_endian": False})):
        with pytest.raises(ValueError, match="it is no file of PyTorch's old format"):
            read_arrays(file_of(tmp_path / "f.pth", tensors, head=head))
    with pytest.raises(ValueError, match="it is damaged"):
        read_arrays(b"PK\x03\x04")
