"""A Keras model, built on Keras's OpenVINO backend -> an OpenVINO model that transposes pictures once, and not at every layer.

OpenVINO convolves grids (N, C, H, W). Keras has them as (N, H, W, C), and transposes before and behind each layer, which
takes as long as the network itself. Here every value stays as its layer left it, and the operations between are told where
their axes are; TensorFlow's converter does the same, as "transpose sinking".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffe.base.openvino_ir import import_openvino

# elementwise: any order of axes will do, if it is that of all inputs
_ELEMENTWISE = {
    *("Add", "Clamp", "Convert", "Divide", "Elu", "Exp", "Gelu"),
    *("HSigmoid", "HSwish", "Maximum", "Minimum", "Multiply", "Negative", "Power"),
    *("Relu", "Sigmoid", "Sqrt", "SquaredDifference", "Subtract", "Swish", "Tanh"),
}
_REDUCTIONS = {"ReduceMax", "ReduceMean", "ReduceSum"}


def traced(model: Any) -> Any:
    """Return an ``openvino.Model`` of a ``keras.Model`` with one input: its outputs, in its order, for any number of pictures."""
    ov = import_openvino()
    import keras
    from keras.src.backend.openvino.core import OPENVINO_DTYPES, OpenVINOKerasTensor
    from openvino import opset13 as ops
    from openvino._offline_transformations import apply_moc_transformations
    from openvino.passes import ConstantFolding, Manager

    shape = [-1 if n is None else n for n in model.input_shape[1:]]
    pictures = ops.parameter([-1, *shape], OPENVINO_DTYPES[str(keras.backend.standardize_dtype(model.inputs[0].dtype))])
    outputs = keras.tree.flatten(model(OpenVINOKerasTensor(pictures.output(0)), training=False))
    network = ov.Model([ops.result(output.output) for output in outputs], [pictures], "backbone")
    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(network)
    axes = _Axes()
    for node in network.get_ordered_ops():
        axes.settle(node)
    network = network.clone()  # without what else still reads its values, which would not let them be fused
    apply_moc_transformations(network, cf=True)  # what each of OpenVINO's own converters ends with
    return network


class _Axes:
    """Where the axes of each value are: axis i of what Keras means is axis ``order[i]`` of what is there."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], tuple[Any, list[int]]] = {}

    def settle(self, node: Any) -> None:
        """Connect an operation, of which all that it reads is settled, to what is there."""
        from openvino import opset13 as ops

        kind, values = node.get_type_name(), node.input_values()
        if kind == "Parameter" and len(node.output(0).get_partial_shape()) == 4:  # so that all transposes are behind it
            self._is(node, ops.transpose(node, np.array([0, 3, 1, 2])).output(0), [0, 2, 3, 1])
            return
        there, order = self._of(values[0]) if values else (None, [])
        if kind == "Transpose" and _is_constant(values[1]) and (steps := _numbers(values[1])):
            self._is(node, there, [order[i] for i in steps])
            return
        if kind in _ELEMENTWISE or kind == "Concat":
            rank = len(node.output(0).get_partial_shape())
            orders = [order for _, order in map(self._of, values) if len(order) == rank and not _plain(order)]
            order = orders[0] if orders else list(range(rank))
            if kind == "Concat":
                node.set_attribute("axis", order[node.get_attributes()["axis"]])
            inputs = [self._ordered(value, order) for value in values]
        elif order and not _plain(order) and (inputs := self._told(node, kind, values, order)):
            order = self._left(node, kind, values, order)
            inputs = [there, *inputs]
        else:
            inputs, order = [self._ordered(value) for value in values], []
        for place, value in zip(node.inputs(), inputs, strict=True):
            place.replace_source_output(value)
        node.validate_and_infer_types()
        if order and not _plain(order):
            self._is(node, node.output(0), list(order))

    def _told(self, node: Any, kind: str, values: list[Any], order: list[int]) -> list[Any]:
        """Return the further inputs of an operation that are right for the order of its first; none = it takes no other order."""
        from openvino import opset13 as ops

        rest = [self._ordered(value) for value in values[1:]]
        if kind == "BatchNormInference" and order[:2] == [0, 1]:
            return rest
        if kind == "Pad" and all(map(_is_constant, values[1:])):
            rest[:2] = [ops.constant(value.get_node().data[np.argsort(order)]).output(0) for value in values[1:3]]
            return rest
        place = {"Slice": 3, **dict.fromkeys(_REDUCTIONS, 0)}.get(kind)
        if place is None or place >= len(rest) or not _is_constant(values[place + 1]):
            return []
        rest[place] = ops.constant(np.array([order[axis] for axis in _numbers(values[place + 1])])).output(0)
        return rest

    def _left(self, node: Any, kind: str, values: list[Any], order: list[int]) -> list[int]:
        """Return the order of what an operation gives that was told where the axes are."""
        if kind not in _REDUCTIONS or node.get_attributes()["keep_dims"]:
            return order
        gone = {order[axis] for axis in _numbers(values[1])}
        left = [axis for axis in order if axis not in gone]
        return [sorted(left).index(axis) for axis in left]

    def _ordered(self, value: Any, order: Sequence[int] = ()) -> Any:
        """Return a value with its axes in an order; without one, as Keras means it."""
        from openvino import opset13 as ops

        there, has = self._of(value)
        if not has:  # a number
            return there
        if (missing := len(order) - len(has)) > 0:  # as in arithmetic, axes are added in front
            there, has = ops.unsqueeze(self._ordered(value), np.arange(missing)).output(0), list(range(len(order)))
        steps = [has[axis] for axis in np.argsort(order)] if order else has
        return there if _plain(steps) else ops.transpose(there, np.array(steps)).output(0)

    def _of(self, value: Any) -> tuple[Any, list[int]]:
        key = value.get_node().get_name(), value.get_index()
        return self._found.get(key) or (value, list(range(len(value.get_partial_shape()))))

    def _is(self, node: Any, there: Any, order: list[int]) -> None:
        self._found[node.get_name(), 0] = there, order


def _plain(order: Sequence[int]) -> bool:
    return list(order) == sorted(order)


def _is_constant(value: Any) -> bool:
    return bool(value.get_node().get_type_name() == "Constant")


def _numbers(value: Any) -> list[int]:
    return [int(number) for number in np.atleast_1d(value.get_node().data)]
