"""The formats that models can be exported to. A new one is a file with a ``ModelFormat``, and its entry here."""

from __future__ import annotations

from ffe.exporting.coreml_format import COREML
from ffe.exporting.keras_format import KERAS
from ffe.exporting.model_format import ModelFormat
from ffe.exporting.onnx_format import ONNX
from ffe.exporting.openvino_format import OPENVINO
from ffe.exporting.savedmodel_format import SAVED_MODEL
from ffe.exporting.tflite_format import TFLITE

MODEL_FORMATS: dict[str, ModelFormat] = {one.name: one for one in (ONNX, TFLITE, KERAS, SAVED_MODEL, OPENVINO, COREML)}
