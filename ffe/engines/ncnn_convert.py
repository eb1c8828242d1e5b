"""A network of convolutions in OpenVINO's representation -> one for ncnn, whose 3x3 convolutions take fewer products (Winograd).

Chains and blocks of convolutions, pooling, sums and rectifiers are written: VGG, ResNet and their like.
Format of the graph and order of the weights: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ffe.errors import EngineError

CONVERTER = 1  # goes up when networks come to be written or computed otherwise, so that ``auto`` measures them again
_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
_OPERATORS = {"Add": 0, "Subtract": 1, "Multiply": 2, "Divide": 3}
_MAGIC = 7767517
_FLOAT32 = b"\0\0\0\0"  # before weights that are not packed
_RELU, _CLIP = 1, 3  # activations inside a convolution
_LEAST_SHARE = 0.4
_LEAST_CHANNELS = 16
_LARGE_KERNEL, _SMALL_GRID = 2**20, 32**2  # numbers of a kernel, places of its grid: such weights take longer than the products
_LARGE_TILES = 16  # places of a grid's shorter side; on a smaller grid they stand over, and take more weights
_SHAPE = -23330  # of what a layer makes; of many channels ncnn computes large tiles only where it knows it


@dataclass(frozen=True)
class NcnnModel:
    """A network for ncnn, or a part of one: from one float32 grid (c, h, w) to another, or to one row (c,).

    The first takes float32 (3, H, W), RGB, in [0, 255].
    """

    param: str  # the graph
    weights: bytes
    source: str  # name of its input
    result: str  # name of its output
    together: bool  # one convolution, which takes grids of several images side by side, with zeros between them
    tile: int  # places that its Winograd convolutions of many channels compute at once, per side: 4 or 6


@dataclass
class _Layer:
    kind: str
    name: str  # a number, also of its one output: those of a network may be long, and have spaces
    inputs: list[str]
    settings: dict[int, Any] = field(default_factory=dict)
    weights: list[np.ndarray] = field(default_factory=list)
    together: bool = False
    grid: tuple[int, ...] = ()  # (h, w) of a convolution that Winograd's products are for

    @property
    def tile(self) -> int:
        """Return the best size of its tiles; 0 = it has none."""
        return (6 if min(self.grid) >= _LARGE_TILES else 4) if self.grid else 0


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
    """Return whether ncnn may be the faster for an ``openvino.Model`` of static shape."""
    return winograd_share(model) >= _LEAST_SHARE


def convert(model: Any) -> list[NcnnModel]:
    """Return networks for ncnn that compute, one after another, what an ``openvino.Model`` of static shape (1, H, W, 3) does.

    A chain is cut where the weights of a convolution do not stay in the processor's cache and its grid is small: reading them
    takes longer than multiplying, so that several images are to share them; and where small tiles take the place of large ones.
    Other networks are one, of small tiles.

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
        self._layers: dict[str, _Layer] = {}
        self._same: dict[str, str] = {}  # operation of the network -> layer that computes it

    def add(self, node: Any) -> None:
        kind = node.get_type_name()
        write = getattr(self, f"_{kind.lower()}", None)
        if write is None:
            raise _refusal(kind)
        write(node)

    def _input(self, node: Any, index: int = 0) -> str:
        return self._same[node.input_value(index).get_node().get_friendly_name()]

    def _layer(
        self, node: Any, kind: str, inputs: list[str], settings: dict[int, Any] | None = None, *weights: np.ndarray
    ) -> _Layer:
        name = str(len(self._layers))
        self._same[node.get_friendly_name()] = name
        layer = self._layers[name] = _Layer(kind, name, inputs, settings or {}, list(weights))
        return layer

    def _is(self, node: Any, index: int = 0) -> None:
        """Note that an operation passes on what comes in."""
        self._same[node.get_friendly_name()] = self._input(node, index)

    def _private(self, node: Any, index: int = 0) -> _Layer | None:
        """Return the convolution that computes an input of an operation, if nobody else reads it."""
        value = node.input_value(index)
        layer = self._layers.get(self._input(node, index))
        alone = len(value.get_target_inputs()) == 1
        return layer if alone and layer is not None and layer.kind.startswith("Convolution") and 9 not in layer.settings else None

    def _parameter(self, node: Any) -> None:
        self._layer(node, "Input", [])

    def _convert(self, node: Any) -> None:
        self._is(node)

    _result = _convert

    def _transpose(self, node: Any) -> None:
        order = list(_constant(node.input_value(1)))
        of_image = self._layers[self._input(node)].kind in {"Input", "Scale"} and order == _TO_CHANNELS_FIRST
        if not of_image and not (order == _TO_CHANNELS_LAST and _is_last(node)):
            raise _refusal("Transpose")
        self._is(node)

    def _reshape(self, node: Any) -> None:
        """Take what OpenVINO makes of a transposition at the end, where the grid has one place."""
        batch, channels, *grid = node.input(0).get_shape()
        if grid != [1, 1] or list(node.output(0).get_shape()) != [batch, 1, 1, channels] or not _is_last(node):
            raise _refusal("Reshape")
        self._is(node)

    def _convolution(self, node: Any) -> None:
        kernel = _constant(node.input_value(1)).astype(np.float32)
        groups = 1
        if kernel.ndim == 5:
            groups, kernel = kernel.shape[0], kernel.reshape(-1, *kernel.shape[2:])
        attributes = node.get_attributes()
        (high, wide), (step_y, step_x), (apart_y, apart_x) = kernel.shape[2:], attributes["strides"], attributes["dilations"]
        top, bottom, left, right = _padding(node, ((high - 1) * apart_y + 1, (wide - 1) * apart_x + 1))
        settings = {0: kernel.shape[0], 1: wide, 11: high, 2: apart_x, 12: apart_y, 3: step_x, 13: step_y}
        settings |= {4: left, 15: right, 14: top, 16: bottom, 5: 0, 6: kernel.size} | ({7: groups} if groups > 1 else {})
        kind = "ConvolutionDepthWise" if groups > 1 else "Convolution"
        layer = self._layer(node, kind, [self._input(node)], settings, kernel)
        if kernel.shape[2:] == (3, 3) and (step_y, step_x, apart_y, apart_x, groups) == (1,) * 5:
            layer.grid = tuple(node.output(0).get_shape()[2:])
            same = (top, bottom, left, right) == (1,) * 4
            layer.together = same and kernel.size >= _LARGE_KERNEL and layer.grid[0] * layer.grid[1] <= _SMALL_GRID

    _groupconvolution = _convolution

    def _binary(self, node: Any) -> None:
        kind = node.get_type_name()
        constants = [_constant(node.input_value(i)) for i in range(2)]
        if all(constant is None for constant in constants):
            self._layer(node, "BinaryOp", [self._input(node, 0), self._input(node, 1)], {0: _OPERATORS[kind]})
            return
        variable = 0 if constants[0] is None else 1
        constant = constants[1 - variable].astype(np.float32)
        if constant.size > 1 and sorted(constant.shape)[:-1] != [1] * (constant.ndim - 1):
            raise _refusal(f"{kind} of more than one number for each channel")
        if kind in {"Subtract", "Divide"} and variable == 1:
            raise _refusal(f"{kind} from a constant")
        layer = self._private(node, variable)
        if kind == "Add" and layer is not None and len(layer.weights) == 1:
            layer.weights.append(np.broadcast_to(constant.reshape(-1), layer.settings[0]))
            layer.settings[5] = 1
            self._is(node, variable)
            return
        shape = list(node.output(0).get_shape())
        channels = (
            shape[-1] if self._layers[self._input(node, variable)].kind in {"Input", "Scale"} and shape[-1] == 3 else shape[1]
        )
        values = np.broadcast_to(constant.reshape(-1), channels)
        one, zero = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        scale, offset = {
            "Add": (one, values),
            "Subtract": (one, -values),
            "Multiply": (values, zero),
            "Divide": (1 / values, zero),
        }[kind]
        self._layer(node, "Scale", [self._input(node, variable)], {0: channels, 1: 1}, scale, offset)

    _add = _subtract = _multiply = _divide = _binary

    def _relu(self, node: Any) -> None:
        layer = self._private(node)
        if layer is None:
            self._layer(node, "ReLU", [self._input(node)])
        else:
            layer.settings[9] = _RELU
            self._is(node)

    def _clamp(self, node: Any) -> None:
        layer, bounds = self._private(node), [f"{node.get_attributes()[end]:e}" for end in ("min", "max")]
        if layer is None:
            self._layer(node, "Clip", [self._input(node)], dict(enumerate(bounds)))
        else:
            layer.settings |= {9: _CLIP, -23310: ",".join(["2", *bounds])}
            self._is(node)

    def _maxpool(self, node: Any) -> None:
        self._pool(node, 0, {})

    def _avgpool(self, node: Any) -> None:
        self._pool(node, 1, {6: 0 if node.get_attributes()["exclude-pad"] else 1})

    def _pool(self, node: Any, kind: int, more: dict[int, Any]) -> None:
        attributes = node.get_attributes()
        if attributes["rounding_type"] != "floor" or set(attributes.get("dilations", [1])) != {1}:
            raise _refusal(node.get_type_name())
        (high, wide), (step_y, step_x) = attributes["kernel"], attributes["strides"]
        top, bottom, left, right = _padding(node, (high, wide))
        settings = {0: kind, 1: wide, 11: high, 2: step_x, 12: step_y, 3: left, 14: right, 13: top, 15: bottom, 5: 1}
        self._layer(node, "Pooling", [self._input(node)], settings | more)

    def _pad(self, node: Any) -> None:
        before, after = (list(map(int, _constant(node.input_value(i)))) for i in (1, 2))
        value = _constant(node.input_value(3)) if node.get_input_size() > 3 else np.zeros(1)
        if node.get_attributes()["pad_mode"] != "constant" or before[:2] + after[:2] != [0] * 4 or value is None:
            raise _refusal("Pad")
        settings = {0: before[2], 1: after[2], 2: before[3], 3: after[3], 4: 0, 5: f"{float(value.reshape(-1)[0]):e}"}
        self._layer(node, "Padding", [self._input(node)], settings)

    def finished(self) -> list[NcnnModel]:
        """Return the networks."""
        layers = list(self._layers.values())
        readers = Counter(name for layer in layers for name in layer.inputs)
        chain = all(len(layer.inputs) <= 1 and readers[layer.name] <= 1 for layer in layers)
        parts, tiles = [layers[:1]], [0]  # 0 = no convolution has any yet
        for layer in layers[1:]:
            if chain and (layer.together or parts[-1][-1].together or {layer.tile, tiles[-1]} == {4, 6}):
                parts.append([_Layer("Input", layer.inputs[0], [])])
                tiles.append(0)
            parts[-1].append(layer)
            tiles[-1] = tiles[-1] or layer.tile
        return [_written(part, tile if chain and tile else 4) for part, tile in zip(parts, tiles, strict=True)]


