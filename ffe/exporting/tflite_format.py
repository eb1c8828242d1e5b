"""``.tflite``: for LiteRT, on telephones and small computers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffe.base.tensorflow_log import without_greetings
from ffe.exporting.model_format import Answer, Exported, ModelFormat
from ffe.exporting.savedmodel_format import write_saved_model

_FACTS = b"ffe"


def _write(exported: Exported, path: Path) -> None:
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="ffe-export-") as folder:
        saved = Path(folder) / "model"
        write_saved_model(exported, saved)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
        if exported.precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if exported.precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if exported.precision == "int8":
            converter.representative_dataset = lambda: _samples(exported)
        with without_greetings():
            content = converter.convert()
    path.write_bytes(_with_facts(content, exported.facts))


def _samples(exported: Exported) -> Iterator[dict[str, np.ndarray]]:
    yield from (dict(sample) for sample in exported.samples)


def _with_facts(content: bytes, facts: dict[str, Any]) -> bytes:
    """Put a buffer named ``ffe`` into the metadata of a model."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(json.dumps(facts, ensure_ascii=False).encode(), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = _FACTS, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _open(path: Path) -> Answer:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner()

    def answer(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        with without_greetings():
            (found,) = runner(**arrays).values()
        return np.asarray(found)

    return answer


TFLITE = ModelFormat(
    name="tflite",
    suffix=".tflite",
    packages=("tensorflow", "ai_edge_litert"),
    precisions=("float32", "float16", "int8"),
    write=_write,
    runtime="ai-edge-litert",
    open=_open,
    run=(
        'from ai_edge_litert.interpreter import Interpreter\nrunner = Interpreter("{file}").get_signature_runner()\n'
        "(probabilities,) = runner({keywords}).values()"
    ),
)
