"""The highest place below the layers that learn through which a single tensor flows.

What lies below that place stays as it is, so its output can be computed once
and kept; only what lies above it has to run in every epoch.
"""

from __future__ import annotations

import math
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

    @property
    def values(self) -> int:
        """How many values its output has for one image."""
        return math.prod(self.shape)


def find_cut(model: keras.Model, learning: Sequence[keras.layers.Layer], *, from_file: bool = False) -> Cut:
    """Return the highest place below all layers that learn through which a single tensor flows; none learns: the output.

    All names last where the backbone was read ``from_file``; where it is built, those that Keras counts up (``activation_187``)
    are other ones each time.
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


def _reach(model: keras.Model, order: dict[int, int]) -> list[int]:
    """Return for each operation the place of the last one that takes its output; its own place if there is none."""
    reached = list(range(len(order)))
    for taker, tensors in inputs_of(model).items():
        for tensor in tensors:
            place = order[id(tensor._keras_history.operation)]
            reached[place] = max(reached[place], order[taker])
    return reached
