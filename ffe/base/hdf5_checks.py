"""HDF5 files that others made: they point at no other file, run no foreign filter, and claim no more than they can hold."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import h5py
import numpy as np

# HDF5's numbers of filters that ffe or Keras write; it would look for the libraries of others on this machine.
# 32001 is Blosc, https://github.com/HDFGroup/hdf5_plugins
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF, 32001}
_MOST_RATIO = 1100  # deflate cannot do more
_SLACK_BYTES = 1 << 24
_MOST_VALUES = 1 << 16  # of an attribute
_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])  # to a text of any length


def check_contents(
    file: h5py.File,
    names: Iterable[str],
    attributes: Iterable[str] = (),
    *,
    virtual: Collection[str] = (),
    varying: bool = False,
    size: int | None = None,
) -> None:
    """Check what will be read of a file: a ValueError names the member, and h5py raises any kind on damage.

    Members that it lacks are passed over. They are looked up one by one: HDF5 1.14 crashes where it goes through the names of a
    damaged group. ``virtual`` are datasets that may show other files' rows; ``size`` is that of a file in memory, in bytes.
    ``varying`` allows texts of any length, which HDF5 keeps in heaps without checksums; it hangs on a damaged one.
    """
    file_bytes = os.stat(file.filename).st_size if size is None else size
    if file.userblock_size:
        raise ValueError("other bytes come before its content")
    for name in attributes:
        check_attribute(file, name, varying=varying)
    for name in names:
        if (member := _find(file, name)) is None:
            continue
        if not isinstance(member, h5py.Dataset):
            raise ValueError(f"'{name}' is no dataset")
        _check_dataset(member, name, file_bytes, name in virtual)
        if (texts := _bytes_of_texts(member, varying and size is None)) > file_bytes:
            raise ValueError(f"the texts of '{name}' claim {texts:,} bytes, which the file does not hold")


def check_attribute(member: h5py.Group, name: str, *, varying: bool = False) -> None:
    """Raise a ValueError where an attribute that is there has too many values, or text of any length that may not ``vary``."""
    if name not in member.attrs:
        return
    found = member.attrs.get_id(name)
    if math.prod(found.shape or ()) > _MOST_VALUES:
        raise ValueError(f"its attribute '{name}' has too many values")
    if found.dtype.hasobject and not (varying and h5py.check_string_dtype(found.dtype)):
        raise ValueError(f"its attribute '{name}' is not stored as ffe stores it")


def as_text(text: str) -> np.ndarray:
    """Return text as an attribute: UTF-8 of a fixed length, which lies beside its checksum."""
    data = text.encode("utf-8", "replace")
    return np.asarray(data, h5py.string_dtype("utf-8", max(1, len(data))))


def read_attribute(member: h5py.Group, name: str) -> Any:
    """Return an attribute as plain values: text of either kind as str, arrays as lists; a KeyError says that it is missing."""
    value = member.attrs[name]
    if isinstance(value, bytes):
        return value.decode()
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def names_of_datasets(group: h5py.Group, depth: int, above: str = "", seen: set[int] | None = None) -> Iterator[str]:
    """Yield the paths of all datasets below a group, at most so many groups deep; a ValueError where it holds anything else."""
    seen = set() if seen is None else seen
    for name in list(group):
        member, path = _find(group, name, above), above + name
        address = h5py.h5o.get_info(member.id).addr
        if address in seen:  # such names can multiply without end
            raise ValueError(f"'{path}' is in it under another name too")
        seen.add(address)
        if isinstance(member, h5py.Group) and depth:
            yield from names_of_datasets(member, depth - 1, f"{path}/", seen)
        elif isinstance(member, h5py.Dataset):
            yield path
        else:
            raise ValueError(f"'{path}' is nothing that belongs here")


def _find(group: h5py.Group, name: str, above: str = "") -> Any:
    """Return a member by its path, or None; nothing is followed that is no direct link."""
    for part in name.split("/"):
        if not isinstance(group, h5py.Group):
            raise ValueError(f"'{above}' is no group")
        if part not in group:
            return None
        above = f"{above}/{part}" if above else part
        if group.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"'{above}' is a link to somewhere else, which ffe never follows")
        group = group[part]
    return group


def _check_dataset(dataset: h5py.Dataset, name: str, file_bytes: int, may_be_virtual: bool) -> None:
    properties = dataset.id.get_create_plist()
    if properties.get_external_count():
        raise ValueError(f"'{name}' keeps its values in another file, which ffe never reads")
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        if not may_be_virtual:
            raise ValueError(f"'{name}' shows values of other files, which ffe never reads")
        return
    filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
    if filters - _FILTERS:
        raise ValueError(f"'{name}' is compressed with the filter {min(filters - _FILTERS)}, which ffe does not use")
    if dataset.shape is None:
        raise ValueError(f"'{name}' is empty")
    claimed = math.prod(dataset.shape) * dataset.id.get_type().get_size()
    stored = dataset.id.get_storage_size()
    if stored > file_bytes or claimed > (_MOST_RATIO * stored + _SLACK_BYTES if filters else stored):
        raise ValueError(f"'{name}' claims {claimed:,} bytes, which the file does not hold")


def _bytes_of_texts(dataset: h5py.Dataset, allowed: bool) -> int:
    """Return how long the texts of any length in a dataset are together, without reading them: many may be the same one."""
    dtype = dataset.dtype
    fields = [dtype[name] for name in dtype.names] if dtype.names else [dtype]
    varying = [field for field in fields if field.kind == "O"]
    if not varying or not dataset.size or dataset.is_virtual:
        return 0
    count, offset = dataset.size * len(fields), dataset.id.get_offset()
    stored = dataset.id.get_storage_size() == _REFERENCE.itemsize * count
    if len(varying) < len(fields) or not stored or offset is None or not allowed:
        raise ValueError("its texts are stored as ffe never stored them")
    return int(np.fromfile(dataset.file.filename, _REFERENCE, count, offset=offset)["length"].sum(dtype=np.int64))
