"""Archives and tables of the images of a folder of class folders, for tests."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def class_files(folder: Path) -> list[Path]:
    """Return the images of class folders, sorted."""
    return sorted(folder.glob("*/*.*"))


def put_tar(path: Path, members: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> Path:
    """Write a tar of files."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def put_zip(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a zip of files."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def put_parquet(
    path: Path,
    images: Sequence[bytes | None],
    names: Sequence[str] = (),
    rows_a_group: int = 7,
    **columns: Sequence[object],
) -> Path:
    """Write a table as Hugging Face lays it out, with the ``names`` of classes in its metadata."""
    import pyarrow
    from pyarrow import parquet

    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(names)}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()} if names else None
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    column = pyarrow.array([{"bytes": data, "path": None} for data in images], kind)
    table = pyarrow.table({"image": column, **columns}).replace_schema_metadata(about)
    parquet.write_table(table, path, row_group_size=rows_a_group)
    return path


def put_list(path: Path, rows: Iterable[Sequence[str]]) -> Path:
    """Write a CSV of images."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return path
