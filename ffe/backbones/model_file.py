"""A file as a backbone: ``model.onnx``, ``model.xml`` of OpenVINO with its ``.bin`` beside it, or ``model.keras``.

Its name in a spec is that of its kind and the first digits of its digest. What the file does not say, the user must.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffe.backbones.file_metadata import preparation
from ffe.backbones.file_network import (
    PictureInput,
    check_batches,
    constants_of,
    cut,
    ends_of,
    input_of,
    metadata_of,
    network_of,
    outputs_of,
    read,
    read_outputs,
    warn_of_scores,
)
from ffe.backbones.keras_file import keras_input, read_keras
from ffe.backbones.onnx_data import external_files
from ffe.backbones.registry import FILES, Network, Wish
from ffe.backbones.weights import IMAGENET, Weights, needed_file
from ffe.base.digests import bytes_digest
from ffe.base.file_access import unopened
from ffe.base.file_stat import remembered_digest
from ffe.base.openvino_ir import digest_of_parts
from ffe.base.text import near_file, url_refusal
from ffe.errors import BackboneError, SpecError, WeightsError, one_line
from ffe.specs import BackboneSpec, PreprocessSpec

_DIGITS = 12  # of a digest, in the name of a spec
_EXAMPLES = {1: ("0.5", "0.25"), 3: ("0.485,0.456,0.406", "0.229,0.224,0.225")}


def resolve(wish: Wish) -> tuple[BackboneSpec, PreprocessSpec, Weights]:
    """Find what a user asks for; see ``ffe.backbones.registry.Source``."""
    path = _file_of(wish)
    weights = _weights(path)
    if path.suffix.lower() == ".keras":
        found, metadata = keras_input(path, wish.layer), dict[str, Any]()
    else:
        model = read(path)
        found, metadata = input_of(model, path), metadata_of(model)
    preprocess = preprocess_of(path, found, metadata, wish)
    if path.suffix.lower() != ".keras":
        taken = cut(model, path, found, preprocess.size, outputs_of(model, path, wish.layer))
        read_outputs(taken, path, found, preprocess.size, metadata)
    name = f"{FILES[path.suffix.lower()]}{weights.sha256[:_DIGITS]}"
    return BackboneSpec(name, weights.kind, weights.sha256, wish.layer), preprocess, weights


def find_weights(spec: BackboneSpec, weights: str, *, download: bool) -> Weights:
    """Find the file that a spec was made with; without its path, only a model that ffe has converted serves."""
    if weights == IMAGENET:
        return Weights("file", spec.weights_sha256)
    path = Path(weights)
    if FILES.get(path.suffix.lower()) != spec.name[: spec.name.find(":") + 1]:
        raise needed_file(spec.name)
    _check_file(weights)
    return _weights(path)


def to_openvino(backbone: BackboneSpec, size: tuple[int, int], weights: Weights) -> Network:
    """Read a network, and make sure that it takes batches; see ``ffe.backbones.registry.Source``."""
    path = weights.path
    if path is None:
        raise needed_file(backbone.name)
    is_keras = path.suffix.lower() == ".keras"  # it comes cut at its layers
    model = read_keras(path, backbone, size) if is_keras else read(path)
    found, metadata = input_of(model, path), metadata_of(model)

    def for_batches(model: Any, batch: int = -1) -> Any:
        outputs = ends_of(model) if is_keras else outputs_of(model, path, backbone.layer)
        return cut(model, path, found, size, outputs, batch)

    alone = for_batches(model.clone(), found.batch or 1)
    network = network_of(for_batches(model), path, found, size, metadata)
    check_batches(network.model, alone, path, found, size)
    if backbone.layer is None:
        warn_of_scores(network, path)
    return network


def _file_of(wish: Wish) -> Path:
    """Return the file that a user names as the backbone."""
    named = FILES.get(Path(wish.name).suffix.lower()) is not None
    path = Path(wish.name if named else wish.weights)
    if not named and FILES.get(path.suffix.lower()) != wish.name[: wish.name.find(":") + 1]:
        raise needed_file(wish.name)
    if named and wish.weights not in {IMAGENET, wish.name}:
        raise WeightsError(f"The file '{path}' holds its own weights; leave --weights {wish.weights} out.")
    _check_file(wish.name if named else wish.weights)
    return path


def _check_file(name: str) -> None:
    path = Path(name)
    if url := url_refusal(name):
        raise BackboneError(url)
    if path.is_dir():
        raise BackboneError(f"'{path}' is a folder; give the file of the network.")
    if not path.exists():
        raise BackboneError(f"There is no file '{path}'; check the path.{near_file(name)}")


def _weights(path: Path) -> Weights:
    """Return a file as a source of weights; its digest covers all files that belong to it."""
    try:
        digest = remembered_digest(path)
        if path.suffix.lower() == ".xml":
            digest = digest_of_parts(digest, remembered_digest(constants_of(path)))
        elif path.suffix.lower() == ".onnx" and (files := external_files(path)):
            names = [file.relative_to(path.parent).as_posix() for file in files]
            digest = bytes_digest(json.dumps([digest, *zip(names, map(remembered_digest, files), strict=True)]).encode())
    except OSError as error:
        raise WeightsError(unopened(path, error)) from error
    return Weights("file", digest, path)


def preprocess_of(path: Path, found: PictureInput, metadata: Mapping[str, Any], wish: Wish) -> PreprocessSpec:
    """Return how pictures are prepared: as the user says, else the file; a BackboneError names what neither says."""
    said = {**_said(path, found, metadata, wish), **wish.changes}
    height, width = found.size
    own = said.pop("size", None)
    size = wish.size or (height or (own or (None, None))[0], width or (own or (None, None))[1])
    if any(side not in {None, given} for side, given in zip(found.size, size, strict=True)):
        free = " at least" if None in found.size else ""
        raise BackboneError(
            f"The network in '{path}' takes pictures of {height or '?'}x{width or '?'} pixels and no others{free}; "
            "leave --size out, or export it with free sides."
        )
    said["channels"] = _channels(path, found, said.get("channels"), wish.changes.get("channels"))
    missing = []
    if found.takes_bytes:
        if named := [f"--{name}" for name in ("mean", "std") if name in wish.changes]:
            raise BackboneError(f"The network in '{path}' takes uint8 and scales it itself; leave {' and '.join(named)} out.")
        said = {**{name: value for name, value in said.items() if name not in {"mean", "std"}}, "mode": "none"}
    elif said.get("mode", "normalize") == "normalize" or "mean" in wish.changes or "std" in wish.changes:
        said["mode"] = "normalize"
        for name, example in zip(("mean", "std"), _EXAMPLES[found.channels], strict=True):
            if name not in said:
                missing.append((f"--{name}", example))
            elif len(said[name]) == 1:
                said[name] = tuple(said[name]) * found.channels
    if None in size:
        missing.append(("--size", "224"))
    if missing:
        names = [name for name, _ in missing]
        what = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
        example = " ".join(f"{name} {value}" for name, value in missing)
        raise BackboneError(
            f"The file '{path}' does not say how its network wants pictures: name {what}, for example {example} "
            "(mean and deviation are of values from 0 to 1), or write it into the file's metadata, as 'ffe bakeoff' wants it."
        )
    if said["mode"] != "normalize":
        said = {name: value for name, value in said.items() if name not in {"mean", "std"}}
    try:
        return PreprocessSpec(**{**said, "size": size})
    except SpecError as error:
        name = str(error).partition(" ")[0]  # of the field
        if name in wish.changes or (name == "size" and (wish.size or None not in found.size)):
            raise
        what = str(error).removesuffix(".")
        raise BackboneError(f"The metadata of '{path}' cannot be used: {what}; name --{name}.") from error


def _said(path: Path, found: PictureInput, metadata: Mapping[str, Any], wish: Wish) -> dict[str, Any]:
    """Return what metadata say; where they make no sense, the user has to name all of it."""
    try:
        return preparation(metadata)
    except (TypeError, ValueError, ArithmeticError) as error:
        fields = ("interpolation", "resize", "crop") if found.takes_bytes else ("mean", "std", "interpolation", "resize", "crop")
        unnamed = [f"--{name}" for name in fields if name not in wish.changes]
        if None in found.size and wish.size is None:
            unnamed.append("--size")
        if unnamed:
            raise BackboneError(
                f"What the metadata of '{path}' say of pictures makes no sense ({one_line(error)}); "
                f"name {', '.join(unnamed)} yourself."
            ) from error
        return {}


def _channels(path: Path, found: PictureInput, said: str | None, named: str | None) -> str | None:
    if found.channels == 1:
        if named not in {None, "gray"}:
            raise BackboneError(f"The network in '{path}' takes one channel; leave --channels {named} out.")
        return "gray"
    if named == "gray":
        raise BackboneError(f"The network in '{path}' takes three channels, not one; leave --channels gray out.")
    return None if said == "gray" else said
