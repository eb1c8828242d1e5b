"""A folder as TensorFlow saves models: for TensorFlow Serving, TF.js and others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ffe.backbones.float32 import whole_float32
from ffe.exporting.model_format import Answer, Exported, ModelFormat

_FACTS = Path("assets.extra", "ffe.json")  # TensorFlow leaves that folder to others


def write_saved_model(exported: Exported, path: Path) -> None:
    """Write the folder."""
    exported.graph.export(str(path), format="tf_saved_model", verbose=False)
    (path / _FACTS.parent).mkdir()
    (path / _FACTS).write_text(json.dumps(exported.facts, ensure_ascii=False, indent=1), "utf-8")


def _open(path: Path) -> Answer:
    import tensorflow as tf

    model = tf.saved_model.load(str(path))
    serve = model.signatures["serving_default"]

    def answer(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        with whole_float32():
            (found,) = serve(**{name: tf.constant(array) for name, array in arrays.items()}).values()
            return np.asarray(found)

    answer.keep = model  # type: ignore[attr-defined]  # a signature does not hold its model
    return answer


SAVED_MODEL = ModelFormat(
    name="savedmodel",
    suffix="",
    packages=("tensorflow", "keras"),
    precisions=("float32",),
    write=write_saved_model,
    runtime="tensorflow",
    open=_open,
    run=(
        'import tensorflow as tf\nmodel = tf.saved_model.load("{file}")\n'
        'outputs = model.signatures["serving_default"]({named_tensors})\nprobabilities = np.asarray(*outputs.values())'
    ),
)
