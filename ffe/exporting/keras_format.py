"""``.keras``: opened by Keras in its safe mode, without ffe."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ffe.backbones.float32 import whole_float32
from ffe.exporting.model_format import Answer, Exported, ModelFormat

_FACTS = "ffe.json"


def _write(exported: Exported, path: Path) -> None:
    exported.graph.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_FACTS, json.dumps(exported.facts, ensure_ascii=False, indent=1))


def _open(path: Path) -> Answer:
    import keras

    model = keras.saving.load_model(path, compile=False, safe_mode=True)

    def answer(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        with whole_float32():
            return keras.ops.convert_to_numpy(model([arrays[each.name] for each in model.inputs], training=False))

    return answer


KERAS = ModelFormat(
    name="keras",
    suffix=".keras",
    packages=("keras",),
    precisions=("float32",),
    write=_write,
    runtime="keras",
    open=_open,
    run='import keras\nmodel = keras.saving.load_model("{file}")\nprobabilities = keras.ops.convert_to_numpy(model([{inputs}]))',
)
