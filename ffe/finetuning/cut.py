"""Which layers of a backbone learn, and the highest place below them through which a single tensor flows.

What lies below that place stays as it is, so its output can be computed once
and kept; only what lies above it has to run in every epoch.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ffe.errors import BackboneError, SpecError

if TYPE_CHECKING:
    import keras

ALL = "all"


@dataclass(frozen=True)
class Cut:
    """Where a backbone falls into a part that stays and a part that learns.

    Attributes:
        place: ``input``: all of it learns; ``output``: none of it does; else ``inside``.
        layer: the last layer of the part that stays; empty at the input.
        shape: of its output for one image.
    """

    place: Literal["input", "inside", "output"]
    layer: str
    shape: tuple[int, ...]

    @property
    def values(self) -> int:
        """How many values its output has for one image."""
        return math.prod(self.shape)


def count_unfrozen(model: keras.Model, wanted: str, backbone: str) -> int:
    """Return how many layers, counted from the end of the backbone, are meant.

    Layers are counted as in ``model.layers[-n:]``, the input and layers without
    weights included.

    Args:
        model: the backbone.
        wanted: a number; ``all``; the name of a layer; or the beginning of the
            names of a block, such as ``block5``: the first layer that has it, and all behind it.
        backbone: its name, for messages.

    Raises:
        BackboneError: there are fewer layers, or none of that name.
    """
    names = [layer.name for layer in model.layers]
    if wanted == ALL:
        return len(names)
    if wanted.isdecimal():
        if int(wanted) > len(names):
            raise BackboneError(
                f"The backbone '{backbone}' has {len(names)} layers, so {wanted} of them cannot be unfrozen; "
                f"give at most {len(names)}, or '{ALL}'."
            )
        return int(wanted)
    pattern = re.compile(re.escape(wanted) + r"(?!\d)")  # block1 is not block10
    places = [i for i, name in enumerate(names) if name == wanted] or [i for i, n in enumerate(names) if pattern.match(n)]
    if not places:
        near = difflib.get_close_matches(wanted, names, n=1)
        hint = f"did you mean '{near[0]}'? Its" if near else "its"
        raise BackboneError(
            f"The backbone '{backbone}' has no layer or block '{wanted}'; {hint} last layers are {', '.join(names[-8:])}."
        )
    return len(names) - places[0]


def check_growing(wanted: Sequence[str], counts: Sequence[int]) -> None:
    """Make sure that each stage unfreezes at least as many layers as the one before it.

    Raises:
        SpecError: a stage unfreezes fewer.
    """
    for i in range(1, len(counts)):
        if counts[i] < counts[i - 1]:
            rising = ",".join(wanted[j] for j in sorted(range(len(counts)), key=lambda j: counts[j]))
            raise SpecError(
                f"Stage {i + 1} unfreezes {counts[i]} layers, fewer than the {counts[i - 1]} of the stage before it, "
                f"but what has learnt stays unfrozen; write --unfreeze {rising}."
            )


def unfreeze(model: keras.Model, count: int, *, batchnorm: bool = False) -> list[keras.layers.Layer]:
    """Let the last layers of a backbone learn, and no other.

    Args:
        model: the backbone.
        count: how many layers, from the end.
        batchnorm: whether batch normalisations among them learn, and use the
            statistics of the batch; if not, they keep those that they have.

    Returns:
        The layers that have something to learn.
    """
    import keras

    chosen = {id(layer) for layer in (model.layers[-count:] if count else ())}
    for layer in model.layers:
        frozen_norm = isinstance(layer, keras.layers.BatchNormalization) and not batchnorm
        layer.trainable = id(layer) in chosen and not frozen_norm
    return [layer for layer in model.layers if layer.trainable_weights]


def find_cut(model: keras.Model, learning: Sequence[keras.layers.Layer], *, from_file: bool = False) -> Cut:
    """Return the highest place below all layers that learn through which a single tensor flows.

    Args:
        model: the backbone, one input and one output.
        learning: the layers above it; none = the cut is the output.
        from_file: whether the backbone is read from a file whenever it is needed,
            so that all names last. If it is built, those that Keras counts up
            (``activation_187``) are other ones each time, and cannot be named.
    """
    order = {id(operation): place for place, operation in enumerate(model.operations)}
    if not learning:
        return Cut("output", model.outputs[0]._keras_history.operation.name, tuple(model.output_shape[1:]))
    reached = _reach(model, order)
    best = None
    furthest = 0  # the last operation that needs an output of one before this
    weighs = False  # whether anything so far is worth doing once only
    for place, operation in enumerate(model.operations[: min(order[id(layer)] for layer in learning)]):
        weighs = weighs or _has_kernel(operation)
        if furthest <= place and weighs and _can_be_named(operation, from_file):
            best = operation
        furthest = max(furthest, reached[place])
    if best is None:
        return Cut("input", "", tuple(model.input_shape[1:]))
    return Cut("inside", best.name, tuple(int(n) for n in tensor_of(model, best.name).shape[1:]))


def _has_kernel(operation: Any) -> bool:
    import keras

    return isinstance(operation, keras.layers.Layer) and any(weight.name.endswith("kernel") for weight in operation.weights)


def _can_be_named(operation: Any, from_file: bool) -> bool:
    import keras

    if not isinstance(operation, keras.layers.Layer):
        return False
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(operation).__name__).lower()
    return from_file or re.fullmatch(rf"{words}(_\d+)?", operation.name) is None


def tensor_of(model: keras.Model, layer: str) -> Any:
    """Return the symbolic output of a layer as it stands in this model; empty = the model's input.

    Not ``layer.output``: a layer that takes part in several models has several.
    """
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


def _reach(model: keras.Model, order: dict[int, int]) -> list[int]:
    """Return for each operation the place of the last one that takes its output; its own place if there is none."""
    reached = list(range(len(order)))
    for taker, tensors in inputs_of(model).items():
        for tensor in tensors:
            place = order[id(tensor._keras_history.operation)]
            reached[place] = max(reached[place], order[taker])
    return reached


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
