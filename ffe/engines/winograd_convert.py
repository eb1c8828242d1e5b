"""A network of convolutions in OpenVINO's representation -> steps on grids, whose 3x3 convolutions take fewer products.

Chains and blocks of convolutions, pooling, sums and rectifiers are known: VGG, ResNet and their like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ffe.errors import EngineError

if TYPE_CHECKING:  # it loads numba
    from ffe.engines.winograd_convolution import Convolution, Grids

VERSION = 1  # goes up when networks come to be computed otherwise, so that ``auto`` measures them again
_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
TOGETHER = 6  # images that share the weights; why six, says ``ffe.engines.winograd_convolution``
_CHANNELS_FIRST = {"Convolution", "MaxPool", "AvgPool", "Pad"}  # operations that read nothing else
_LEAST_SHARE = 0.4
_MOST_BYTES = 128 << 20  # of the largest grids that a core computes: of larger ones little is gained, and each core has several
_LEAST_CHANNELS = 16  # that a convolution must read, and make, for fewer products to pay


@dataclass
class Step:
    """One operation: the names of what it reads, the shape (h, w, C) of what it makes, and how."""

    inputs: list[str]
    shape: tuple[int, ...]
    compute: Callable[..., None]  # (what it reads, then the grids that it fills)


def winograd_share(model: Any) -> float:
    """Return which share of the products of an ``openvino.Model`` of static shape is of 3x3 convolutions of step 1."""
    all_products = fewer = 0
    for node in model.get_ops():
        if node.get_type_name() not in {"Convolution", "GroupConvolution", "MatMul"}:
            continue
        if node.get_type_name() == "MatMul":
            all_products += int(np.prod(node.output(0).get_shape()) * node.input(0).get_shape()[-1])
            continue
        kernel = list(node.input(1).get_shape())
        inputs = kernel[1] if len(kernel) == 4 else kernel[2]
        products = int(np.prod(node.output(0).get_shape()) * inputs * np.prod(kernel[-2:]))
        all_products += products
        if kernel[2:] == [3, 3] and list(node.get_attributes()["strides"]) == [1, 1] and inputs >= _LEAST_CHANNELS:
            fewer += products
    return fewer / all_products if all_products else 0.0


def gains(model: Any) -> bool:
    """Return whether fewer products may be faster for an ``openvino.Model`` of static shape."""
    largest = max(int(np.prod(node.output(0).get_shape())) for node in model.get_ops())
    return winograd_share(model) >= _LEAST_SHARE and 4 * TOGETHER * largest <= _MOST_BYTES


def convert(model: Any) -> dict[str, Step]:
    """Return the steps, by the names of what they make, that compute what an ``openvino.Model`` (1, H, W, 3) does.

    The first reads nothing: its grids are the pixels, float32 (n, H, W, 3), RGB, in [0, 255].

    Raises:
        EngineError: it has an operation that is not written here.
    """
    writer = _Writer()
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant":
            writer.add(node)
    return writer.finished()


class _Writer:
    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}
        self._convolutions: dict[str, Convolution] = {}  # those of the steps that are one
        self._same: dict[str, str] = {}  # operation of the network -> step that computes it
        self._last: set[str] = set()  # the operations whose channels are last in the network

    def add(self, node: Any) -> None:
        kind = node.get_type_name()
        write = getattr(self, f"_{kind.lower()}", None)
        try:
            if write is None or (kind in _CHANNELS_FIRST and self._has_channels_last(node)):
                raise _refusal(kind)
            write(node)
        except (LookupError, AttributeError, TypeError, ValueError) as error:  # what no backbone was seen to have
            raise _refusal(kind) from error

    def finished(self) -> dict[str, Step]:
        """Return the steps."""
        for convolution in self._convolutions.values():
            convolution.prepare()
        return self._steps

    def _input(self, node: Any, index: int = 0) -> str:
        return self._same[node.input_value(index).get_node().get_friendly_name()]

    def _step(self, node: Any, inputs: list[str], compute: Callable[..., None]) -> str:
        name = str(len(self._steps))
        self._same[node.get_friendly_name()] = name
        if not inputs or self._has_channels_last(node):
            self._last.add(node.get_friendly_name())
        shape = list(node.output(0).get_shape())[1:]
        if node.get_friendly_name() not in self._last:
            shape = [*shape[1:], shape[0]]
        self._steps[name] = Step(inputs, tuple(shape), compute)
        return name

    def _has_channels_last(self, node: Any) -> bool:
        """Return whether an operation reads what has its channels last in the network, too: an image, or what is at the end."""
        sources = (node.input_value(i).get_node().get_friendly_name() for i in range(node.get_input_size()))
        return any(source in self._last for source in sources)

    def _is(self, node: Any, *, last: bool | None = None) -> None:
        """Note that an operation passes on what comes in, but for where the channels are."""
        self._same[node.get_friendly_name()] = self._input(node)
        if self._has_channels_last(node) if last is None else last:
            self._last.add(node.get_friendly_name())

    def _private(self, node: Any, index: int = 0) -> Convolution | None:
        """Return the convolution that computes an input of an operation, if nobody else reads it."""
        found = self._convolutions.get(self._input(node, index))
        alone = len(node.input_value(index).get_target_inputs()) == 1
        return found if alone and found is not None and not found.bounded else None

    def _parameter(self, node: Any) -> None:
        self._step(node, [], lambda result: None)

    def _convert(self, node: Any) -> None:
        if self._steps[self._input(node)].inputs:  # not of the pixels
            raise _refusal("Convert")
        self._is(node)

    def _result(self, node: Any) -> None:
        if len(node.input(0).get_shape()) == 4 and not self._has_channels_last(node):
            raise _refusal("Result of grids whose channels are first")
        self._is(node)

    def _transpose(self, node: Any) -> None:
        order, last = list(_constant(node.input_value(1))), self._has_channels_last(node)
        if order != (_TO_CHANNELS_FIRST if last else _TO_CHANNELS_LAST) or not (last or _is_last(node)):
            raise _refusal("Transpose")
        self._is(node, last=not last)

    def _reshape(self, node: Any) -> None:
        """Take what flattens a grid at the end, and what OpenVINO makes of a transposition of one place there."""
        batch, *shape = node.input(0).get_shape()
        made = list(node.output(0).get_shape())
        flattened = self._has_channels_last(node) and len(made) == 2
        transposed = shape[1:] == [1, 1] and made[:-1] == [batch, 1, 1]
        if not _is_last(node) or not (flattened or transposed):
            raise _refusal("Reshape")
        self._is(node, last=True)

    def _convolution(self, node: Any) -> None:
        from ffe.engines.winograd_convolution import Convolution

        kernel = _constant(node.input_value(1)).astype(np.float32)
        attributes = node.get_attributes()
        steps, apart = tuple(attributes["strides"]), tuple(attributes["dilations"])
        window = [(size - 1) * far + 1 for size, far in zip(kernel.shape[2:], apart, strict=True)]
        by_tiles = kernel.shape[2:] == (3, 3) and steps == apart == (1, 1) and min(kernel.shape[:2]) >= _LEAST_CHANNELS
        kernel = np.ascontiguousarray(kernel.transpose(2, 3, 1, 0))
        convolution = Convolution(kernel, steps, apart, _padding(node, window), by_tiles)
        self._convolutions[self._step(node, [self._input(node)], convolution)] = convolution

    def _binary(self, node: Any) -> None:
        kind = node.get_type_name()
        operation = {"Add": np.add, "Subtract": np.subtract, "Multiply": np.multiply, "Divide": np.divide}[kind]
        constants = [_constant(node.input_value(i)) for i in range(2)]
        if all(constant is None for constant in constants):
            self._step(node, [self._input(node, 0), self._input(node, 1)], operation)
            return
        variable = 0 if constants[0] is None else 1
        constant = constants[1 - variable].astype(np.float32)
        channels = -1 if self._has_channels_last(node) else 1
        if constant.size > 1 and (constant.reshape((1,) * (4 - constant.ndim) + constant.shape)).shape[channels] != constant.size:
            raise _refusal(f"{kind} of more than one number for each channel")
        values = constant.reshape(-1)
        found = self._private(node, variable)
        if kind == "Add" and found is not None:
            found.bias = found.bias + values
            self._same[node.get_friendly_name()] = self._input(node, variable)
        elif variable:
            self._step(node, [self._input(node, 1)], lambda grids, result: operation(values, grids, out=result))
        else:
            self._step(node, [self._input(node, 0)], lambda grids, result: operation(grids, values, out=result))

    _add = _subtract = _multiply = _divide = _binary

    def _relu(self, node: Any) -> None:
        self._bound(node, 0.0, np.inf)

    def _clamp(self, node: Any) -> None:
        self._bound(node, *(float(node.get_attributes()[end]) for end in ("min", "max")))

    def _bound(self, node: Any, low: float, high: float) -> None:
        found = self._private(node)
        if found is None:
            bounds = np.float32(low), np.float32(high)
            self._step(node, [self._input(node)], lambda grids, result: np.clip(grids, *bounds, out=result))
        else:
            found.low, found.high = low, high
            self._is(node)

    def _maxpool(self, node: Any) -> None:
        from ffe.engines.winograd_kernels import largest

        (high, wide), (down, right), (top, _, left, _) = self._window(node)
        self._step(node, [self._input(node)], lambda grids, result: largest(grids, result, high, wide, down, right, top, left))

    def _avgpool(self, node: Any) -> None:
        window, (down, right), (top, bottom, left, after) = self._window(node)
        around = [(0, 0), (top, bottom), (left, after), (0, 0)]
        counted = 0.0 if node.get_attributes()["exclude-pad"] else 1.0

        def means(grids: Grids) -> Grids:
            return sliding_window_view(grids, window, (1, 2))[:, ::down, ::right].mean((4, 5), np.float32)

        def compute(grids: Grids, result: Grids) -> None:
            inside = np.pad(np.ones((1, *grids.shape[1:3], 1), np.float32), around, constant_values=counted)
            np.divide(means(np.pad(grids, around)), means(inside), out=result)

        self._step(node, [self._input(node)], compute)

    def _window(self, node: Any) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
        """Return the size, the steps and the padding of a pooling."""
        attributes = node.get_attributes()
        if attributes["rounding_type"] != "floor" or set(attributes.get("dilations", [1])) != {1}:
            raise _refusal(node.get_type_name())
        window = tuple(attributes["kernel"])
        return window, tuple(attributes["strides"]), _padding(node, window)

    def _pad(self, node: Any) -> None:
        before, after = (list(map(int, _constant(node.input_value(i)))) for i in (1, 2))
        value = _constant(node.input_value(3)) if node.get_input_size() > 3 else np.zeros(1)
        plain = node.get_attributes()["pad_mode"] == "constant" and value is not None
        if not plain or before[:2] + after[:2] != [0] * 4 or min(before + after) < 0:
            raise _refusal("Pad")
        number, (top, left) = np.float32(value.reshape(-1)[0]), before[2:]

        def compute(grids: Grids, result: Grids) -> None:
            result[:] = number
            result[:, top : top + grids.shape[1], left : left + grids.shape[2]] = grids

        self._step(node, [self._input(node)], compute)


def _is_last(node: Any) -> bool:
    """Return whether nothing comes after it but what flattens the grid."""
    readers = {reader.get_node().get_type_name(): reader.get_node() for reader in node.output(0).get_target_inputs()}
    return readers.keys() <= {"Result", "Reshape"} and ("Reshape" not in readers or _is_last(readers["Reshape"]))


def _constant(value: Any) -> Any:
    """Return the array of a constant; None = it is computed."""
    node = value.get_node()
    return np.asarray(node.get_data()) if node.get_type_name() == "Constant" else None


def _padding(node: Any, window: Sequence[int]) -> tuple[int, int, int, int]:
    """Return how many rows and columns of nothing stand above, below, left and right of an image."""
    attributes = node.get_attributes()
    how = attributes["auto_pad"].lower()
    if how == "valid":
        return 0, 0, 0, 0
    if how == "explicit":
        (top, left), (bottom, right) = attributes["pads_begin"], attributes["pads_end"]
        return top, bottom, left, right
    sides = []
    for size, made, step, covered in zip(
        node.input(0).get_shape()[2:], node.output(0).get_shape()[2:], attributes["strides"], window, strict=True
    ):
        missing = max(0, (made - 1) * step + covered - size)
        sides.append((missing // 2, missing - missing // 2) if how == "same_upper" else (missing - missing // 2, missing // 2))
    (top, bottom), (left, right) = sides
    return top, bottom, left, right


def _refusal(what: str) -> EngineError:
    return EngineError(f"The engine winograd does not know the operation {what} of this backbone; use --engine openvino.")
