"""How pictures are prepared for a network, as the metadata of its file say it, in the words that are in use.

Those are the fields of ``PreprocessSpec``; those of timm (``mean``, ``std``, ``interpolation``, ``crop_pct``, ``crop_mode``,
``input_size``, ``num_prefix_tokens``, ``num_reg_tokens``, ``has_class_token``), https://huggingface.co/docs/timm; those of
Hugging Face's image processors (``image_mean``, ``rescale_factor``, ``resample``, ``crop_size``, ...),
https://huggingface.co/docs/transformers; and those of OpenVINO's Model API (``mean_values``, ``scale_values``,
``reverse_input_channels``), https://docs.openvino.ai/2026/model-server/ovms_docs_model_preparation.html.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Mapping
from typing import Any, get_args

from ffe.specs import Channels, Interpolation, PreprocessMode, Resize

_GROUPS = {"framework", "model_info"}  # where OpenVINO puts the metadata of an ONNX file, and its Model API its own
RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # numbers of Pillow's filters
CROP_MODES = {"center": "shortest", "squash": "stretch", "border": "longest"}  # timm's names -> ``resize``
_CHOICES = {"mode": PreprocessMode, "interpolation": Interpolation, "resize": Resize, "channels": Channels}


def flatten(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata by key, as numbers, lists and text; what is JSON, such as a whole configuration, is opened."""
    found: dict[str, Any] = {}
    for key, value in metadata.items():
        decoded = _decoded(value)
        if not isinstance(decoded, dict) or key in {"size", "crop_size"}:
            found.setdefault(key, decoded)
        elif key in _GROUPS or isinstance(value, str):
            found.update({name: inner for name, inner in flatten(decoded).items() if name not in found})
    return found


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(value)
    words = value.strip("[]() ").replace(",", " ").split()
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return value
    return numbers or value


def preparation(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what flat metadata say, as fields of ``PreprocessSpec``, and of those only what they say; ``size`` too.

    Raises:
        TypeError, ValueError, ArithmeticError: they make no sense.
    """
    found: dict[str, Any] = {}
    for name, choices in _CHOICES.items():
        if metadata.get(name) in get_args(choices):
            found[name] = metadata[name]
    if metadata.get("resample") in RESAMPLE and "interpolation" not in found:
        found["interpolation"] = RESAMPLE[metadata["resample"]]
    if metadata.get("reverse_input_channels") in {True, "YES", "True"}:
        found["channels"] = "bgr"
    found.update(_scaling(metadata))
    found.update({name: value for name, value in _geometry(metadata).items() if name not in found})
    if (crop := _number(metadata.get("crop"))) is not None:
        found["crop"] = crop
    return found


def prefix_tokens(metadata: Mapping[str, Any]) -> int | None:
    """Return how many tokens stand before those of the grid, if metadata say so."""
    number = _number(metadata.get("num_prefix_tokens"))
    return None if number is None else int(number)


def class_token(metadata: Mapping[str, Any]) -> bool | None:
    """Return whether the first of these is a class token, if metadata say so: themselves, or by how many are registers."""
    said = str(metadata.get("has_class_token")).lower()
    if said in {"true", "false"}:
        return said == "true"
    prefix = prefix_tokens(metadata)
    registers = _number(metadata.get("num_reg_tokens", metadata.get("num_register_tokens")))
    return None if prefix is None or registers is None else prefix > registers


def _scaling(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return mean and deviation of values from 0 to 1; some are written for values from 0 to 255, or after a factor."""
    unit = 1.0
    mean, std = (_numbers(metadata.get(name, metadata.get(f"image_{name}"))) for name in ("mean", "std"))
    if mean is None and std is None and ("mean_values" in metadata or "scale_values" in metadata):
        mean, std, unit = _numbers(metadata.get("mean_values")), _numbers(metadata.get("scale_values")), 255.0
        mean, std = mean or (0.0,) * len(std or (0,) * 3), std or (1.0,) * len(mean or (0,) * 3)
    elif "rescale_factor" in metadata or "do_rescale" in metadata:  # Hugging Face's
        factor = 1.0 if metadata.get("do_rescale") is False else _number(metadata.get("rescale_factor"))
        unit = 1.0 if factor is None else 255 * factor
        if metadata.get("do_normalize") is False:
            mean, std = (0.0,) * 3, (1.0,) * 3
    elif max((*(mean or ()), *(std or ())), default=0) > 1:
        unit = 255.0
    values = {"mean": mean, "std": std}
    return {name: tuple(number / unit for number in numbers) for name, numbers in values.items() if numbers}


def _geometry(metadata: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    size, cropped = metadata.get("size"), metadata.get("crop_size")
    if (shape := _numbers(metadata.get("input_size"))) is not None and len(shape) == 3:  # timm's: channels, height, width
        found["size"] = (int(shape[1]), int(shape[2]))
    if (share := _number(metadata.get("crop_pct"))) is not None and 0 < share <= 1:
        found.update(crop=share, resize=CROP_MODES.get(str(metadata.get("crop_mode", "center")), "shortest"))
    if isinstance(size, dict) and "shortest_edge" in size:
        found["resize"], edge = "shortest", _number(size["shortest_edge"])
        if edge is None or edge < 1 or edge != int(edge):
            raise ValueError(f"shortest_edge is {size['shortest_edge']!r}, and no whole number above 0")
        if cropped is not None and metadata.get("do_center_crop") is not False:
            if (taken := _sides(cropped)) is None:
                raise ValueError(f"crop_size is {cropped!r}, and no whole numbers above 0")
            found["size"], share = taken, min(taken) / edge
            while share < 1 and math.floor(min(taken) / share) < edge:  # what is resized to is rounded down
                share = math.nextafter(share, 0)
            found["crop"] = min(share, 1)
    elif (sides := _sides(size)) is not None:
        found["size"] = sides
        if isinstance(size, dict):
            found["resize"] = "stretch"
    return found


def _sides(value: Any) -> tuple[int, int] | None:
    """Return (height, width)."""
    if isinstance(value, dict):
        value = [value.get("height"), value.get("width")]
    numbers = _numbers(value)
    if numbers is None or len(numbers) > 2 or not all(1 <= n == int(n) for n in numbers):
        return None
    return int(numbers[0]), int(numbers[-1])


def _number(value: Any) -> float | None:
    numbers = _numbers(value)
    return numbers[0] if numbers is not None and len(numbers) == 1 else None


def _numbers(value: Any) -> tuple[float, ...] | None:
    values = value if isinstance(value, (list, tuple)) else [value]
    fit = values and all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in values)
    return tuple(map(float, values)) if fit and all(abs(n) <= sys.float_info.max for n in values) else None
