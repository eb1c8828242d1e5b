"""One split for several ways of training: every image of a source with its side, in a CSV that any command takes."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ffe.base.arrays import RowSource
from ffe.base.output_file import write_output
from ffe.dataset.assign_sides import ImageSplit, Splitter
from ffe.dataset.class_checks import check_counts, check_labelled, check_two_classes
from ffe.dataset.load_features import rows_to_group
from ffe.dataset.photo_list import listed_names
from ffe.dataset.table import ImageTable, table_of_store
from ffe.errors import SourceError
from ffe.images.csv_list import SignedUrls
from ffe.images.sources import Scan, list_images
from ffe.splits.groups import find_groups
from ffe.store.reader import FeatureStore


def check_source(found: Scan) -> None:
    """Make sure that a source can be split, before anything is read."""
    check_labelled(found.class_names, found.root)
    for name in (*found.class_names, *(record.path for record in found.records)):
        if name != name.strip():
            raise SourceError(
                f"The name '{name}' in '{found.root}' begins or ends with a space, which a CSV would not keep; "
                "rename the file or folder."
            )
    check_two_classes(found.class_names, f"images of '{found.root}'", "; give at least two classes.")
    check_counts(found)


class SplitCsv:
    """The labelled images of a source, and the side of each, in a CSV; what an earlier run wrote there is the start."""

    def __init__(self, found: Scan, path: Path) -> None:
        self.path = path
        self._found = found
        self._records = [record for record in found.records if record.label >= 0]
        self._names = listed_names([record.file for record in self._records], path.parent)
        self._signed = SignedUrls(path, (record.file for record in self._records))  # which the CSV does not have
        self._given = {name: record.split for name, record in zip(self._names, self._records, strict=True)}
        try:
            before = {record.path: record.split for record in list_images(path).records}
        except SourceError:
            before = {}
        self._write(before)

    def split_features(self, features: Path, splitter: Splitter, test_fraction: float) -> ImageSplit:
        """Deal the images whose features were extracted from the CSV."""
        with FeatureStore(features) as store:
            rows = store.plain
            photos = table_of_store(store, rows, self._found.class_names, list_images(self.path))
            pooled = rows_to_group([store], np.stack([np.zeros_like(rows), rows], axis=1), photos.paths)
            return self.split(photos, pooled, splitter, test_fraction)

    def split(self, photos: ImageTable, pooled: RowSource | None, splitter: Splitter, test_fraction: float) -> ImageSplit:
        """Write the sides into the CSV, which loses what cannot be read or is left out; without ``pooled`` hashes tell copies."""
        photos = dataclasses.replace(photos, given=tuple(self._given[name] for name in photos.paths))
        groups = find_groups(photos.sha256, photos.phash, pooled, photos.named)
        assigned = splitter.split_anew(photos, groups, test_fraction, once=True)
        sides = zip(assigned.images.paths, assigned.side.tolist(), strict=True)
        self._write({path: side for path, side in sides if side}, only=True)
        return assigned

    def _write(self, sides: Mapping[str, str], *, only: bool = False) -> None:
        file = io.StringIO(newline="")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "label", "split", "group"))
        for name, record in zip(self._names, self._records, strict=True):
            if not only or name in sides:
                writer.writerow((name, self._found.class_names[record.label], sides.get(name, ""), record.group))
        content = file.getvalue().encode()
        if not self.path.is_file() or self.path.read_bytes() != content:
            write_output(self.path, content, "list of images")
