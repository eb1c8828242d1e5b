"""``.onnx``: for onnxruntime on servers, telephones and in browsers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffe.exporting.head_graph import OUTPUT
from ffe.exporting.model_format import Answer, Exported, ModelFormat


def _write(exported: Exported, path: Path) -> None:
    exported.graph.export(str(path), format="onnx", verbose=False)
    import onnx

    model = onnx.load(str(path))
    _name_output(model)
    if exported.precision == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        sorted_again = OnnxModel(convert_float_to_float16(model, keep_io_types=True))
        sorted_again.topological_sort()
        model = sorted_again.model
    for name, value in exported.metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _name_output(model: Any) -> None:
    """Give the output of a model its name."""
    (output,) = model.graph.output
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == output.name:
                    names[i] = OUTPUT
    output.name = OUTPUT


def _open(path: Path) -> Answer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def answer(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(session.run(None, dict(arrays))[0])

    return answer


ONNX = ModelFormat(
    name="onnx",
    suffix=".onnx",
    packages=("onnx", "tf2onnx", "onnxruntime"),
    precisions=("float32", "float16"),
    write=_write,
    runtime="onnxruntime",
    open=_open,
    run='import onnxruntime\nsession = onnxruntime.InferenceSession("{file}")\n(probabilities,) = session.run(None, {{{named}}})',
)
