"""A backbone of any library -> OpenVINO IR, and float32 -> int8."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ffe.backbones.catalog import find
from ffe.backbones.keras_build import build
from ffe.backbones.keras_convert import convert_keras, refusal
from ffe.backbones.registry import Network, source_of
from ffe.backbones.trained import LEARNT
from ffe.backbones.weights import Weights
from ffe.base.feature_layout import FeatureLayout
from ffe.base.helper_process import apart
from ffe.base.openvino_ir import IrModel, import_openvino
from ffe.base.system import free_disk
from ffe.base.text import bytes_text
from ffe.engines.model_cache import model_key
from ffe.errors import EngineError, FfeError, missing, one_line
from ffe.images.preprocess import scaling_of
from ffe.specs import ExtractSpec, PreprocessSpec

log = logging.getLogger("ffe")

_INSTEAD = "--engine keras"

# The last bits of these grow on their way through the layers, so that no test with random weights can hold both ways to be equal
# to 5e-5 of the largest feature: mobilenetv2_1.4 came out 5.6e-5 apart, efficientnetv2b0 3.1e-4, and efficientnetv2s half of it,
# as it does where the pixels change by 1e-6.
THROUGH_TENSORFLOW = ("EfficientNetV2", "MobileNetV2")


def convert(spec: ExtractSpec, weights: Weights) -> IrModel:
    """Build the backbone of a spec in its own library, and turn it into a float32 IR model.

    Families of ``keras.applications`` are converted on Keras's OpenVINO backend, in a process of its own, if
    tests/parity/test_converters_are_equal.py holds that TensorFlow gives the same. Others, and all ``.keras`` files, go through
    TensorFlow; so does what that backend refuses, which is said, and a network that has just been trained there. The record of
    such a model says which it was.
    """
    import_openvino()
    foreign = source_of(spec.backbone.name) is not None
    if foreign or find(spec.backbone.name).application.startswith(THROUGH_TENSORFLOW) or _is_from_here(spec):
        return convert_here(spec, weights)
    try:
        model: IrModel = apart(convert_here, spec, weights)
    except Exception as error:  # Keras raises many kinds on what it does not know there
        if find_spec("keras") is None or (isinstance(error, FfeError) and not isinstance(error, EngineError)):
            raise
        failure = error if isinstance(error, EngineError) else refusal(spec.backbone.name, error, _INSTEAD)
        if find_spec("tensorflow") is None:
            raise failure from None
        log.warning("%s Going on through TensorFlow.", failure)
        return convert_here(spec, weights)
    return model


def _is_from_here(spec: ExtractSpec) -> bool:
    """Return whether ffe has trained a network and Keras runs on TensorFlow here, so that a process more would only cost time."""
    keras = sys.modules.get("keras")
    return spec.backbone.weights in LEARNT and keras is not None and keras.config.backend() == "tensorflow"


def convert_here(spec: ExtractSpec, weights: Weights) -> IrModel:
    """Do what ``convert`` does, in this process."""
    ov = import_openvino()
    source = source_of(spec.backbone.name)
    record = {"backbone": spec.backbone.name, "key": model_key(spec), "openvino": ov.__version__}
    network = source.to_openvino(spec.backbone, spec.preprocess.size, weights) if source else _from_keras(spec, weights)
    if source is None:
        import keras

        record["converter"] = f"keras {keras.__version__} on {keras.config.backend()}"
    model = _with_scaling(network.model, network.input_layout, spec.preprocess)
    if source is None and len(network.layout.parts) == 1:
        return to_ir(model, record)
    return to_ir(_as_rows(model, network), {**record, "layout": network.layout.to_json()})


def _from_keras(spec: ExtractSpec, weights: Weights) -> Network:
    """Build a backbone of Keras, and turn it into an OpenVINO model."""
    model = build(replace(spec, precision="float32", quantized_sha256=None), weights)
    layout = FeatureLayout.of_shapes(output.shape[1:] for output in model.outputs)
    converted = convert_keras(model, spec.backbone.name, _INSTEAD)
    axes: Literal["NHWC"] = "NHWC"
    return Network(converted, axes, (axes,) * len(layout.parts), layout)


def _with_scaling(model: Any, layout: str, preprocess: PreprocessSpec) -> Any:
    """Put in front of a model what ``ffe.images.preprocess`` does: uint8 (N, H, W, 3), RGB, in; scaled floats on."""
    ov = import_openvino()
    from openvino.preprocess import ColorFormat, PrePostProcessor

    steps = PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(ColorFormat.RGB)
    steps.input().model().set_layout(ov.Layout(layout))
    scaling = scaling_of(preprocess.mode, preprocess.mean, preprocess.std, preprocess.channels)
    added = steps.input().preprocess().convert_element_type(ov.Type.f32)
    if scaling.channels == "gray":
        added.convert_color(ColorFormat.GRAY)
    elif scaling.channels == "bgr":
        added.reverse_channels()
    if (mean := scaling.bytes_mean) is not None:
        added.mean(mean.tolist())
    if (std := scaling.bytes_std) is not None:
        added.scale(std.tolist())
    return steps.build()


def _as_rows(model: Any, network: Network) -> Any:
    """Flatten the outputs of a model, channels innermost, and put them side by side: float32 (N, D)."""
    ov = import_openvino()
    from openvino import opset13 as ops

    rows = []
    for output, axes in zip(model.outputs, network.output_layouts, strict=True):
        node = output.get_node().input_value(0)
        if axes == "NCHW":
            node = ops.transpose(node, np.array([0, 2, 3, 1])).output(0)
        rows.append(ops.reshape(node, np.array([0, -1]), special_zero=True))
    joined = ops.concat(rows, 1) if len(rows) > 1 else rows[0]
    return ov.Model([joined], model.get_parameters(), "features")


def to_ir(model: Any, record: Mapping[str, Any]) -> IrModel:
    """Serialise an ``openvino.Model``; its nodes are named by their place, so that equal models have equal bytes."""
    ov = import_openvino()
    for number, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{number}")
        for output in node.outputs():
            output.get_tensor().set_names(set())
    for key in list(model.get_rt_info()):
        model.set_rt_info("", key)
    with tempfile.TemporaryDirectory(prefix="ffe-model-") as folder:
        path = Path(folder) / "model.xml"
        try:
            ov.save_model(model, path, compress_to_fp16=False)
        except RuntimeError as error:  # it knows no more of a full disk than that its stream broke off
            raise EngineError(
                f"The converted model cannot be written into '{folder}' ({one_line(error)}); "
                f"{bytes_text(free_disk(Path(folder)))} are free there: make room, or name another folder in TMPDIR."
            ) from error
        return IrModel(path.read_bytes(), np.fromfile(path.with_suffix(".bin"), np.uint8), record)


def quantize(model: IrModel, images: np.ndarray, record: Mapping[str, Any]) -> IrModel:
    """Quantise a float32 model to int8, after training, with NNCF's defaults but for the correction of biases.

    That step takes a third of the time, and brought the mean cosine to the float32 features from 0.9807 to 0.9818
    (MobileNet at 224) and from 0.9981 to 0.9981 (VGG19 at 150), on photos of dogs and cats. The activations of the
    images, uint8 (n, H, W, 3), RGB, set the ranges.
    https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html
    """
    ov = import_openvino()
    try:
        import nncf
    except ImportError as error:
        raise EngineError(missing("The precision int8", "nncf", instead="use --precision float32")) from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    network = ov.Core().read_model(model.xml.decode(), ov.Tensor(model.weights))
    network.reshape([1, *images.shape[1:]])
    samples = nncf.Dataset([image[None] for image in images])
    quick = nncf.AdvancedQuantizationParameters(disable_bias_correction=True)
    with contextlib.redirect_stdout(io.StringIO()):  # NNCF draws progress bars where results belong
        try:
            quantized = nncf.quantize(network, samples, subset_size=len(images), advanced_parameters=quick)
        except Exception as error:  # the same of NNCF
            name = str(model.record.get("backbone", "it"))
            raise EngineError(
                f"OpenVINO cannot quantise the backbone '{name}' ({one_line(error)}); use --precision float32."
            ) from error
    quantized.reshape([-1, *images.shape[1:]])
    return to_ir(quantized, {**record, "nncf": nncf.__version__})
