"""The backbones of Hugging Face's transformers: ``hf:facebook/dinov2-small``, or a folder that holds a model.

Of a model of pictures and text the tower of pictures is taken. Nothing of a repository is run.
https://huggingface.co/docs/transformers/model_doc/auto
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ffe.backbones.file_metadata import RESAMPLE
from ffe.backbones.network_parts import class_tokens
from ffe.backbones.registry import Network, Wish, layers_of
from ffe.backbones.torch_convert import (
    TorchModel,
    as_it_is,
    check_layers,
    check_patches,
    note_of,
    preprocess_spec,
    remembered,
    shapes,
    to_network,
)
from ffe.backbones.torch_library import import_library
from ffe.backbones.torch_weights import FILES, fill_randomly, hub_cache, hub_file, read_tensors, unfit
from ffe.backbones.torch_weights import find_weights as find_file
from ffe.backbones.weights import IMAGENET, Weights, needed_file, of_file
from ffe.base.digests import bytes_digest, canonical_json, file_digest
from ffe.base.file_access import unopened
from ffe.base.file_stat import read_note, write_note
from ffe.base.forks import check_torch
from ffe.base.text import did_you_mean
from ffe.errors import BackboneError, WeightsError, one_line
from ffe.specs import BackboneSpec, PreprocessSpec

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")  # how pictures are prepared; the second is of later releases
_OF_FOLDER = re.compile(r"hf:[0-9a-f]{12}")
_NEAR = 1 / 255  # how far, on average, a picture may be from what its own library makes of it, before scaling


@dataclass(frozen=True)
class _Place:
    """Where a model is: a folder, or a snapshot in the cache of the hub."""

    name: str  # of the backbone, as the user gives it
    folder: Path

    @property
    def config(self) -> dict[str, Any]:
        """What ``config.json`` says."""
        try:
            value = json.loads((self.folder / CONFIG).read_text("utf-8"))
        except OSError as error:
            raise BackboneError(unopened(self.folder / CONFIG, error)) from error
        except (ValueError, RecursionError) as error:
            raise BackboneError(f"'{self.folder / CONFIG}' is damaged ({one_line(error)}); fetch it again.") from error
        return value if isinstance(value, dict) else {}

    def digest(self) -> str:
        """Return the digest of how its network is built, and its pictures are prepared."""
        files = [self.folder / name for name in (CONFIG, *PROCESSORS)]
        return bytes_digest(canonical_json([file_digest(file) if file.is_file() else None for file in files]))


def resolve(wish: Wish) -> tuple[BackboneSpec, PreprocessSpec, Weights]:
    """Find what a user asks for; see ``ffe.backbones.registry.Source``."""
    place = _find(wish.name, download=wish.download)
    key: dict[str, Any] = {"model": place.digest()}
    facts = remembered("transformers", key, lambda: _facts(place))
    preprocess = _preprocess_spec(place, facts, wish)
    key |= {"size": list(preprocess.size), "layer": wish.layer}
    remembered("transformers", key, partial(_check, place, preprocess.size, wish.layer))
    weights = _weights(place, wish.weights, download=wish.download)
    name = wish.name
    if _is_folder(name):
        name = f"hf:{bytes_digest(canonical_json([place.digest(), weights.sha256]))[:12]}"
        write_note(note_of(name), {"folder": str(place.folder.resolve())})
    return BackboneSpec(name, weights.kind, weights.sha256, wish.layer), preprocess, weights


def find_weights(spec: BackboneSpec, weights: str, *, download: bool) -> Weights:
    """Find the weights of a backbone; see ``ffe.backbones.registry.Source``."""
    if not _OF_FOLDER.fullmatch(spec.name):
        try:
            return _weights(_find(spec.name, download=download), weights, download=download)
        except BackboneError as error:  # its configuration is not at hand
            raise WeightsError(str(error)) from error
    if weights == IMAGENET:
        return _weights(_remembered_folder(spec), IMAGENET, download=False)
    return find_file(spec.name, None, weights)


def to_openvino(backbone: BackboneSpec, size: tuple[int, int], weights: Weights) -> Network:
    """Build a network, and convert it; see ``ffe.backbones.registry.Source``."""
    return to_network(_build(_place_of(backbone), size, weights), layers_of(backbone.layer), size)


def to_torch(backbone: BackboneSpec, size: tuple[int, int], weights: Weights) -> Network:
    """Build a network; see ``ffe.backbones.registry.TorchSource``."""
    return as_it_is(_build(_place_of(backbone), size, weights), layers_of(backbone.layer), size)


def _place_of(backbone: BackboneSpec) -> _Place:
    of_folder = _OF_FOLDER.fullmatch(backbone.name)
    return _remembered_folder(backbone) if of_folder else _find(backbone.name, download=True)


def _folder(name: str) -> Path:
    return Path(os.path.expanduser(name.partition(":")[2]))  # that of pathlib raises where there is no such user


def _is_folder(name: str) -> bool:
    return _folder(name).is_dir()


def _find(name: str, *, download: bool) -> _Place:
    """Return where a model is, once its configuration is there; a BackboneError says why it is not."""
    repository = name.partition(":")[2]
    if _is_folder(name):
        folder = _folder(name)
        if not (folder / CONFIG).is_file():
            raise BackboneError(f"The folder '{folder}' holds no model of transformers: there is no {CONFIG}; name another one.")
        return _Place(name, folder)
    if repository.startswith("timm/"):
        raise BackboneError(f"'{name}' is a model of timm; take --backbone timm:{repository.partition('/')[2]}.")
    try:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repository, re.ASCII):
            raise ValueError
        found, failure = hub_file(name, repository, (CONFIG,), download=download)
    except ValueError as error:
        raise BackboneError(
            f"There is no folder '{repository}', and no model of the hub has such a name; give hf:OWNER/MODEL."
        ) from error
    if found is None:
        known = [path.name[8:].replace("--", "/") for path in Path(hub_cache()).glob("models--*")]
        raise BackboneError(
            f"The model '{repository}' is not on this machine: looked for its {CONFIG} in the cache of Hugging Face, "
            f"'{hub_cache()}'{f' ({failure})' if failure else ''}; run the command once with a network so that it is fetched, "
            f"or give a folder that holds it as --backbone hf:FOLDER.{did_you_mean(repository, known)}"
        )
    if not any((found.parent / each).is_file() for each in PROCESSORS):
        hub_file(name, repository, PROCESSORS, download=download)
    return _Place(name, found.parent)


def _remembered_folder(spec: BackboneSpec) -> _Place:
    """Return the folder whose model was taken, if it holds the same one still."""
    folder = read_note(note_of(spec.name)).get("folder")
    if folder is not None and (Path(folder) / CONFIG).is_file():
        place = _Place(f"hf:{folder}", Path(folder))
        if f"hf:{bytes_digest(canonical_json([place.digest(), spec.weights_sha256]))[:12]}" == spec.name:
            return place
    raise WeightsError(
        f"The features were made by a model in a folder ({spec.name}), which is gone or has changed; "
        "give the folder as --backbone hf:FOLDER to 'ffe extract' once, so that it is known again."
    )


def _weights(place: _Place, weights: str, *, download: bool) -> Weights:
    """Find the weights of a model: beside its configuration, or as ``ffe.backbones.torch_weights`` does.

    Their digest covers the configuration, which has settings that no weight shows; that of a folder is in the backbone's name.
    """
    if not _is_folder(place.name):
        found = find_file(place.name, place.name.partition(":")[2], weights, download=download)
        config = place.folder / CONFIG
        try:
            digest = bytes_digest(canonical_json([file_digest(config), found.sha256]))
        except OSError as error:
            raise WeightsError(unopened(config, error)) from error
        return replace(found, sha256=digest, config=config)
    if weights != IMAGENET:
        return find_file(place.name, None, weights)
    for name in FILES:
        if (place.folder / name).is_file():
            return of_file(place.folder / name)
    raise WeightsError(
        f"The folder '{place.folder}' holds no {' and no '.join(FILES)}; pass --weights FILE, or --weights random."
    )


def _facts(place: _Place) -> dict[str, Any]:
    """Return what the library says of how pictures are prepared: fields of ``PreprocessSpec``, and what those cannot say."""
    if not any((place.folder / name).is_file() for name in PROCESSORS):
        return {"unsaid": f"its {PROCESSORS[0]} is missing"}
    transformers = import_library(place.name, "transformers")
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(
            str(place.folder), trust_remote_code=False, local_files_only=True
        )
        fields = _fields(processor)
        difference = _difference(processor, fields)
    except Exception as error:  # a processor may need packages that are not there, or fail in its own ways
        return {"unsaid": f"of its {PROCESSORS[0]}: {one_line(error).removeprefix('ValueError: ')}"}
    if not difference <= _NEAR:
        return {"unsaid": f"what {type(processor).__name__} does is none of what ffe can do"}
    return fields


def _fields(processor: Any) -> dict[str, Any]:
    """Return fields of ``PreprocessSpec`` for a processor of transformers; a ValueError says what cannot be said so."""

    def of(name: str, default: Any = None) -> Any:
        value = getattr(processor, name, None)
        return default if value is None else value

    factor, count = float(of("rescale_factor", 1 / 255)) if of("do_rescale", True) else 1.0, 3
    offset = 1.0 if of("rescale_offset", False) else 0.0
    normalize = of("do_normalize", False)
    mean = [float(value) for value in of("image_mean", (0,) * count)] if normalize else [0.0] * count
    std = [float(value) for value in of("image_std", (1,) * count)] if normalize else [1.0] * count
    if of("include_top", False):  # of EfficientNet, which divides twice
        std = [one * float(two) for one, two in zip(std, of("image_std"), strict=True)]
    if (filter_ := int(of("resample", 2))) not in RESAMPLE:
        raise ValueError(f"it resizes by the filter {filter_} of Pillow, which ffe does not have")
    # what the network is given is (x * factor - offset - mean) / std, of x in [0, 255]
    exact = factor == 1 / 255 and not offset
    fields: dict[str, Any] = {
        "mean": mean if exact else [(value + offset) / (255 * factor) for value in mean],
        "std": std if exact else [value / (255 * factor) for value in std],
        "interpolation": RESAMPLE[filter_],
        "channels": "bgr" if of("do_flip_channel_order", False) else "rgb",
        "placement": "huggingface",
    }
    size, crop = dict(of("size", {})), dict(of("crop_size", {})) if of("do_center_crop", False) else {}
    edge = size.get("shortest_edge") if set(size) == {"shortest_edge"} else None
    share = of("crop_pct")
    if not of("do_resize", True) or not (edge or {"height", "width"} <= set(size)):
        raise ValueError("to which size is not said")
    height, width = (edge, edge) if edge else (size["height"], size["width"])
    if not all(type(side) is int and side > 0 for side in (height, width, *crop.values())):
        raise ValueError("its sizes are no whole numbers above 0")
    if edge and share:  # of ConvNeXt: large ones are not cropped
        large = edge >= 384
        return fields | {"size": [edge, edge], "resize": "stretch" if large else "shortest", "crop": 1.0 if large else share}
    if not crop:
        if edge:
            raise ValueError("pictures keep their shapes")
        return fields | {"size": [height, width], "resize": "stretch", "crop": 1.0}
    if crop["height"] > height or crop["height"] * width != crop["width"] * height:
        raise ValueError("what is cut out has another shape")
    cut = crop["height"] / height
    while min(math.floor(crop["height"] / cut) - height, math.floor(crop["width"] / cut) - width) < 0:  # the last bit of a float
        cut = math.nextafter(cut, 0)
    return fields | {
        "size": [crop["height"], crop["width"]],
        "resize": "shortest" if edge else "stretch",
        "crop": cut,
    }


def _difference(processor: Any, fields: Mapping[str, Any]) -> float:
    """Return how far, on average, a picture comes out of a processor and of the fields that are to say the same, in [0, 1]."""
    from PIL import Image

    from ffe.images.preprocess import preprocess
    from ffe.images.resize import resized

    spec = PreprocessSpec(mode="normalize", **fields)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)).resize((391, 270))
    theirs = np.asarray(processor(images=picture, return_tensors="np")["pixel_values"])[0]
    pixels, _ = resized(picture, spec)
    ours = preprocess(pixels, spec.mode, mean=spec.mean, std=spec.std, channels=spec.channels).transpose(2, 0, 1)
    if theirs.shape != ours.shape:
        return float("inf")
    return float(np.abs((theirs - ours) * np.asarray(fields["std"])[:, None, None]).mean())


def _preprocess_spec(place: _Place, facts: Mapping[str, Any], wish: Wish) -> PreprocessSpec:
    """Return how pictures are prepared; where the model does not say, the user has to."""
    if "unsaid" in facts:
        lacking = [f"--{name}" for name in ("mean", "std") if name not in wish.changes] + ([] if wish.size else ["--size"])
        if lacking:
            raise BackboneError(
                f"How pictures are prepared for the backbone '{wish.name}' is not known ({facts['unsaid']}); "
                f"give {', '.join(lacking)}, and --resize, --crop, --interpolation unless they are stretched, bilinearly."
            )
        facts = {"interpolation": "bilinear"}
    fields = {name: value for name, value in facts.items() if name != "size"}
    return preprocess_spec(wish.name, {**fields, "size": wish.size or tuple(facts["size"])}, wish.changes)


def _network(place: _Place, size: tuple[int, int], tensors: Mapping[str, Any] | None = None, device: str = "meta") -> TorchModel:
    """Let transformers build a network for pictures of (height, width); with values, where there are some.

    What they do not give is not a number, so that it shows if it takes part.
    """
    transformers = import_library(place.name, "transformers")
    import inspect

    import torch

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    written = place.config
    if "model_type" not in written and "architecture" in written:
        raise BackboneError(f"'{place.name}' is a model of timm; take it from there, with --backbone timm:MODEL.")
    try:
        if _names_code(written):
            raise BackboneError(
                f"The configuration of '{place.name}' names code of another repository, which ffe does not run; take it out."
            )
        config = transformers.AutoConfig.from_pretrained(str(place.folder), trust_remote_code=False, local_files_only=True)
        config = getattr(config, "vision_config", config)
        kind = str((getattr(config, "architectures", None) or [""])[0])
        library = transformers.AutoBackbone if kind.endswith("Backbone") else transformers.AutoModel
        with torch.device(device):
            module = library.from_config(config, trust_remote_code=False, dtype=torch.float32).eval()
    except BackboneError:
        raise
    except Exception as error:  # transformers raises many kinds on what it does not know
        raise BackboneError(
            f"transformers cannot build the backbone '{place.name}' ({one_line(error)}); ffe runs no code of a repository: name "
            "a model that the installed transformers knows, or install a newer release."
        ) from error
    takes = getattr(module, "main_input_name", "")
    if takes != "pixel_values":
        raise BackboneError(
            f"The backbone '{place.name}' is no model of pictures: it takes {takes} ({config.model_type}); name another one."
        )
    if tensors is not None:
        module, found = type(module).from_pretrained(
            None, config=config, state_dict=dict(tensors), output_loading_info=True, dtype=torch.float32
        )
        with torch.no_grad():
            for name in found["missing_keys"]:
                module.get_parameter(name).fill_(torch.nan)
    for part in module.modules():  # of one size they are constants; OpenVINO resizes them in a slightly other way
        if hasattr(part, "interpolate_pos_encoding"):
            part.interpolate_pos_encoding = _once(part.interpolate_pos_encoding)
    options: dict[str, Any] = {}
    if "interpolate_pos_encoding" in inspect.signature(module.forward).parameters:
        options["interpolate_pos_encoding"] = _pair(getattr(config, "image_size", size)) != size

    def features(batch: Any) -> Any:
        output = module(pixel_values=batch, **options)
        values = output.get("last_hidden_state")
        return output.feature_maps if values is None else values

    prefix = class_tokens(name for name, _ in module.named_parameters())
    model = TorchModel(
        place.name,
        module.eval(),
        features,
        features,
        prefix=prefix + (getattr(config, "num_register_tokens", None) or 0),
        class_token=prefix > 0,
    )
    check_patches(model, size, _pair(getattr(config, "patch_size", 1)))
    return model


def _names_code(value: Any) -> bool:
    """Return whether a configuration has attention or experts computed by what a repository holds (``owner/kernel``)."""
    if not isinstance(value, dict):
        return False
    return any(_names_code(item) or (key.endswith("_implementation") and "/" in str(item)) for key, item in value.items())


def _once(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that is called once on each device, and whose answers are kept."""
    answers: dict[Any, Any] = {}

    def answer(*arguments: Any, **options: Any) -> Any:
        device = getattr(arguments[0], "device", None)
        if device not in answers:
            answers[device] = method(*arguments, **options)
        return answers[device]

    return answer


