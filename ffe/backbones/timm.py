"""The backbones of timm: ``timm:vit_small_patch14_dinov2.lvd142m``. https://huggingface.co/docs/timm"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from ffe.backbones.file_metadata import CROP_MODES
from ffe.backbones.network_parts import has_class_token
from ffe.backbones.registry import Network, Wish, layers_of
from ffe.backbones.torch_convert import (
    TorchModel,
    as_it_is,
    check_layers,
    check_patches,
    preprocess_spec,
    remembered,
    shapes,
    to_network,
)
from ffe.backbones.torch_library import import_library
from ffe.backbones.torch_weights import fill_randomly, read_tensors, unfit
from ffe.backbones.torch_weights import find_weights as find_file
from ffe.backbones.weights import Weights, needed_file
from ffe.base.forks import check_torch
from ffe.base.text import did_you_mean
from ffe.errors import BackboneError, one_line
from ffe.specs import BackboneSpec, PreprocessSpec


def resolve(wish: Wish) -> tuple[BackboneSpec, PreprocessSpec, Weights]:
    """Find what a user asks for; see ``ffe.backbones.registry.Source``."""
    facts = _facts(wish.name)
    size = wish.size or tuple(facts["size"])
    preprocess = preprocess_spec(wish.name, {**facts["preprocess"], "size": size}, wish.changes)
    key = {"name": wish.name, "size": list(preprocess.size), "layer": wish.layer}
    remembered("timm", key, partial(_check, wish.name, preprocess.size, wish.layer))
    weights = find_weights(BackboneSpec(wish.name, "file", ""), wish.weights, download=wish.download)
    return BackboneSpec(wish.name, weights.kind, weights.sha256, wish.layer), preprocess, weights


def find_weights(spec: BackboneSpec, weights: str, *, download: bool) -> Weights:
    """Find the weights of a backbone; see ``ffe.backbones.registry.Source``."""
    return find_file(spec.name, _facts(spec.name)["repository"], weights, download=download)


def to_openvino(backbone: BackboneSpec, size: tuple[int, int], weights: Weights) -> Network:
    """Build a network, and convert it; see ``ffe.backbones.registry.Source``."""
    return to_network(_with_values(backbone.name, size, weights), layers_of(backbone.layer), size)


def to_torch(backbone: BackboneSpec, size: tuple[int, int], weights: Weights) -> Network:
    """Build a network; see ``ffe.backbones.registry.TorchSource``."""
    return as_it_is(_with_values(backbone.name, size, weights), layers_of(backbone.layer), size)


def _with_values(name: str, size: tuple[int, int], weights: Weights) -> TorchModel:
    check_torch()
    config = _config(name)
    if weights.kind != "random":
        return _with_weights(name, config, size, weights)
    model = _build(name, config, size)
    fill_randomly(model.module)
    return model


def _facts(name: str) -> dict[str, Any]:
    """Return what timm says of a model, whatever its size: ``preprocess``, ``size``, and the ``repository`` of its weights."""
    return remembered("timm", {"name": name}, lambda: _read_facts(name))


def _read_facts(name: str) -> dict[str, Any]:
    from_config = import_library(name, "timm").data.resolve_data_config(pretrained_cfg=(config := _config(name)))
    crop = from_config["crop_pct"]
    preprocess = {
        "interpolation": from_config["interpolation"],
        "mean": list(from_config["mean"]),
        "std": list(from_config["std"]),
        "resize": CROP_MODES[from_config["crop_mode"]],
        "crop": crop,
    }
    return {"preprocess": preprocess, "size": list(from_config["input_size"][1:]), "repository": config.get("hf_hub_id") or None}


def _config(name: str) -> dict[str, Any]:
    """Return timm's own configuration of a model; a BackboneError names the nearest model if there is none."""
    timm = import_library(name, "timm")
    model = name.partition(":")[2]
    architecture = model.partition(".")[0]
    config = None
    if timm.is_model(architecture):
        with contextlib.suppress(RuntimeError):  # there is no such tag
            config = timm.models.get_pretrained_cfg(model)
    if config is None:
        known = [*timm.list_pretrained(f"{architecture}.*"), *timm.list_models(), *timm.list_pretrained()]
        near = did_you_mean(model, known).replace("'", "'timm:", 1)
        raise BackboneError(
            f"timm has no model '{model}'; 'ffe backbones timm:WORD' lists those with a WORD in their names.{near}"
        )
    return dict(config.to_dict())


def _build(name: str, config: Mapping[str, Any], size: tuple[int, int], **options: Any) -> TorchModel:
    """Let timm build a network for pictures of (height, width)."""
    timm = import_library(name, "timm")
    if size != tuple(config["input_size"][1:]) and config["fixed_input_size"]:
        options["img_size"] = size
    try:
        with _quiet():
            module = timm.create_model(name.partition(":")[2], **options).eval()
    except Exception as error:
        if "img_size" in options and "pretrained" not in options:
            raise _wrong_size(name, config, size, error) from error
        raise
    prefix = getattr(module, "num_prefix_tokens", None)
    told = has_class_token(parameter for parameter, _ in module.named_parameters())
    return TorchModel(
        name,
        module,
        module.forward_features,
        module,
        prefix=prefix,
        class_token=False if told is None and prefix is not None else told,
        grids="NHWC" if getattr(module, "output_fmt", "NCHW") == "NHWC" else "NCHW",
    )


def _check(name: str, size: tuple[int, int], layer: str | None) -> dict[str, Any]:
    """Make sure that a network takes pictures of a size and has the layers; it is built without its values."""
    import_library(name, "timm")
    import torch

    config = _config(name)
    with torch.device("meta"):
        model = _build(name, config, size)
    patch = getattr(getattr(model.module, "patch_embed", None), "patch_size", None)
    if isinstance(patch, tuple):
        check_patches(model, size, patch)
    layers = layers_of(layer)
    check_layers(model, layers)
    try:
        found = shapes(model, layers, size)
    except BackboneError:
        raise
    except Exception as error:
        raise _wrong_size(name, config, size, error) from error
    return {"shapes": [list(shape) for shape in found]}


def _wrong_size(name: str, config: Mapping[str, Any], size: tuple[int, int], error: Exception) -> BackboneError:
    height, width = config["input_size"][1:]
    return BackboneError(
        f"The backbone '{name}' cannot take pictures of {size[0]}x{size[1]} pixels ({one_line(error)}); "
        f"its own size is {height}x{width}."
    )


def _with_weights(name: str, config: Mapping[str, Any], size: tuple[int, int], weights: Weights) -> TorchModel:
    """Build a network with the weights of a file, of which timm insists that all of them fit.

    A file may know other classes than the published one, or none: its top is not used.
    """
    if weights.path is None:
        raise needed_file(name)
    import_library(name, "timm")
    tensors = read_tensors(weights.path)
    top = tensors.get(f"{config.get('classifier')}.weight")
    own = config["num_classes"] if top is None or config.get("label_offset") else len(top)
    failure: Exception | None = None
    for classes in dict.fromkeys((own, 0)):
        overlay = {"state_dict": dict(tensors), "num_classes": classes}
        try:
            return _build(name, config, size, pretrained=True, pretrained_cfg_overlay=overlay)
        except Exception as error:  # PyTorch raises RuntimeError, and what turns names of older files into new ones raises others
            failure = failure or error
    assert failure is not None
    raise unfit(name, weights.path, failure) from failure


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to oneself what timm says of the weights that it was given."""
    log = logging.getLogger("timm")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
