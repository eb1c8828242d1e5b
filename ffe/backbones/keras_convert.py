"""A Keras model -> an OpenVINO model: by Keras's own OpenVINO backend where that is loaded, else through TensorFlow."""

from __future__ import annotations

import re
import warnings
from typing import Any

from ffe.backbones.keras_trace import traced
from ffe.base.openvino_ir import import_openvino
from ffe.errors import EngineError, one_line


def convert_keras(model: Any, backbone: str, instead: str) -> Any:
    """Return an ``openvino.Model`` of a ``keras.Model``; an EngineError says why there is none, and what to use ``instead``."""
    import keras

    if (backend := keras.config.backend()) not in {"openvino", "tensorflow"}:
        raise EngineError(
            f"OpenVINO converts from TensorFlow, but Keras runs on {backend}; "
            f"set KERAS_BACKEND=tensorflow for the first run, or use {instead}."
        )
    try:
        return traced(model) if backend == "openvino" else _through_tensorflow(model)
    except Exception as error:  # both raise many kinds where they do not know a layer
        raise refusal(backbone, error, instead) from error


def refusal(backbone: str, error: Exception, instead: str) -> EngineError:
    """Return what to say of a backbone that is not converted."""
    return EngineError(f"OpenVINO cannot convert the backbone '{backbone}' ({one_line(error)}); use {instead}.")


def _through_tensorflow(model: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # OpenVINO calls the model with a list of one input
        # its constants would lie in the memory of the Keras model otherwise, which may go before them
        converted = import_openvino().convert_model(model, share_weights=False)
    return _with_outputs_of(model, converted)


def _with_outputs_of(model: Any, converted: Any) -> Any:
    """Keep the outputs of a Keras model, in its order: OpenVINO sorts them by name, and adds what nothing inside of it uses."""
    count = len(model.outputs)
    if len(converted.outputs) == count == 1:
        return converted
    named = {name: result for result in converted.get_results() for name in result.input_value(0).get_names()}
    found = [named[output.name] for output in model.outputs if output.name in named]
    if len(found) < count:
        numbers = {name: re.fullmatch(r"Identity(?:_(\d+))?:0", name) for name in named}
        numbered = {int(match[1] or 0): named[name] for name, match in numbers.items() if match is not None}
        found = [numbered[number] for number in sorted(numbered)]
    assert len(found) == count, sorted(named)
    return import_openvino().Model(found, converted.get_parameters(), "backbone")
