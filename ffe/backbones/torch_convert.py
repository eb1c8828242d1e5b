"""A network of PyTorch -> OpenVINO, proven equal; which of its outputs are taken, and how their values lie."""

from __future__ import annotations

import contextlib
import difflib
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from ffe.backbones.network_parts import InputAxes, Output, part_of, warn_of_tokens
from ffe.backbones.registry import Network
from ffe.base.digests import bytes_digest, canonical_json
from ffe.base.feature_layout import FeatureLayout, Part
from ffe.base.file_stat import read_note, write_note
from ffe.base.openvino_ir import import_openvino
from ffe.base.system import cache_root, library_version
from ffe.errors import BackboneError, EngineError, WeightsError, one_line
from ffe.specs import Interpolation, PreprocessSpec

TOLERANCE = 1e-3  # of the largest feature: how far a converted network may be from the one that it was made of

_TOO_SMALL = "Kernel after dilation has size"  # what OpenVINO says then, and PyTorch takes as it is
_RECIPE = 2  # goes up when the facts in the notes come to be other ones


@dataclass(frozen=True)
class TorchModel:
    """A network of PyTorch, in evaluation mode."""

    name: str  # of the backbone, as the user gives it
    module: Any  # ``torch.nn.Module``, from float32 (N, 3, H, W), scaled
    features: Callable[[Any], Any]  # from a batch to what it gives before pooling: a tensor, or a sequence of them
    whole: Callable[[Any], Any]  # from a batch to its last output, through all layers
    prefix: int | None = None  # tokens before the grid, where it gives tokens; None = not known
    class_token: bool | None = None  # whether the first of these is the class token; None = not known
    grids: InputAxes = "NCHW"  # axes of its grids, where their shapes do not show them


def check_layers(model: TorchModel, layers: Sequence[str]) -> None:
    """Raise a BackboneError, with the nearest names, if a network does not have a layer."""
    names = [name for name, _ in model.module.named_modules() if name]
    for layer in layers:
        if layer not in names:
            near = difflib.get_close_matches(layer, names, n=3) or [name for name, _ in model.module.named_children()]
            raise BackboneError(f"The backbone '{model.name}' has no layer '{layer}'; names near it are {', '.join(near)}.")


def outputs(model: TorchModel, layers: Sequence[str]) -> Any:
    """Return a ``torch.nn.Module`` from a batch to a tuple of tensors: those of the layers, or the features without any."""
    import torch

    class Outputs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model.module

        def forward(self, batch: Any) -> tuple[Any, ...]:
            if not layers:
                return _tensors(model.features(batch))
            taken: dict[str, Any] = {}
            hooks = [
                self.network.get_submodule(layer).register_forward_hook(
                    # what follows may change the tensor in place
                    lambda _module, _inputs, output, layer=layer: taken.__setitem__(layer, _tensors(output)[0].clone())
                )
                for layer in layers
            ]
            try:
                model.whole(batch)
            finally:
                for hook in hooks:
                    hook.remove()
            for layer in layers:
                if layer not in taken:
                    raise BackboneError(f"The layer '{layer}' of the backbone '{model.name}' takes no part; name another one.")
            return tuple(taken[layer] for layer in layers)

    return Outputs().eval()


def _tensors(value: Any) -> tuple[Any, ...]:
    import torch

    found = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not found or not isinstance(found[0], torch.Tensor):
        raise BackboneError(f"gives {type(value).__name__}, not tensors")
    return tuple(item for item in found if isinstance(item, torch.Tensor))


def shapes(model: TorchModel, layers: Sequence[str], size: tuple[int, int]) -> list[tuple[int, ...]]:
    """Return the shapes of the outputs for one picture; a network on the device ``meta`` computes no values for it."""
    import torch

    device = next(model.module.parameters()).device
    with torch.no_grad():
        return [tuple(tensor.shape) for tensor in outputs(model, layers)(torch.zeros(1, 3, *size, device=device))]


def _network(model: TorchModel, network: Any, values: Sequence[np.ndarray], size: tuple[int, int]) -> Network:
    """Return a network whose outputs are like ``values``, the batch included, for pictures of (height, width)."""
    found = []
    for value in values:
        shape = value.shape[1:]
        output = part_of(shape, size, model.grids, model.prefix, model.class_token)
        if output is None and len(shape) == 2:  # what covers no picture, such as the states of a part, stands in a column
            output = Output("NTC", Part(shape[0], 1, shape[1]))
        if output is None:
            raise BackboneError(
                f"The backbone '{model.name}' gives an output of {'x'.join(map(str, shape))} there, which is no vector, "
                "no tokens and no grid that covers the picture; name another --layer."
            )
        found.append(output)
    warn_of_tokens(found, f"the backbone '{model.name}'")
    return Network(network, "NCHW", tuple(output.axes for output in found), FeatureLayout(tuple(output.part for output in found)))


