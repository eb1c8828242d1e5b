"""What flows where in a functional model: its symbolic tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ffe.errors import BackboneError

if TYPE_CHECKING:
    import keras


def tensor_of(model: keras.Model, layer: str) -> Any:
    """Return the symbolic output of a layer in this model (``layer.output`` may be of another); empty = the model's input."""
    if not layer:
        return model.inputs[0]
    for tensor in _tensors(model):
        if tensor._keras_history.operation.name == layer:
            return tensor
    raise BackboneError(f"There is no layer '{layer}' on the way to the output.")


def inputs_of(model: keras.Model) -> dict[int, list[Any]]:
    """Return what each operation takes in this model: ``id(operation)`` -> symbolic tensors."""
    found: dict[int, list[Any]] = {}
    for tensor in _tensors(model):
        operation, node, _ = tensor._keras_history
        found[id(operation)] = list(operation._inbound_nodes[node].input_tensors)
    return found


def _tensors(model: keras.Model) -> list[Any]:
    """Return all symbolic tensors on the way from the input to the output, the output first."""
    found: dict[int, Any] = {}
    waiting = list(model.outputs)
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in found:
            continue
        found[id(tensor)] = tensor
        operation, node, _ = tensor._keras_history
        waiting += operation._inbound_nodes[node].input_tensors
    return list(found.values())
