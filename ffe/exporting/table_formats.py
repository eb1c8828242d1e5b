"""The formats that feature files can be exported to. A new one is a file with a ``TableFormat``, and its entry here."""

from __future__ import annotations

from ffe.exporting.csv_table import CSV
from ffe.exporting.feature_table import TableFormat
from ffe.exporting.npz_table import NPZ
from ffe.exporting.parquet_table import PARQUET
from ffe.exporting.safetensors_table import TORCH

TABLE_FORMATS: dict[str, TableFormat] = {one.name: one for one in (PARQUET, NPZ, CSV, TORCH)}