def check_patches(model: TorchModel, size: tuple[int, int], patch: tuple[int, int]) -> None:
    """Raise a BackboneError if a network cuts pictures of (height, width) into patches of (height, width), and some is left."""
    near = [max(round(pixels / step), 1) * step for pixels, step in zip(size, patch, strict=True)]
    if tuple(near) != tuple(size):
        raise BackboneError(
            f"The backbone '{model.name}' cuts pictures into patches of {patch[0]}x{patch[1]} pixels, and {size[0]}x{size[1]} is "
            f"no multiple of that; give --size {near[0]}x{near[1]}."
        )


def preprocess_spec(backbone: str, facts: Mapping[str, Any], changes: Mapping[str, Any]) -> PreprocessSpec:
    """Return how pictures are prepared: as a library says (fields of ``PreprocessSpec``), but for what the user names."""
    fields = {"mode": "normalize", **facts, **changes}
    if fields["interpolation"] not in get_args(Interpolation):
        raise BackboneError(
            f"The backbone '{backbone}' resizes pictures by '{fields['interpolation']}', which ffe does not have; name a filter "
            f"with --interpolation ({', '.join(get_args(Interpolation))})."
        )
    if fields.get("channels") == "gray":
        raise BackboneError(f"The backbone '{backbone}' takes three channels, not one; leave --channels gray out.")
    return PreprocessSpec(**fields)


def to_network(model: TorchModel, layers: Sequence[str], size: tuple[int, int]) -> Network:
    """Convert a network for pictures of (height, width), and compare what it gives for two random ones.

    Raises:
        EngineError: OpenVINO cannot convert it, or what it made of it gives other features.
        BackboneError: pictures of the size are too small for it, or it gives another answer each time.
        WeightsError: it gives no numbers, or nothing.
    """
    import torch

    ov = import_openvino()
    module, generator = outputs(model, layers), np.random.default_rng(0)
    example, images = (torch.from_numpy(generator.standard_normal((count, 3, *size), np.float32)) for count in (1, 2))
    with torch.no_grad(), _quiet():
        expected = _answers(model, module, images)
        try:
            converted = ov.convert_model(module, example_input=example, input=[-1, 3, *size])
            compiled = ov.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": ov.Type.f32})
            found = list(compiled(images.numpy()).values())
        except Exception as error:  # OpenVINO raises many kinds where it does not know an operation
            if _TOO_SMALL in str(error):
                raise BackboneError(
                    f"The backbone '{model.name}' cannot take pictures of {size[0]}x{size[1]} pixels: less is left of them "
                    "inside than it pools; give a larger --size."
                ) from error
            raise EngineError(
                f"OpenVINO cannot convert the backbone '{model.name}' ({one_line(error)}); choose another backbone."
            ) from error
    for ours, theirs in zip(found, expected, strict=True):
        largest = float(np.abs(theirs).max())
        difference = float(np.abs(ours - theirs).max()) / largest if ours.shape == theirs.shape else math.inf
        if not difference <= TOLERANCE:
            raise EngineError(
                f"OpenVINO converts the backbone '{model.name}' wrongly: a feature is off by {difference:.1%} of the largest, "
                f"where {TOLERANCE:.1%} is allowed; choose another backbone."
            )
    return _network(model, converted, expected, size)


def as_it_is(model: TorchModel, layers: Sequence[str], size: tuple[int, int]) -> Network:
    """Return a network for pictures of (height, width) that stays PyTorch's; it raises what ``to_network`` does."""
    import torch

    module, images = outputs(model, layers), np.random.default_rng(0).standard_normal((1, 3, *size), np.float32)
    with torch.no_grad(), _quiet():
        found = _answers(model, module, torch.from_numpy(images))
    return _network(model, module, found, size)


def _answers(model: TorchModel, module: Any, images: Any) -> list[np.ndarray]:
    """Return what a network gives for pictures, once it is known to be numbers, and the same each time."""
    first, second = ([tensor.numpy() for tensor in module(images)] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        largest = float(np.abs(one).max())
        if not 0 < largest < math.inf:
            raise WeightsError(
                f"The weights of the backbone '{model.name}' are not whole: what it gives for a picture is {largest}; "
                "give a file that was made of it."
            )
        if one.shape != other.shape or not np.abs(one - other).max() <= TOLERANCE * largest:
            raise BackboneError(
                f"The backbone '{model.name}' gives another answer each time: it draws at random; choose another backbone."
            )
    return first


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to oneself what PyTorch and OpenVINO say of each other while a network is traced."""
    level = logging.getLogger().manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)


def note_of(key: Any) -> Path:
    """Return where in the cache folder a note about JSON values is kept."""
    return cache_root() / "facts" / f"{bytes_digest(canonical_json(key))[:32]}.json"


def remembered(library: str, key: Mapping[str, Any], find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return JSON values that a library says of a model, from a note in the cache folder, so that it need not be loaded.

    A note holds for one version of the library; where that is gone, for ever. What was ``unsaid`` is asked for again: a
    package may have been missing, or memory.
    """
    version, note = library_version(library), note_of([library, _RECIPE, key])
    content = read_note(note)
    if isinstance(content.get("facts"), dict) and version in {content.get("version"), None}:
        return cast(dict[str, Any], content["facts"])
    facts = find()
    if "unsaid" not in facts:
        write_note(note, {"version": version, "facts": facts})
    return facts
