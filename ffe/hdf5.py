"""HDF5 files that others made: they point at no other file, run no foreign filter, and claim no more than they can hold."""

from __future__ import annotations

import math
import os
from collections.abc import Collection

import h5py
import numpy as np

# HDF5's numbers of filters that ffe or Keras write; it would look for the libraries of others on this machine.
# 32001 is Blosc, https://github.com/HDFGroup/hdf5_plugins
_FILTERS = {
    *(h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF),
    32001,
}
_MOST_RATIO = 1100  # deflate cannot do more
_SLACK_BYTES = 1 << 24
_MOST_VALUES = 1 << 16  # of an attribute
_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])  # to a text of any length


def check_contents(
    file: h5py.File,
    *,
    soft: Collection[str] = (),
    virtual: Collection[str] = (),
    depth: int = 1,
    size: int | None = None,
) -> None:
    """Check every member of a file before one is read.

    A member is a dataset, or a group (no deeper than ``depth``), linked directly.
    Its values lie in this very file, behind known filters, and fill no more
    memory than the bytes of the file account for.

    Args:
        file: open.
        soft: names at the root that may be soft links, and that nobody reads.
        virtual: names of datasets at the root that may show other files' rows.
        depth: levels of groups below the root.
        size: bytes of the file, where it lies in memory.

    Raises:
        ValueError: one of that does not hold; the text names the member.
        Exception: what h5py raises on damage.
    """
    room = os.stat(file.filename).st_size if size is None else size
    if file.userblock_size:
        raise ValueError("something stands in front of it")
    _check_attributes(file)
    for name, member in _members(file, depth, soft):
        _check_attributes(member)
        if isinstance(member, h5py.Dataset):
            _check_dataset(member, name, room, name in virtual)
            if (texts := _bytes_of_texts(member, on_disk=size is None)) > room:
                raise ValueError(f"the texts of '{name}' claim {texts:,} bytes, which the file does not hold")


def _members(
    group: h5py.Group, depth: int, soft: Collection[str] = (), above: str = ""
) -> list[tuple[str, h5py.Dataset | h5py.Group]]:
    """Return (path, member) of all that is linked below a group; nothing is followed that is no direct link."""
    found: list[tuple[str, h5py.Dataset | h5py.Group]] = []
    for name in list(group.id):
        path = above + os.fsdecode(name)
        kind = group.id.links.get_info(name).type
        if kind == h5py.h5l.TYPE_SOFT and path in soft:
            continue
        if kind != h5py.h5l.TYPE_HARD:
            raise ValueError(f"'{path}' is a link to somewhere else, which ffe never follows")
        member = group[name]
        if isinstance(member, h5py.Group) and depth:
            found += [(path, member), *_members(member, depth - 1, (), f"{path}/")]
        elif isinstance(member, h5py.Dataset):
            found.append((path, member))
        else:
            raise ValueError(f"'{path}' is nothing that belongs here")
    return found


def _check_attributes(member: h5py.Dataset | h5py.Group) -> None:
    for name in member.attrs:
        shape = member.attrs.get_id(name).shape
        if math.prod(shape) > _MOST_VALUES:
            raise ValueError(f"its attribute '{name}' has {math.prod(shape):,} values")


def _check_dataset(dataset: h5py.Dataset, name: str, room: int, may_be_virtual: bool) -> None:
    properties = dataset.id.get_create_plist()
    if properties.get_external_count():
        raise ValueError(f"'{name}' keeps its values in another file, which ffe never reads")
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        if not may_be_virtual:
            raise ValueError(f"'{name}' shows values of other files, which ffe never reads")
        return
    filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
    if filters - _FILTERS:
        raise ValueError(f"'{name}' stands behind the filter {min(filters - _FILTERS)}, which ffe does not write")
    if dataset.shape is None:
        raise ValueError(f"'{name}' is empty")
    claimed = math.prod(dataset.shape) * dataset.id.get_type().get_size()
    stored = dataset.id.get_storage_size()
    if stored > room or claimed > (_MOST_RATIO * stored + _SLACK_BYTES if filters else stored):
        raise ValueError(f"'{name}' claims {claimed:,} bytes, which the file does not hold")


def _bytes_of_texts(dataset: h5py.Dataset, *, on_disk: bool) -> int:
    """Return how long the texts of any length in a dataset are together, without reading them: many may be the same one."""
    dtype = dataset.dtype
    fields = [dtype[name] for name in dtype.names] if dtype.names else [dtype]
    varying = [field for field in fields if field.kind == "O"]
    if not varying or not dataset.size or dataset.is_virtual:
        return 0
    count, offset = dataset.size * len(fields), dataset.id.get_offset()
    if (
        len(varying) < len(fields)
        or dataset.id.get_storage_size() != _REFERENCE.itemsize * count
        or offset is None
        or not on_disk
    ):
        raise ValueError("its texts are stored as ffe never stored them")
    return int(np.fromfile(dataset.file.filename, _REFERENCE, count, offset=offset)["length"].sum(dtype=np.int64))
