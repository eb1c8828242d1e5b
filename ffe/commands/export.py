"""``export``: a feature file in, a file for other programs out."""

from __future__ import annotations

import os

from ffe.commands.export_features import FeatureExport, export_features


def export(
    file: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    format: str | None = None,
    overwrite: bool = False,
) -> FeatureExport:
    """Write what a feature file holds for other programs, as a table; see ``ffe.commands.export_features``.

    Args:
        file: a feature file.
        output: the table; it is there whole, or not at all.
        format: ``parquet``, ``npz``, ``csv`` or ``torch`` (a ``.safetensors`` file); None = as the ending of ``output`` says.
        overwrite: replace a table that is there; other files never are.

    Raises:
        StoreError: the feature file cannot be used, or is damaged.
        SpecError: there is no such format, its package is not installed, or the ending is that of another one.
        ReportError: the table cannot be written.
    """
    return export_features(file, output, format=format, overwrite=overwrite)
