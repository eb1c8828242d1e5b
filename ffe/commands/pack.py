"""``pack``: several feature files in, one out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ffe.base.text import overwrite_refusal
from ffe.errors import StaleStoreError, StoreError
from ffe.extraction.request import check_output
from ffe.extraction.views import views_text
from ffe.specs import Compression
from ffe.store.journal import Journal
from ffe.store.merge import merge, write_merged
from ffe.store.reader import FeatureStore


@dataclass(frozen=True)
class PackSummary:
    """What was packed."""

    output: Path  # the new file
    files: int  # how many went in
    rows: int  # of the new file
    duplicates: int  # images that stood in more than one file, kept once
    class_names: tuple[str, ...]  # of all files
    virtual: bool  # whether the features stay where they are
    compression: str  # of the features; of a virtual file none of its own
    bytes: int  # size of the new file

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe pack --json`` prints."""
        return {**asdict(self), "output": str(self.output)}


def pack(
    files: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    virtual: bool = False,
    compress: Compression | None = None,
    overwrite: bool = False,
) -> PackSummary:
    """Make one feature file of several that share a spec; of one, to add checksums or to compress it.

    Rows of one image are kept once. Classes are matched by name. Every row is
    held against its checksum on the way, and memory stays flat.

    Args:
        files: feature files.
        output: the new file.
        virtual: leave the features where they are, and refer to them by relative paths.
        compress: how the features are compressed; None = as those of the files, if they agree, else not.
        overwrite: replace an existing feature file, such as one of ``files``.

    Raises:
        StaleStoreError: the files hold features of different specs, or different views.
        StoreError: a file cannot be used or is damaged, two contradict each other
            about an image, or the output cannot be written.
    """
    path = Path(output)
    check_output(path, overwrite=True)
    if (refusal := overwrite_refusal(path, "feature file", overwrite=overwrite)) is not None:
        raise StoreError(refusal)
    with contextlib.ExitStack() as opened:
        with FeatureStore(files[0]) as store:
            lock = Journal(path, store.spec, overwrite=overwrite)  # first: the output may be one of the files
        opened.callback(lock.close)
        stores = [opened.enter_context(FeatureStore(file)) for file in files]
        if virtual and compress is not None:
            raise StoreError("A virtual file holds no features that could be compressed; leave --compress or --virtual out.")
        if virtual and any(path.exists() and path.samefile(store.path) for store in stores):
            raise StoreError(f"'{path}' cannot be virtual and one of its own parts; choose another output.")
        merged = merge(stores)
        _check_views(stores)
        compression = write_merged(stores, merged, path, virtual=virtual, compress=compress)
        size = path.stat().st_size
        names, rows = merged.class_names, len(merged.rows)
        return PackSummary(path, len(stores), rows, merged.duplicates, names, virtual, compression, size)


def _check_views(stores: Sequence[FeatureStore]) -> None:
    """Make sure that all files have the same views, or none of them any."""
    first, *others = stores
    for store in others:
        if store.made_views != first.made_views:
            has = ["no views" if one.made_views is None else views_text(one.made_views) for one in (store, first)]
            raise StaleStoreError(
                f"'{store.path}' has {has[0]}, and '{first.path}' has {has[1]}; extract both with the same --views and --augment."
            )
