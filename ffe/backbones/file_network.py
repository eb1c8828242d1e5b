"""The network in an ONNX or IR file: what it takes, what it gives, and that it takes batches."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffe.backbones.file_metadata import class_token, flatten, prefix_tokens
from ffe.backbones.network_parts import InputAxes, Output, has_class_token, input_axes, part_of, warn_of_tokens
from ffe.backbones.registry import Network, layers_of
from ffe.base.feature_layout import FeatureLayout
from ffe.base.file_access import unopened
from ffe.base.openvino_ir import IrModel, check_graph, check_operations, import_openvino
from ffe.base.text import did_you_mean, few, quoted
from ffe.errors import BackboneError, EngineError, one_line

log = logging.getLogger("ffe")

_TOLERANCE = 1e-3  # of the largest feature: how far a picture in a batch may be from the same one alone
_SOFTMAX = {"Softmax", "LogSoftmax"}
_NAMES_OF_SCORES = {"logit", "logits", "softmax", "prob", "probs", "probabilities", "scores", "predictions"}
_IMAGENET_CLASSES = {1000, 1001, 21841, 21843}
_MOST_BYTES = 8 << 30  # of one array inside a network, for one picture


@dataclass(frozen=True)
class PictureInput:
    """The one input of a network."""

    axes: InputAxes
    channels: int  # 1 or 3
    size: tuple[int | None, int | None]  # (height, width) in pixels; None = free
    batch: int | None
    takes_bytes: bool  # uint8, which the network scales itself


def constants_of(path: Path) -> Path:
    """Return the file with the constants of an IR model."""
    file = path.with_suffix(".bin")
    if not file.is_file():
        raise BackboneError(f"Beside '{path}' there is no '{file.name}' with its weights; put both files into one folder.")
    return file


def read(path: Path) -> Any:
    """Return the ``openvino.Model`` of an ONNX or IR file; none of its operations comes from elsewhere, and all of them end."""
    ov = import_openvino()
    try:
        if path.suffix.lower() == ".xml":
            ir = IrModel(path.read_bytes(), np.fromfile(constants_of(path), np.uint8))
            check_graph(ir)
            return ov.Core().read_model(ir.xml.decode(), ov.Tensor(ir.weights))
        from openvino.frontend import FrontEndManager

        reader = FrontEndManager().load_by_framework("onnx")  # ``read_model`` would try the readers of other formats, too
        model = reader.convert(reader.load(str(path)))
        check_operations(model)
    except OSError as error:
        raise BackboneError(unopened(path, error)) from error
    except BackboneError:
        raise
    except Exception as error:  # OpenVINO raises many kinds on what it cannot read
        text = str(error) if isinstance(error, ValueError) else one_line(error)
        if unknown := re.search(r"No conversion rule found for operations: ([^\n]+)", str(error)):
            text = f"OpenVINO does not know the operations {unknown[1]}"
        raise BackboneError(f"'{path}' is damaged, or no network that OpenVINO can read ({text}); export it again.") from error
    return model


def metadata_of(model: Any) -> dict[str, Any]:
    """Return the flat metadata of an ``openvino.Model``; see ``ffe.backbones.file_metadata``."""

    def plain(value: Any) -> Any:
        value = getattr(value, "value", value)
        return {key: plain(inner) for key, inner in value.items()} if hasattr(value, "items") else value

    return flatten(plain(model.get_rt_info()))


def input_of(model: Any, path: Path) -> PictureInput:
    """Return what a network takes; a BackboneError where it is not one picture."""
    if len(model.inputs) != 1:
        names = few(quoted(sorted(_name(source) for source in model.inputs)))
        raise BackboneError(
            f"The network in '{path}' has {len(model.inputs)} inputs{f' ({names})' if names else ''}, and a backbone has one, "
            "for pictures; export the part that takes pictures."
        )
    source = model.inputs[0]
    layout = str(model.get_parameters()[0].layout).strip("[]").replace(",", "")
    return picture_input(_sides(source), source.element_type.get_type_name(), path, layout)


def picture_input(shape: Sequence[int | None], kind: str, path: Path, layout: str = "") -> PictureInput:
    """Return an input by its shape, the batch included, its type in OpenVINO's words, and its axes, where they are known."""
    if len(shape) == 2 and kind in {"i32", "i64"}:
        raise BackboneError(f"The network in '{path}' takes text ({kind} of two axes), not pictures; give the one for pictures.")
    if len(shape) != 4:
        raise BackboneError(f"The network in '{path}' takes no pictures: its input has {len(shape)} axes, and pictures have 4.")
    if layout in {"NCHW", "NHWC"} and shape[layout.index("C")] in {1, 3}:
        found = (layout, shape[layout.index("C")])
    else:
        found = input_axes(shape)  # type: ignore[assignment]
    if found is None:
        raise BackboneError(
            f"The input of the network in '{path}' is {shape_text(shape)}, which does not show one axis of 3 channels, or of 1, "
            "second or last; export it so."
        )
    if kind not in {"u8", "f32", "f16", "bf16", "f64"}:
        raise BackboneError(f"The network in '{path}' takes numbers of type {kind}; export it for float32 or uint8.")
    axes, channels = found
    height, width = (shape[axes.index(side)] for side in "HW")
    return PictureInput(axes, channels, (height, width), shape[0], kind == "u8")  # type: ignore[arg-type]


