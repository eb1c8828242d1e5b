"""Several feature files of one spec -> what one file of all their rows says."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ffe.base.text import composed, relabelled
from ffe.errors import StaleStoreError, StoreError
from ffe.specs import Compression, spec_differences
from ffe.store.compression import compression_choice, filter_options
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row, Skipped
from ffe.store.virtual import Part
from ffe.store.writer import write_like


@dataclass(frozen=True)
class Merged:
    """All rows of several files, each once."""

    class_names: tuple[str, ...]  # of all files, sorted
    rows: list[Row]  # file after file, with labels of these classes
    origin: dict[tuple[str, int], tuple[int, int]]  # (file, row in it) of each of them, by path and view
    duplicates: int  # images that a file before had already
    skipped: tuple[Skipped, ...]  # files that gave no row in any of them, sorted by path
    sources: tuple[str, ...]  # the folders that paths are relative to

    def runs(self, file: int) -> tuple[tuple[int, int], ...]:
        """Return (first row, how many) of what is taken from one of the files, in order."""
        rows = np.asarray([row for number, row in self.origin.values() if number == file], np.int64)
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        return tuple((int(run[0]), len(run)) for run in runs if len(run))


def merge(stores: Sequence[FeatureStore]) -> Merged:
    """Put the rows of open feature files together; a StoreError says that they do not fit, or contradict each other."""
    first = stores[0]
    for store in stores[1:]:
        if store.spec_digest != first.spec_digest or store.layout != first.layout:
            words = (f"'{store.path}' has", f"'{first.path}' has")
            differences = "; ".join(spec_differences(store.spec, first.spec, words)) or "another grid"
            raise StaleStoreError(
                f"'{store.path}' and '{first.path}' hold different features ({differences}); "
                "pack files that were extracted with the same options, and int8 files with --like the first."
            )
    class_names = tuple(sorted({name for store in stores for name in store.class_names}))
    rows: dict[tuple[str, int], Row] = {}
    origin: dict[tuple[str, int], tuple[int, int]] = {}
    duplicates = 0
    known_as = _spellings(stores)
    for number, store in enumerate(stores):
        labels = relabelled(store.class_names, class_names)
        for i, row in enumerate(store.rows()):
            row = replace(row, label=labels[row.label], path=known_as(row.path))
            key = (row.path, row.view)
            if key in rows:
                _check_same(rows[key], row, class_names, stores[origin[key][0]], store)
                duplicates += row.view == 0
            else:
                rows[key], origin[key] = row, (number, i)
    skipped: dict[str, Skipped] = {}
    for store in stores:
        for item in store.skipped:
            if (path := known_as(item.path), 0) not in rows:
                skipped.setdefault(path, replace(item, path=path))
    return Merged(
        class_names,
        list(rows.values()),
        origin,
        duplicates,
        tuple(skipped[path] for path in sorted(skipped)),
        tuple(dict.fromkeys(source for store in stores for source in store.sources)),
    )


def _spellings(stores: Sequence[FeatureStore]) -> Callable[[str], str]:
    """Return what tells how a path of any file is spelt in all: as the first file does, where paths only look the same.

    Where a source itself has two files whose paths look the same, all files spell these paths as they do.
    """
    first: dict[str, str] = {}  # of each path that is not ASCII, composed
    of_source: dict[tuple[str, str], str] = {}
    apart = set[str]()
    of_rows = ((store.source, path) for store in stores for path in store.paths)
    of_skipped = ((store.source, item.path) for store in stores for item in store.skipped)
    for source, path in itertools.chain(of_rows, of_skipped):
        if not path.isascii():
            name = composed(path)
            first.setdefault(name, path)
            if of_source.setdefault((source, name), path) != path:
                apart.add(name)

    def known_as(path: str) -> str:
        return path if (name := composed(path)) in apart else first.get(name, path)

    return known_as


def _check_same(old: Row, new: Row, class_names: Sequence[str], old_store: FeatureStore, new_store: FeatureStore) -> None:
    if old.sha256 != new.sha256:
        raise StoreError(
            f"'{old.path}' is one picture in '{old_store.path}' and another in '{new_store.path}'; "
            "extract both sources from a folder above them, so that their paths differ."
        )
    for what, one, other in (
        ("class", *((class_names[row.label] if row.label >= 0 else "none") for row in (old, new))),
        ("split", old.split or "none", new.split or "none"),
        ("group", old.group or "none", new.group or "none"),
    ):
        if one != other:
            raise StoreError(
                f"'{old.path}' has the {what} '{one}' in '{old_store.path}' and '{other}' in '{new_store.path}'; "
                "extract one of them again with the right one."
            )


def write_merged(
    stores: Sequence[FeatureStore], merged: Merged, path: Path, *, virtual: bool = False, compress: Compression | None = None
) -> Compression:
    """Write the rows of open feature files into one, or if it is virtual a file that shows them where they are.

    ``compress``: how features are compressed; None = as those of the files, if they agree. Returns how they are. Raises what
    ``write_store`` and ``virtual_parts`` do.
    """
    compression, parts = compress or "none", []
    if virtual:
        folder = Path(os.path.realpath(path)).parent
        parts = virtual_parts(stores, merged, [_relative(store.path.resolve(), folder) for store in stores])
    elif compress is None:
        compression = compression_choice({file.compression for store in stores for file in store.parts or (store,)})
    filter_options(compression)

    def features(row: Row) -> np.ndarray:
        number, i = merged.origin[row.path, row.view]
        return stores[number].raw_row(i)

    def recorded(row: Row) -> int | None:
        number, i = merged.origin[row.path, row.view]
        crc32 = stores[number].crc32
        return int(crc32[i]) if virtual and crc32 is not None else None

    write_like(
        stores[0],
        path,
        class_names=merged.class_names,
        rows=merged.rows,
        features=features,
        skipped=merged.skipped,
        judged_by=stores[0].judged_by if len({store.judged_by for store in stores}) == 1 else "",
        source="; ".join(merged.sources),
        sources=merged.sources,
        compress=compression,
        recorded=recorded,
        parts=parts,
    )
    return compression


def _relative(file: Path, folder: Path) -> str:
    """Return where a file lies as seen from a folder, with ``/``."""
    try:
        return Path(os.path.relpath(file, folder)).as_posix()
    except ValueError:  # on another drive, on Windows
        return file.as_posix()


def virtual_parts(stores: Sequence[FeatureStore], merged: Merged, names: Sequence[str]) -> list[Part]:
    """Return what a virtual file records of its parts, whose paths relative to it are ``names``, if they can be parts."""
    parts = []
    for number, (store, name) in enumerate(zip(stores, names, strict=True)):
        if store.parts:
            raise StoreError(f"'{store.path}' is virtual, so it cannot be a part of another file; pack it into one file first.")
        if store.tables_sha256 is None:
            raise StoreError(
                f"'{store.path}' has no checksums, so a virtual file could not tell it from another; "
                f"add them with 'ffe pack {store.path} -o NEW.h5'."
            )
        if runs := merged.runs(number):
            parts.append(Part(name, len(store), store.tables_sha256, runs))
    return parts
