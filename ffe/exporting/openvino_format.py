"""``.xml`` and ``.bin``: for OpenVINO, on processors of Intel, AMD and Arm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffe.backbones.keras_convert import convert_keras
from ffe.base.openvino_ir import IrModel, import_openvino
from ffe.engines.openvino_convert import quantize
from ffe.exporting.graph import check_keras_backbones, pixel_inputs
from ffe.exporting.head_graph import OUTPUT, head_graph
from ffe.exporting.image_input import image_graph
from ffe.exporting.model_format import Answer, Exported, ModelFormat
from ffe.exporting.openvino_join import joined

_INSTEAD = "another --format"


def _write(exported: Exported, path: Path) -> None:
    ov = import_openvino()
    model = _model(exported)
    model.outputs[0].get_tensor().set_names({OUTPUT})
    for name, value in exported.metadata.items():
        model.set_rt_info(value, ["ffe", name])
    ov.save_model(model, path, compress_to_fp16=exported.precision == "float16")


def _model(exported: Exported) -> Any:
    """Return the backbones that ffe itself runs, and the head behind them; without such ones, the graph of Keras."""
    bundle = exported.bundle
    specs = [spec for spec, _ in bundle.manifest.backbones]
    models = [bundle.ir(number) for number in range(len(specs))]
    if any(model is None for model in models):
        check_keras_backbones(bundle, "openvino")
        return convert_keras(exported.graph, specs[0].backbone.name, _INSTEAD)
    inputs, taken = pixel_inputs([spec.preprocess for spec in specs])
    backbones = [model for model in models if model is not None]
    if exported.precision == "int8":
        backbones = [_quantized(exported, model, name) for model, name in zip(backbones, taken, strict=True)]
    head = convert_keras(head_graph(bundle.head(), bundle.manifest.temperature), "head", _INSTEAD)
    if exported.image:
        resizing = convert_keras(image_graph(list(inputs.values())), "resize", _INSTEAD)
        sources = dict(zip(inputs, [result.input_value(0) for result in resizing.get_results()], strict=True))
    else:
        sources = {name: _parameter(name, spec.size).output(0) for name, spec in inputs.items()}
    return joined([sources[name] for name in taken], backbones, [spec.dtype for spec in specs], head)


def _quantized(exported: Exported, model: IrModel, name: str) -> IrModel:
    return quantize(model, np.concatenate([sample[name] for sample in exported.samples]), {})


def _parameter(name: str, size: tuple[int, int]) -> Any:
    ov = import_openvino()
    from openvino import opset13 as ops

    parameter = ops.parameter([-1, *size, 3], ov.Type.u8, name=name)
    parameter.output(0).get_tensor().set_names({name})
    return parameter


def _open(path: Path) -> Answer:
    ov = import_openvino()
    settings = {"INFERENCE_PRECISION_HINT": ov.Type.f32}  # newer processors would take bfloat16, and give other answers
    compiled = ov.Core().compile_model(str(path), "CPU", settings)

    def answer(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.array(compiled(dict(arrays))[0])

    return answer


OPENVINO = ModelFormat(
    name="openvino",
    suffix=".xml",
    packages=("openvino",),
    precisions=("float32", "float16", "int8"),
    write=_write,
    runtime="openvino",
    open=_open,
    run=(
        'import openvino\nmodel = openvino.compile_model("{file}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})\n'
        "probabilities = model({{{named}}})[0]"
    ),
    foreign=True,
    sides=(".bin",),
)
