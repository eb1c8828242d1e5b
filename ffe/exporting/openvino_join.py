"""Backbones that are held as OpenVINO models, and what comes before and behind them -> one OpenVINO model.

A backbone of timm or Hugging Face, of an ONNX file, or of int8 is in a model file as an OpenVINO model alone: no other format can
be made of it, and this one needs no more than to put the head behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffe.base.openvino_ir import IrModel, check_graph, import_openvino


def joined(pixels: Sequence[Any], backbones: Sequence[IrModel], dtypes: Sequence[str], head: Any) -> Any:
    """Return an ``openvino.Model`` from pixels to probabilities.

    Args:
        pixels: for each backbone where its pixels come from, an ``openvino.Output`` of uint8 (N, H, W, 3): of a ``Parameter``,
            or of a graph that resizes. Two may be the same.
        backbones: from such pixels to features.
        dtypes: the type that the features of each are rounded to, ``float32`` or ``float16``, as they are where they are stored.
        head: an ``openvino.Model`` from float32 (N, D), the features of all side by side, to float32 (N, K).
    """
    ov = import_openvino()
    from openvino import opset13 as ops

    rows = []
    for source, backbone, dtype in zip(pixels, backbones, dtypes, strict=True):
        check_graph(backbone)
        weights = np.require(backbone.weights, requirements="W")  # OpenVINO insists, and reads only
        model = ov.Core().read_model(backbone.xml.decode(), ov.Tensor(weights))  # a copy, which outlives the file
        features = _behind(source, model)
        row = ops.reshape(features, np.array([0, -1]), special_zero=True)
        if dtype != "float32":
            row = ops.convert(ops.convert(row, "f16"), "f32")
        rows.append(row)
    features = ops.concat(rows, 1).output(0) if len(rows) > 1 else rows[0].output(0)
    result = ops.result(_behind(features, head))
    return ov.Model([result], _parameters(pixels), "ffe")


def _behind(source: Any, model: Any) -> Any:
    """Put a model of one input behind an ``openvino.Output``; return its output."""
    model.get_parameters()[0].output(0).replace(source)
    return model.get_results()[0].input_value(0)


def _parameters(outputs: Sequence[Any]) -> list[Any]:
    """Return the parameters that outputs are computed from, each once, in the order in which they come."""
    found: dict[str, Any] = {}
    waiting, seen = [output.get_node() for output in reversed(outputs)], set[str]()
    while waiting:
        node = waiting.pop()
        if node.get_name() in seen:
            continue
        seen.add(node.get_name())
        if node.get_type_name() == "Parameter":
            found[node.get_name()] = node
        waiting += [value.get_node() for value in node.input_values()]
    return list(found.values())
