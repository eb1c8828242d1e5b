"""``.mlpackage``: for Core ML, on iPhones and Macs. It is written anywhere, and runs on macOS alone."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffe.errors import EngineError, one_line
from ffe.exporting.graph import keras_graph
from ffe.exporting.model_format import Answer, Exported, ModelFormat, NoRuntimeError

UNPROVEN = "Core ML runs on macOS alone; export the model there, or compare answers on a device"


def _write(exported: Exported, path: Path) -> None:
    """Write a classifier that takes pictures: Core ML has no uint8 but in those, so the graph takes floats from 0 to 255."""
    import tensorflow as tf

    logging.getLogger("coremltools").setLevel(logging.ERROR)  # it warns of every TensorFlow that is newer than it
    try:
        import coremltools as ct
    except Exception as error:  # parts of it are compiled, and missing on some systems
        raise EngineError(
            f"The package coremltools does not work here ({one_line(error)}); export on macOS, or use another --format."
        ) from error
    graph = keras_graph(exported.bundle, dtype="float32")
    shapes = {each.name: (1, *each.shape[1:]) for each in graph.inputs}

    def answer(*pixels: Any) -> Any:
        return graph(list(pixels) if len(pixels) > 1 else pixels[0], training=False)

    signature = [tf.TensorSpec(shape, tf.float32, name=name) for name, shape in shapes.items()]
    function = tf.function(answer, input_signature=signature).get_concrete_function()

    precision = {"float32": ct.precision.FLOAT32, "float16": ct.precision.FLOAT16}[exported.precision]
    try:
        model = ct.convert(
            [function],
            source="tensorflow",
            convert_to="mlprogram",
            inputs=[ct.ImageType(name=name, shape=shape, color_layout=ct.colorlayout.RGB) for name, shape in shapes.items()],
            classifier_config=ct.ClassifierConfig(list(exported.bundle.manifest.class_names)),
            compute_precision=precision,
        )
    except Exception as error:  # it raises many kinds where it does not know an operation
        raise EngineError(f"coremltools cannot convert this model ({one_line(error)}); use another --format.") from error
    model.short_description = f"Image classifier, made with ffe: {', '.join(exported.bundle.manifest.class_names)}"
    for name, value in exported.metadata.items():
        model.user_defined_metadata[name] = value
    model.save(str(path))


def _open(path: Path) -> Answer:
    if sys.platform != "darwin":
        raise NoRuntimeError(UNPROVEN)
    import coremltools as ct
    from PIL import Image

    model = ct.models.MLModel(str(path))
    names = json.loads(model.user_defined_metadata["classes"])

    def answer(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        rows = []
        for i in range(len(next(iter(arrays.values())))):
            found = model.predict({name: Image.fromarray(array[i]) for name, array in arrays.items()})
            by_class = next(value for value in found.values() if isinstance(value, dict))
            rows.append([by_class[name] for name in names])
        return np.asarray(rows)

    return answer


COREML = ModelFormat(
    name="coreml",
    suffix=".mlpackage",
    packages=("coremltools", "tensorflow"),
    precisions=("float32", "float16"),
    write=_write,
    runtime="coremltools",
    open=_open,
    run=(
        'import coremltools\nmodel = coremltools.models.MLModel("{file}")\n'
        "outputs = model.predict({{{named_pictures}}})\n"
        "probabilities = np.asarray([list(next(v for v in outputs.values() if isinstance(v, dict)).values())])"
    ),
    takes_images=False,
)
