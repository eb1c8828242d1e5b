"""Where a backbone is cut: what lies below stays as it is, so its output is kept; what lies above runs in every epoch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ffe.finetuning.graph import inputs_of, tensor_of

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Cut:
    """Where a backbone falls into a part that stays and a part that learns."""

    place: Literal["input", "inside", "output"]  # ``input``: all of it learns; ``output``: none of it does; else ``inside``
    layer: str  # the last layer of the part that stays; empty at the input
    shape: tuple[int, ...]  # of its output for one image


def find_cut(model: keras.Model, learning: Sequence[keras.layers.Layer], *, from_file: bool = False) -> Cut:
    """Return the highest place below all layers that learn through which a single tensor flows; none learns: the output.

    All names last where the backbone was read ``from_file``; where it is built, those that Keras counts up (``activation_187``)
    are other ones each time.
    """
    order = {id(operation): place for place, operation in enumerate(model.operations)}
    if not learning:
        return Cut("output", model.outputs[0]._keras_history.operation.name, tuple(model.output_shape[1:]))
    reached = list(range(len(order)))  # the last operation that takes the output of each
    for taker, tensors in inputs_of(model).items():
        for place in (order[id(tensor._keras_history.operation)] for tensor in tensors):
            reached[place] = max(reached[place], order[taker])
    best = None
    furthest = 0  # the last operation that needs an output of one before this
    weighs = False  # whether anything so far is worth doing once only
    for place, operation in enumerate(model.operations[: min(order[id(layer)] for layer in learning)]):
        weighs = weighs or any(weight.name.endswith("kernel") for weight in getattr(operation, "weights", ()))
        if furthest <= place and weighs and _can_be_named(operation, from_file):
            best = operation
        furthest = max(furthest, reached[place])
    if best is None:
        return Cut("input", "", tuple(model.input_shape[1:]))
    return Cut("inside", best.name, tuple(int(n) for n in tensor_of(model, best.name).shape[1:]))


def _can_be_named(operation: Any, from_file: bool) -> bool:
    import keras

    if not isinstance(operation, keras.layers.Layer):
        return False
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(operation).__name__).lower()
    return from_file or re.fullmatch(rf"{words}(_\d+)?", operation.name) is None