def cut(model: Any, path: Path, found: PictureInput, size: tuple[int, int], outputs: Sequence[Any], batch: int = -1) -> Any:
    """Return an ``openvino.Model`` for pictures of one size, from float32 to some ``outputs`` of the nodes of a model."""
    ov = import_openvino()
    from openvino import opset13 as ops

    sides = {"N": batch, "C": found.channels, "H": size[0], "W": size[1]}
    parameter = model.get_parameters()[0]
    kind = parameter.get_element_type()
    targets = parameter.output(0).get_target_inputs()
    source = ops.parameter([sides[axis] for axis in found.axes], ov.Type.f32, "pictures")
    pictures = source.output(0) if kind == ov.Type.f32 else ops.convert(source, kind.get_type_name()).output(0)
    for target in targets:
        target.replace_source_output(pictures)
    for output in outputs:
        if not output.get_element_type().is_real():
            raise _no_features(output, path)
    try:
        floats = [out if out.element_type == ov.Type.f32 else ops.convert(out, "f32").output(0) for out in outputs]
        taken = ov.Model([ops.result(out) for out in floats], [source], "backbone")
        taken.validate_nodes_and_infer_types()
    except RuntimeError as error:
        raise wrong_size(path, size, error) from error
    _check_arrays(taken, path)
    return taken


def read_outputs(taken: Any, path: Path, found: PictureInput, size: tuple[int, int], metadata: Mapping[str, Any]) -> list[Output]:
    """Return how the outputs of what ``cut`` made lie in a row; a BackboneError where one holds no features."""
    constants = (node.get_friendly_name() for node in taken.get_ops() if node.get_type_name() == "Constant")
    told = class_token(metadata)
    prefix, told = prefix_tokens(metadata), has_class_token(constants) if told is None else told
    return [_read_output(output, path, size, found.axes, prefix, told) for output in taken.outputs]


def network_of(taken: Any, path: Path, found: PictureInput, size: tuple[int, int], metadata: Mapping[str, Any]) -> Network:
    """Return what ``cut`` made, and how its outputs lie; what is not known of them is said."""
    outputs = read_outputs(taken, path, found, size, metadata)
    has_metadata = path.suffix.lower() in {".onnx", ".xml"}
    hint = "if it is one, write has_class_token=true into the metadata of the file" if has_metadata else ""
    warn_of_tokens(outputs, f"the network in '{path}'", hint)
    parts = tuple(output.part for output in outputs)
    return Network(taken, found.axes, tuple(output.axes for output in outputs), FeatureLayout(parts))


def warn_of_scores(network: Network, path: Path) -> None:
    """Say that a network ends in scores of classes where its last step, a name or ImageNet's number of classes shows it."""
    if network.output_layouts != ("NC",):
        return
    count, output = network.layout.dims, ends_of(network.model)[0]
    words = {word for name in output.get_names() for word in re.split(r"[^a-z]+", name.lower())}
    if output.get_node().get_type_name() in _SOFTMAX:
        why = "it ends in a softmax"
    elif named := words & _NAMES_OF_SCORES:
        why = f"its output is named '{min(named)}'"
    elif count in _IMAGENET_CLASSES:
        why = "ImageNet has as many classes"
    else:
        return
    earlier = _before_classifier(output.get_node())
    log.warning(
        "the %s values that the network in '%s' gives look like scores of classes (%s), and what comes before those makes better "
        "features; name an earlier layer with --layer%s",
        f"{count:,}",
        path,
        why,
        "" if earlier is None or path.suffix.lower() == ".keras" else f", such as {_name(earlier)}",
    )


def _before_classifier(node: Any) -> Any:
    """Return the output that the last dense layer of a network is given; None where it does not end in one."""
    while node.get_type_name() in _SOFTMAX | {"Add", "Multiply", "Convert"}:
        inputs = [source.get_node() for source in node.input_values()]
        node = next((each for each in inputs if each.get_type_name() not in {"Constant", "Convert"}), inputs[0])
    return node.input_value(0) if node.get_type_name() == "MatMul" else None


def _name(output: Any) -> str:
    """Return the name of a tensor; one that has none but OpenVINO's number is called as the node that gives it."""
    names = [name for name in output.get_names() if not re.fullmatch(r"Result_\d+", name)]
    return min(names, default=str(output.get_node().get_friendly_name()))


def ends_of(model: Any) -> list[Any]:
    """Return the outputs of the nodes that an ``openvino.Model`` ends with, in its order."""
    return [result.input_value(0) for result in model.get_results()]


