"""Where backbones come from besides Keras: one module each, found by how a name begins, or how a file's name ends.

A module has the functions of ``Source``. Its networks run through OpenVINO, which they are converted to once; after
that nothing of the library that they came from is needed. The backbones of Keras are rows of ``ffe.backbones.catalog``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from ffe.backbones.network_parts import InputAxes, OutputAxes
from ffe.backbones.weights import Weights
from ffe.base.feature_layout import FeatureLayout
from ffe.base.text import url_refusal
from ffe.errors import BackboneError
from ffe.specs import BackboneSpec, PreprocessSpec

# how a name begins, and the module of this package that knows such backbones
SOURCES = {
    "timm:": "timm",
    "hf:": "huggingface",
    "keras-hub:": "keras_hub",
    "onnx:": "model_file",
    "openvino:": "model_file",
    "keras:": "model_file",
}
_WEIGHTS_ALONE = {".pth", ".pt", ".safetensors", ".bin"}
# files that are a backbone, and how the names of their specs begin
FILES = {".onnx": "onnx:", ".xml": "openvino:", ".keras": "keras:"}


@dataclass(frozen=True)
class Wish:
    """What a user asks of a backbone; see ``ffe.extract``."""

    name: str  # with its beginning, or the path of a file
    size: tuple[int, int] | None = None  # (height, width) in pixels; None = the backbone's own
    weights: str = "imagenet"  # ``imagenet`` (those that the source has), ``random``, or a path
    layer: str | None = None  # names of layers, joined by commas; None = the last
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields of ``PreprocessSpec`` that the user names
    download: bool = True  # whether weights may be fetched


@dataclass(frozen=True)
class Network:
    """A backbone as OpenVINO or PyTorch has it, before scaling is put in front of it."""

    # ``openvino.Model`` or ``torch.nn.Module`` from one float32 input, scaled, to an output for each layer of the spec, in that
    # order; of PyTorch always a tuple
    model: Any
    input_layout: InputAxes
    # the axes of each output: a grid (``NCHW``, ``NHWC``), tokens (``NTC``), a vector (``NC``)
    output_layouts: tuple[OutputAxes, ...]
    layout: FeatureLayout  # of a row, a part for each output


class Source(Protocol):
    """What a module of a source has."""

    def resolve(self, wish: Wish) -> tuple[BackboneSpec, PreprocessSpec, Weights]:
        """Find what a user asks for; a BackboneError or WeightsError says in a sentence why it cannot be had."""

    def find_weights(self, spec: BackboneSpec, weights: str, *, download: bool) -> Weights:
        """Find weights for a spec that was made before; whether they are the same is checked by the caller."""

    def to_openvino(self, backbone: BackboneSpec, size: tuple[int, int], weights: Weights) -> Network:
        """Build the network, and turn it into an OpenVINO model that is proven equal to it."""


def check_of_keras(name: str, so: str) -> None:
    """Raise a BackboneError if a backbone is none of Keras's, with what follows from that."""
    if source_of(name) is not None:
        raise BackboneError(f"The backbone '{name}' is none of Keras's, so {so}; take one that 'ffe backbones' lists.")


def layers_of(layer: str | None) -> tuple[str, ...]:
    """Return the names of the layers of a spec, in their order; none = the last.

    A BackboneError says that one is named twice, or none where a comma stands.
    """
    names = tuple(name.strip() for name in layer.split(",")) if layer else ()
    if not all(names):
        raise BackboneError(f"There is a comma too many in --layer {layer}; write {','.join(filter(None, names)) or 'a name'}.")
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise BackboneError(f"The layer '{twice[0]}' is named twice; name each once.")
    return names


@runtime_checkable
class TorchSource(Source, Protocol):
    """A source whose networks are those of PyTorch, so that the engine ``torch`` can run them."""

    def to_torch(self, backbone: BackboneSpec, size: tuple[int, int], weights: Weights) -> Network:
        """Build the network in evaluation mode, on the processor."""


def source_of(name: str) -> Source | None:
    """Return the source of a backbone, by its name or its file; None = Keras's catalogue."""
    beginning = FILES.get(Path(name).suffix.lower()) or name[: name.find(":") + 1]
    module = SOURCES.get(beginning)
    return None if module is None else cast(Source, importlib.import_module(f"ffe.backbones.{module}"))


def path_refusal(name: str) -> str | None:
    """Return what to say of a file, folder or URL that stands where a backbone does, and is none; None = it is a name."""
    path = Path(name)
    if path.suffix.lower() in _WEIGHTS_ALONE:
        return (
            f"'{name}' holds weights alone, and does not say of which network; "
            f"name that, as in --backbone timm:NAME --weights {name}."
        )
    if path.is_dir() and name != path.name:
        return f"'{name}' is a folder; give the file of a network, such as {', '.join(f'model{suffix}' for suffix in FILES)}."
    return url_refusal(name)
