"""``export``: a model or a feature file in, a file for other programs out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ffe.base.file_access import HDF5_FILE, is_model, kind_of_ours
from ffe.bundle.io import Bundle
from ffe.commands.export_features import FeatureExport, export_features
from ffe.commands.export_model import ModelExport, export_model
from ffe.errors import SpecError
from ffe.exporting.model_formats import MODEL_FORMATS


def export(
    file: str | os.PathLike[str] | Bundle,
    output: str | os.PathLike[str],
    *,
    format: str | None = None,
    precision: str = "float32",
    image: bool = False,
    check: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ModelExport | FeatureExport:
    """Write a model, or what a feature file holds, for other programs.

    See ``ffe.commands.export_model`` and ``ffe.commands.export_features``.

    Args:
        file: a model file, or one that is open; or a feature file.
        output: what is written; it is there whole, or not at all.
        format: of a model ``onnx``, ``tflite``, ``keras``, ``savedmodel``, ``openvino`` or ``coreml``; of features ``parquet``,
            ``npz``, ``csv`` or ``torch`` (a ``.safetensors`` file); None = as the ending of ``output`` says.
        precision: of a model, ``float32``, ``float16`` or ``int8``, where the format has it.
        image: whether a model takes one photo of any size, and does the resize itself.
        check: a folder of photos, or another source, that a model is asked about too, up to 50 of them; for int8 they set the
            ranges.
        overwrite: replace an export that is there; other files never are.
        progress: of features, called with the number of rows written, and of all rows.

    Raises:
        BundleError, StoreError: the file cannot be used, or is damaged.
        SpecError: there is no such format, its package is not installed, or the ending is that of another one.
        EngineError, ModelMismatchError: the format cannot hold this model, or the file answered otherwise than the model.
        SourceError: there are no photos in ``check``.
        ReportError: the output cannot be written.
    """
    of_model = precision != "float32" or image or check is not None
    if isinstance(file, Bundle) or _is_model(Path(file), of_model or _is_of_models(output, format)):
        return export_model(file, output, format=format, precision=precision, image=image, check=check, overwrite=overwrite)
    if of_model:
        raise SpecError("--precision, --image and --check are for models; a feature file is written as it is.")
    return export_features(file, output, format=format, overwrite=overwrite, progress=progress)


def _is_model(file: Path, wanted: bool) -> bool:
    """Return whether a file is a model; where one is ``wanted``, any that is no feature file: who reads it says what it is."""
    return is_model(file) or (wanted and kind_of_ours(file) != HDF5_FILE)


def _is_of_models(output: str | os.PathLike[str], format: str | None) -> bool:
    """Return whether an output is one of a model, by its format or its ending."""
    suffix = os.path.splitext(output)[1].lower()
    return format in MODEL_FORMATS or any(suffix == one.suffix != "" for one in MODEL_FORMATS.values())
