"""A table that ``ffe export`` wrote of a feature file -> that feature file again, for as long as it is needed."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffe.base.arrays import empty_array
from ffe.base.feature_layout import FeatureLayout
from ffe.base.file_access import PARQUET_SIGNATURE, first_bytes, is_table, unopened
from ffe.base.openvino_ir import map_member
from ffe.base.text import counted
from ffe.errors import SpecError, StoreError, is_unwritten, missing, one_line, unwritten
from ffe.exporting.feature_table import ABOUT, FEATURES, TEXTS, VERSION
from ffe.exporting.npz_table import ABOUT_MEMBER
from ffe.specs import ExtractSpec, ViewsSpec
from ffe.splits.holdout import TEST, TRAIN, VALID
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row
from ffe.store.writer import write_store

log = logging.getLogger("ffe")

_ABOUT_ARRAY = f"{ABOUT_MEMBER}.npy"  # what np.savez makes of it
_MOST_HEADER = 1 << 16
_BLOCK_VALUES = 1 << 21
_SMALL = (*TEXTS, "view", "phash")
Table = tuple[dict[str, Any], Mapping[str, np.ndarray]]


@contextlib.contextmanager
def open_features(path: str | os.PathLike[str]) -> Iterator[FeatureStore]:
    """Open a feature file; or a table of ``ffe export``, Parquet or npz, as the feature file that it was made from.

    Rows may be fewer than there were, in another order, and have other labels, splits and groups. The features are written to
    a temporary feature file; those of Parquet are held on the way, on the disk where memory is short.

    Raises:
        StoreError: see ``FeatureStore``; or the table says nothing of ffe, is damaged, has no rows, or holds features of another
            type than they had, an unknown split, or int8 features, whose backbone only the feature file has.
        SpecError: the package for it is not installed.
    """
    file = Path(path)
    if not is_table(file):
        with FeatureStore(path) as store:
            yield store
        return
    read = _parquet if first_bytes(file, 4) == PARQUET_SIGNATURE else _npz
    if read is _parquet and importlib.util.find_spec("pyarrow") is None:
        raise SpecError(missing("A Parquet file", "pyarrow", instead="give a feature file"))
    with tempfile.TemporaryDirectory(prefix="ffe-table-") as folder:
        made = Path(folder) / "features.h5"
        log.info("reading the table '%s' into a temporary feature file", file)
        try:
            _write(made, file, *read(file))
        except (OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, zipfile.BadZipFile) as error:
            if isinstance(error, OSError) and error.errno is not None:  # pyarrow has others, without a number
                temporary = unwritten(made, error, "temporary feature file")
                raise StoreError(temporary if is_unwritten(error) else unopened(file, error)) from error
            raise _damaged(file, one_line(error)) from error
        try:
            made_store = FeatureStore(made)
        except StoreError as error:
            raise _damaged(file, "its columns do not fit together") from error
        with made_store as store:
            store.path = file
            yield store


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(f"The table '{path}' is damaged, or lacks what it had ({why}); export it again.")


def _foreign(path: Path) -> StoreError:
    return StoreError(
        f"'{path}' does not say which network made its features, as tables of 'ffe export' do; "
        "give one of those, or a feature file."
    )


def _about(path: Path, text: bytes) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(text)
    if about["version"] != VERSION:
        raise StoreError(f"'{path}' was written by a later version of ffe ({about['ffe_version']}); install that version.")
    if about["spec"]["precision"] == "int8":
        raise StoreError(f"'{path}' holds int8 features, whose backbone only the feature file has; give the feature file.")
    return about


def _check_shape(path: Path, rows: int, found: np.dtype, spec: Mapping[str, Any]) -> None:
    if not rows:
        raise StoreError(f"The table '{path}' has no rows; give one with some, or the feature file.")
    if found != np.dtype(spec["dtype"]):
        raise StoreError(f"The features of '{path}' are {found}, but were {spec['dtype']}; write them so, or export it again.")


def _npz(path: Path) -> Table:
    """Return what a file says, and its columns by name, which stay in it until they are read."""
    with zipfile.ZipFile(path) as archive:
        if not {ABOUT_MEMBER, _ABOUT_ARRAY} & set(archive.namelist()):
            raise _foreign(path)
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):  # it may be larger than it seems
            raise ValueError("it is compressed")
        if (broken := archive.testzip()) is not None:
            raise ValueError(f"its member {broken} is not as it was written")
        plain = ABOUT_MEMBER in archive.namelist()
        text = archive.read(ABOUT_MEMBER) if plain else _array(path, ABOUT_MEMBER).tobytes()
    about = _about(path, text)
    columns = {name: _array(path, name) for name in (*_SMALL, FEATURES)}
    _check_shape(path, len(columns[FEATURES]), columns[FEATURES].dtype, about["spec"])
    return about, columns


def _array(path: Path, name: str) -> np.ndarray:
    """Return an array of an npz, which stays in it until it is read."""
    member = map_member(path, f"{name}.npy")
    head = io.BytesIO(member[:_MOST_HEADER].tobytes())
    np.lib.format.read_magic(head)
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(head)
    return member[head.tell() :].view(dtype).reshape(shape, order="F" if by_columns else "C")


def _parquet(path: Path) -> Table:
    """Return what a file says, and its columns by name."""
    from pyarrow import ArrowException, compute, parquet

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            if ABOUT.encode() not in (file.schema_arrow.metadata or {}):
                raise _foreign(path)
            about = _about(path, file.schema_arrow.metadata[ABOUT.encode()])
            columns = {name: file.read([name])[name].to_numpy() for name in _SMALL}
            shape = file.metadata.num_rows, FeatureLayout.from_json(about["layout"]).dims
            dtype = np.dtype(file.schema_arrow.field(FEATURES).type.value_type.to_pandas_dtype())
            _check_shape(path, shape[0], dtype, about["spec"])
            columns[FEATURES] = empty_array(shape, dtype.type)
            start = 0
            for batch in file.iter_batches(max(1, _BLOCK_VALUES // shape[1]), columns=[FEATURES]):
                end = start + len(batch)
                if (compute.list_value_length(batch[0]).to_numpy(zero_copy_only=False) != shape[1]).any():
                    raise ValueError(f"a row has not {counted(shape[1], 'feature')}")
                columns[FEATURES][start:end] = batch[0].flatten().to_numpy().reshape(-1, shape[1])
                start = end
    except ArrowException as error:
        raise ValueError(one_line(error)) from error
    return about, columns


def _write(made: Path, path: Path, about: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> None:
    """Write the feature file; classes are those of the table, and behind them what else its labels name."""
    texts = {name: [text or "" for text in columns[name].tolist()] for name in TEXTS}
    classes = list(dict.fromkeys([*about["class_names"], *sorted(set(texts["label"]) - {""})]))
    if unknown := set(texts["split"]) - {TRAIN, VALID, TEST, ""}:
        raise StoreError(f"'{path}' has the split '{min(unknown)}'; use train, valid or test, or leave it empty.")
    numbers = {name: i for i, name in enumerate(classes)} | {"": -1}
    labels = [numbers[label] for label in texts["label"]]
    views, hashes = columns["view"].tolist(), columns["phash"].tolist()
    found = zip(texts["path"], texts["sha256"], labels, texts["split"], views, hashes, texts["group"], strict=True)
    rows = [Row(*values) for values in found]
    if len(rows) != len(columns[FEATURES]):
        raise ValueError("it has not as many features as paths")
    places = {(row.path, row.view): i for i, row in enumerate(rows)}
    if len(places) < len(rows):
        raise ValueError("two rows have the same path and view")
    write_store(
        made,
        spec=ExtractSpec.from_json(about["spec"]),
        layout=FeatureLayout.from_json(about["layout"]),
        class_names=classes,
        rows=rows,
        features=lambda row: columns[FEATURES][places[row.path, row.view]],
        judged_by=about["judged_by"],
        source=about["source"],
        sources=about["sources"],
        views=None if about["views"] is None else ViewsSpec.from_json(about["views"]),
    )
