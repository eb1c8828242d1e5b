"""``export`` of a feature file: a table for pandas, NumPy, spreadsheets or PyTorch."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ffe.base.atomic import atomic_write
from ffe.base.output_file import check_output
from ffe.base.text import did_you_mean, listed, overwrite_refusal
from ffe.errors import ReportError, SpecError, missing, unwritten
from ffe.exporting.feature_table import FeatureTable, TableFormat
from ffe.exporting.table_formats import TABLE_FORMATS
from ffe.store.reader import FeatureStore

_OURS = b"ffe_version"  # in what is said of the features, by which a table of ours is known
_OUR_CSV = b"path,label,split,group,sha256,label_index,"


@dataclass(frozen=True)
class FeatureExport:
    """What was written."""

    output: Path  # the table
    format: str
    rows: int
    dims: int  # features of a row
    bytes: int  # size of the table
    about: Path | None  # the file beside it that says how the features were made; None = the table itself does

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe export --json`` prints."""
        about = None if self.about is None else str(self.about)
        return {**asdict(self), "output": str(self.output), "about": about}


def export_features(
    features: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    format: str | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FeatureExport:
    """Write a feature file as a table for other programs, block by block: memory stays flat, whatever the number of rows.

    The columns are those of ``ffe.exporting.feature_table.FeatureTable``. Every row is held against its checksum on the way.

    Args:
        features: a feature file.
        output: the table; it is there whole, or not at all.
        format: ``parquet``, ``npz``, ``csv`` or ``torch`` (a ``.safetensors`` file); None = as the ending of ``output`` says.
        overwrite: replace a table that is there; other files never are.
        progress: called with the number of rows written, and of all rows.

    Raises:
        StoreError: the feature file cannot be used, or is damaged.
        SpecError: there is no such format, its package is not installed, or the ending is that of another one.
        ReportError: the table cannot be written.
    """
    with FeatureStore(features) as store:
        kind = _format_of(output, format)
        place = _place(output, kind, store, overwrite=overwrite)
        about = place.with_name(f"{place.name}.json") if kind.sidecar else None
        if about is not None:
            _place(about, None, store, overwrite=overwrite)
        table = FeatureTable(store, progress)
        try:
            with atomic_write(place) as temporary:
                with temporary.open("wb") as file:
                    kind.write(table, file)
                if about is not None:
                    with atomic_write(about) as beside:  # in place first: no table is without it
                        beside.write_bytes(table.about_json())
        except OSError as error:
            raise ReportError(unwritten(place, error, "table")) from error
        return FeatureExport(place, kind.name, *table.shape, place.stat().st_size, about)


def _format_of(output: str | os.PathLike[str], name: str | None) -> TableFormat:
    """Return the format that is asked for, or that the ending says."""
    known = listed(tuple(TABLE_FORMATS), "or")
    by_suffix = {one.suffix: one for one in TABLE_FORMATS.values()}
    ending = by_suffix.get(os.path.splitext(os.fspath(output))[1].lower())
    if name is None and ending is None:
        endings = listed(tuple(by_suffix), "or")
        raise SpecError(f"The ending of '{os.fspath(output)}' is that of no table of features; end the name in {endings}.")
    if name is not None and name not in TABLE_FORMATS:
        hint = did_you_mean(name, TABLE_FORMATS)
        raise SpecError(f"A feature file cannot be exported as '{name}'; choose {known}.{hint}")
    kind = ending if name is None else TABLE_FORMATS[name]
    assert kind is not None
    if ending not in {None, kind}:
        right = os.path.splitext(os.fspath(output))[0] + kind.suffix
        raise SpecError(f"'{os.fspath(output)}' has the ending of another format than {kind.name}; name the output '{right}'.")
    if lacking := [package for package in kind.packages if importlib.util.find_spec(package) is None]:
        raise SpecError(missing(f"The format {kind.name}", *lacking, instead="choose another --format"))
    return kind


def _place(output: str | os.PathLike[str], kind: TableFormat | None, store: FeatureStore, *, overwrite: bool) -> Path:
    """Return where a table is to go, or with no ``kind`` what is beside it; a ReportError says why it cannot."""
    place = Path(output)
    if place.exists() and any(place.samefile(one.path) for one in (store, *store.parts)):
        raise ReportError(f"'{place}' is a feature file that is read, so it is not replaced; choose another output.")
    mark = _OUR_CSV if kind is not None and kind.sidecar else _OURS
    check_output(place, "table", f"features{'' if kind is None else kind.suffix}", mark)
    if (refusal := overwrite_refusal(place, "table", overwrite=overwrite)) is not None:
        raise ReportError(refusal)
    return place
