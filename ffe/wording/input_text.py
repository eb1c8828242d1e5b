"""How pictures are prepared for a backbone, in words."""

from __future__ import annotations

from collections.abc import Iterable

from ffe.images.preprocess import SCALING
from ffe.images.resize import goal
from ffe.specs import ExtractSpec, PreprocessSpec

_RESIZED = {None: "stretched to", "shortest": "made to cover", "longest": "made to fit into"}
_CHANNELS = {None: "", "bgr": ", BGR", "gray": ", one channel of grey"}
_DECODED = {"exact": "decoded exactly", "fast": "decoded fast"}


def resizing_text(spec: PreprocessSpec) -> str:
    """Return how pictures get their size: ``made to cover 256x256, the middle cut out, bicubic``; empty = the usual way."""
    if spec.whole and spec.interpolation == "bilinear":
        return ""
    height, width = goal(spec)
    cut = ", the middle cut out" if spec.crop is not None or spec.resize == "shortest" else ""
    filled = ", the rest filled" if spec.resize == "longest" else ""
    return f"{_RESIZED[spec.resize]} {height}x{width}{filled}{cut}, {spec.interpolation}"


def resizing_texts(specs: Iterable[ExtractSpec]) -> str:
    """Return ``resizing_text`` of the only backbone; of several, those that are not the usual way, by name."""
    texts = {spec.backbone.name: resizing_text(spec.preprocess) for spec in specs}
    if len(texts) == 1:
        return "".join(texts.values())
    return "; ".join(f"{text} for {name}" for name, text in texts.items() if text)


def input_text(spec: PreprocessSpec) -> str:
    """Return what a backbone is given: size, resizing where it is not the usual way, scaling, decoding."""
    height, width = spec.size
    resizing = f"{text}, " if (text := resizing_text(spec)) else ""
    return f"{height}x{width}, {resizing}{SCALING[spec.mode]}{_CHANNELS[spec.channels]}, {_DECODED[spec.decode]}"