def _written(layers: Sequence[_Layer], tile: int) -> NcnnModel:
    """Return layers as a network; a value that several layers read is split first, as ncnn wants it."""
    readers = Counter(name for layer in layers for name in layer.inputs)
    copies = {name: iter(range(count)) for name, count in readers.items() if count > 1}
    lines, values, weights = list[str](), 0, bytearray()
    for layer in layers:
        inputs = [f"{name}/{next(copies[name])}" if name in copies else name for name in layer.inputs]
        settings = [f"{key}={value}" for key, value in layer.settings.items()]
        if tile == 6 and layer.grid:
            settings.append(f"{_SHAPE}=4,3,{layer.grid[1]},{layer.grid[0]},{layer.settings[0]}")
        lines.append(" ".join([layer.kind, layer.name, str(len(inputs)), "1", *inputs, layer.name, *settings]))
        values += 1
        if (count := readers[layer.name]) > 1:
            split = [f"{layer.name}/{i}" for i in range(count)]
            lines.append(" ".join(["Split", f"{layer.name}/split", "1", str(count), layer.name, *split]))
            values += count
        if layer.kind.startswith("Convolution"):
            weights += _FLOAT32
        for array in layer.weights:
            weights += np.ascontiguousarray(array, np.float32).tobytes()
    param = "\n".join([str(_MAGIC), f"{len(lines)} {values}", *lines, ""])
    return NcnnModel(param, bytes(weights), layers[0].name, layers[-1].name, layers[-1].together, tile)


def _is_last(node: Any) -> bool:
    return all(reader.get_node().get_type_name() == "Result" for reader in node.output(0).get_target_inputs())


def _constant(value: Any) -> Any:
    """Return the array of a constant; None = it is computed."""
    node = value.get_node()
    return np.asarray(node.get_data()) if node.get_type_name() == "Constant" else None


def _padding(node: Any, window: tuple[int, int]) -> tuple[int, int, int, int]:
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
    return EngineError(f"The engine ncnn does not know the operation {what} of this backbone; use --engine openvino.")
