"""A Keras model -> an OpenVINO model, through TensorFlow."""

from __future__ import annotations

import warnings
from typing import Any

from ffe.base.openvino_ir import import_openvino
from ffe.errors import EngineError, one_line


def convert_keras(model: Any, backbone: str, instead: str) -> Any:
    """Return an ``openvino.Model`` of a ``keras.Model``; an EngineError says why there is none, and what to use ``instead``."""
    import keras

    if keras.config.backend() != "tensorflow":
        raise EngineError(
            f"OpenVINO converts from TensorFlow, but Keras runs on {keras.config.backend()}; "
            f"set KERAS_BACKEND=tensorflow for the first run, or use {instead}."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # OpenVINO calls the model with a list of one input
        try:
            return import_openvino().convert_model(model)
        except Exception as error:  # OpenVINO raises many kinds where it does not know a layer
            raise EngineError(f"OpenVINO cannot convert the backbone '{backbone}' ({one_line(error)}); use {instead}.") from error