def _pair(sides: Any) -> tuple[int, int]:
    return (int(sides[0]), int(sides[1])) if isinstance(sides, (list, tuple)) else (int(sides), int(sides))


def _check(place: _Place, size: tuple[int, int], layer: str | None) -> dict[str, Any]:
    """Make sure that a network takes pictures of a size and has the layers; it is built without its values."""
    model, layers = _network(place, size), layers_of(layer)
    check_layers(model, layers)
    try:
        return {"shapes": [list(shape) for shape in shapes(model, layers, size)]}
    except BackboneError:
        raise
    except Exception as error:
        raise BackboneError(
            f"The backbone '{place.name}' cannot take pictures of {size[0]}x{size[1]} pixels ({one_line(error)}); "
            "leave --size out."
        ) from error


def _build(place: _Place, size: tuple[int, int], weights: Weights) -> TorchModel:
    """Build a network with its values."""
    check_torch()
    if weights.kind == "random":
        model = _network(place, size, device="cpu")
        fill_randomly(model.module)
        return model
    if weights.path is None:
        raise needed_file(place.name)
    try:
        return _network(place, size, read_tensors(weights.path))
    except BackboneError:
        raise
    except Exception as error:  # transformers raises many kinds on what does not fit, or asks for packages
        raise unfit(place.name, weights.path, error) from error