def outputs_of(model: Any, path: Path, layer: str | None) -> list[Any]:
    """Return what is taken of a network: its one output, or those, or tensors inside, that a user names."""
    ends = ends_of(model)
    known = {_name(output): output for output in ends}
    if layer is None:
        if len(ends) != 1:
            raise several_outputs(path, list(known))
        return ends
    inside: dict[str, Any] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() in {"Parameter", "Constant", "Result"}:
            continue
        for output in node.outputs():
            inside.update(dict.fromkeys(output.get_names(), output))
        if len(node.outputs()) == 1:
            inside.setdefault(node.get_friendly_name(), node.output(0))
    inside.update(known)
    check_layers(path, layer, inside, list(known))
    return [inside[name] for name in layers_of(layer)]


def several_outputs(path: Path, names: Sequence[str]) -> BackboneError:
    """Return the error for a network with several outputs, of which none was named."""
    return BackboneError(
        f"The network in '{path}' has {len(names)} outputs; name those to take with --layer: {', '.join(names)}."
    )


def check_layers(path: Path, layer: str, known: Iterable[str], shown: Sequence[str]) -> None:
    """Raise a BackboneError unless all layers that a user asks for are ``known``; some are ``shown``."""
    known = list(known)
    for name in layers_of(layer):
        if name not in known:
            raise BackboneError(
                f"The network in '{path}' has no layer '{name}'; {'its last ones are' if len(shown) > 1 else 'its output is'} "
                f"{', '.join(shown[-8:])}.{did_you_mean(name, known)}"
            )


def _read_output(
    output: Any, path: Path, size: tuple[int, int], axes: InputAxes, prefix: int | None, class_token: bool | None
) -> Output:
    """Return how an output lies in a row."""
    batch, *shape = _sides(output) or [None, None]
    if batch is not None:
        raise _one_picture(path, f"its output '{_name(output)}' is {shape_text([batch, *shape])}")
    known = [side for side in shape if side is not None]
    found = part_of(known, size, axes, prefix, class_token) if len(known) == len(shape) else None
    if found is None:
        raise _no_features(output, path)
    return found


def _no_features(output: Any, path: Path) -> BackboneError:
    kind = output.get_element_type().get_type_name()
    return BackboneError(
        f"The output '{_name(output)}' of the network in '{path}' ({kind}, {shape_text(_sides(output))}) holds no features: no "
        "vector, no grid and no tokens that cover the picture; name another layer with --layer."
    )


def _sides(tensor: Any) -> list[int | None]:
    """Return the shape of an input or output; a None in it is free, and none is left of one whose axes are not known."""
    shape = tensor.get_partial_shape()
    return [None if side.is_dynamic else side.get_length() for side in shape] if shape.rank.is_static else []


def shape_text(sides: Sequence[int | None]) -> str:
    """Say a shape: ``?x3x224x224``."""
    return "x".join("?" if side is None else str(side) for side in sides)


def _check_arrays(model: Any, path: Path) -> None:
    """Refuse a network that would ask for more memory than machines have, before it is asked for."""
    for node in model.get_ops():
        for output in node.outputs():
            sides = [side for side in _sides(output) if side is not None]
            if math.prod(sides) * output.get_element_type().size > _MOST_BYTES:
                raise BackboneError(
                    f"The network in '{path}' makes an array of {shape_text(sides)} numbers for one picture, which no machine "
                    "holds; give another file."
                )


def check_batches(together: Any, alone: Any, path: Path, found: PictureInput, size: tuple[int, int]) -> None:
    """Make sure that pictures in a batch give what each gives alone; some networks were exported for one picture only."""
    ov = import_openvino()
    sides = {"N": 2, "C": found.channels, "H": size[0], "W": size[1]}
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, [sides[axis] for axis in found.axes]).astype(np.float32)
    if not found.takes_bytes:
        images = images / 127.5 - 1
    settings = {"INFERENCE_PRECISION_HINT": ov.Type.f32}
    try:
        one = ov.Core().compile_model(alone, "CPU", settings)
        expected = [list(one(np.repeat(image[None], found.batch or 1, axis=0)).values()) for image in images]
    except RuntimeError as error:
        raise EngineError(f"OpenVINO cannot run the network in '{path}' ({one_line(error)}); export it again.") from error
    wrong = ""
    try:
        outputs = list(ov.Core().compile_model(together, "CPU", settings)(images).values())
    except RuntimeError as error:
        wrong = one_line(error)
    else:
        for number, output in enumerate(outputs):
            single = np.stack([values[number][0] for values in expected])
            if output.shape != single.shape or not np.abs(output - single).max() <= _TOLERANCE * np.abs(single).max():
                wrong = "pictures in a batch give other features than alone"
    if wrong:
        raise _one_picture(path, wrong)


def wrong_size(path: Path, size: tuple[int, int], error: Exception) -> BackboneError:
    """Return the error for pictures of a (height, width) that a network cannot take."""
    return BackboneError(
        f"The network in '{path}' cannot take pictures of {size[0]}x{size[1]} pixels ({one_line(error)}); name another --size."
    )


def _one_picture(path: Path, why: str) -> BackboneError:
    return BackboneError(f"The network in '{path}' takes one picture at a time: {why}; export it with a free batch axis.")
