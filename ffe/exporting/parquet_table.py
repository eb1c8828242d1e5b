"""Apache Parquet: features as a column of fixed-size lists, what is said of them in the schema's metadata."""

from __future__ import annotations

from typing import BinaryIO

from ffe.exporting.feature_table import ABOUT, FEATURES, NUMBERS, TEXTS, FeatureTable, TableFormat


def write(table: FeatureTable, file: BinaryIO) -> None:
    """Write a group of rows for each block; an empty text is null."""
    import pyarrow
    from pyarrow import parquet

    values = pyarrow.from_numpy_dtype(table.dtype)
    schema = pyarrow.schema(
        [
            *((name, pyarrow.string()) for name in TEXTS),
            *((name, pyarrow.from_numpy_dtype(dtype)) for name, dtype in NUMBERS.items()),
            (FEATURES, pyarrow.list_(values, table.shape[1])),
        ],
        metadata={ABOUT: table.about_json()},
    )
    options = {"compression": "zstd", "use_dictionary": ["label", "split", "group"], "write_page_checksum": True}
    with parquet.ParquetWriter(file, schema, **options) as writer:
        for rows in table.slices():
            columns = [
                pyarrow.array([text or None for text in column[rows]], pyarrow.string()) for column in table.texts.values()
            ]
            columns += [pyarrow.array(column[rows]) for column in table.numbers.values()]
            flat = pyarrow.array(table.features(rows).reshape(-1))
            columns.append(pyarrow.FixedSizeListArray.from_arrays(flat, table.shape[1]))
            writer.write_batch(pyarrow.record_batch(columns, schema=schema))


PARQUET = TableFormat("parquet", ".parquet", write, packages=("pyarrow",))
