"""A backbone in a ``.keras`` file that others made: layers by name from a list, weights that lie in the file itself.

Keras imports and calls the classes that such a file names, and its safe mode keeps out lambdas alone; here everything is kept
out that no backbone of the catalogue is made of. https://keras.io/guides/serialization_and_saving/
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from ffe.base.forks import check_tensorflow
from ffe.base.hdf5_checks import check_contents, names_of_datasets
from ffe.errors import BackboneError, one_line

if TYPE_CHECKING:
    import keras

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_MOST_CONFIG_BYTES = 64 << 20
_AGAIN = "make the model again"
_DEPTH = 12  # of groups in the weights

_ALLOWED = {
    "keras": "DTypePolicy Sequential",
    "keras.layers": """Activation Add Average AveragePooling2D BatchNormalization Concatenate Conv2D Cropping2D Dense
        DepthwiseConv2D Dropout ELU Flatten GlobalAveragePooling2D GlobalMaxPooling2D GroupNormalization InputLayer
        LayerNormalization LeakyReLU MaxPooling2D Maximum Minimum Multiply Normalization PReLU Permute ReLU Rescaling Reshape
        SeparableConv2D Softmax SpatialDropout2D Subtract UnitNormalization UpSampling2D ZeroPadding2D""",
    "keras.initializers": """Constant GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform Ones
        OrthogonalInitializer RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros""",
    "keras.regularizers": "L1 L1L2 L2",
    "keras.src.applications.convnext": "LayerScale",
    "keras.src.applications.inception_resnet_v2": "CustomScaleLayer",
    "keras.src.models.functional": "Functional",
    "keras.src.ops.numpy": "Add Multiply",
    "builtins": "__tuple__ __keras_tensor__ __slice__",
}


def load_model(path: Path, instead: str = _AGAIN) -> keras.Model:
    """Load a backbone that was saved as a ``.keras`` file: no code runs from it; what is no backbone is a BackboneError.

    ``instead`` is what the error says to do then.
    """
    check_tensorflow()
    import keras

    check_keras_file(path, instead)
    try:
        return keras.saving.load_model(str(path), compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds on a description that makes no sense
        raise BackboneError(f"The saved backbone cannot be used: {one_line(error)}; {instead}.") from error


def check_keras_file(path: Path, instead: str = _AGAIN) -> None:
    """Make sure that a ``.keras`` file holds a backbone and nothing else."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = {info.filename: info for info in archive.infolist()}
            if not {_CONFIG, _WEIGHTS} <= set(found) <= {_CONFIG, _METADATA, _WEIGHTS} or len(found) != len(archive.infolist()):
                raise ValueError("its members are not those of a Keras model")
            if any(info.compress_type != zipfile.ZIP_STORED for info in found.values()):
                raise ValueError("its members are compressed")
            if found[_CONFIG].file_size > _MOST_CONFIG_BYTES:
                raise ValueError("its description is too long")
            config = json.loads(archive.read(_CONFIG))
            if isinstance(config, dict):
                config.pop("compile_config", None)  # how it was trained, of which nothing is loaded
            foreign = sorted(foreign_names(config))
            if foreign:
                raise ValueError(f"it names {foreign[0]}, of which no backbone is made")
            weights = archive.read(_WEIGHTS)
        with h5py.File(io.BytesIO(weights), "r") as file:
            check_contents(file, names_of_datasets(file, _DEPTH), size=len(weights))
    except Exception as error:  # zipfile, json and h5py raise all sorts on damaged files
        text = str(error) if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError) else one_line(error)
        if isinstance(error, zipfile.BadZipFile):
            text = "it is damaged, or no file that Keras 3 saved"
        raise BackboneError(f"The saved backbone cannot be used: {text}; {instead}.") from error


def foreign_names(value: Any, also: re.Pattern[str] | None = None) -> Iterator[str]:
    """Yield what a description names and is not allowed to: classes, and functions by their module.

    Classes of another package whose ``module.Name`` is ``also`` allowed may be registered by the name of that package.
    """
    if isinstance(value, dict):
        if "class_name" in value or "module" in value:
            module, name, registered = value.get("module"), value.get("class_name"), value.get("registered_name")
            of_keras = name in _ALLOWED.get(str(module or "builtins"), "").split() and registered in (None, name)
            of_another = also is not None and also.fullmatch(f"{module}.{name}")
            if not of_keras and not (of_another and registered in (None, f"{str(module).partition('.')[0]}>{name}")):
                yield f"{module}.{name}" if module else str(name)
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from foreign_names(inner, also)
