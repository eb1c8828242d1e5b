"""What a user asks for -> the spec of the features, and the weights of the backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ffe.backbones import keras_build
from ffe.backbones.catalog import DEFAULT, check_size, find
from ffe.backbones.registry import Wish, layers_of, path_refusal, source_of
from ffe.backbones.trained import LEARNT, find_in_model, is_model_file
from ffe.backbones.weights import IMAGENET, Weights, resolve
from ffe.base.openvino_ir import IrModel
from ffe.errors import BackboneError, WeightsError
from ffe.specs import BackboneSpec, Decode, ExtractSpec, Precision, PreprocessSpec, StoredDtype, spec_differences


def make_spec(
    backbone: str | None = None,
    size: int | tuple[int, int] | None = None,
    weights: str = "imagenet",
    layer: str | None = None,
    precision: Precision = "float32",
    dtype: StoredDtype = "float32",
    decode: Decode = "exact",
    *,
    changes: Mapping[str, Any] | None = None,
    download: bool = True,
) -> tuple[ExtractSpec, Weights]:
    """Turn what a user asks for (see ``ffe.extract``) into a spec, and find the weights; ``download``: also elsewhere.

    A model file (``.ffe``) as ``backbone``, or as ``weights``, stands for its backbone, with its size and layer. ``changes`` are
    fields of the ``PreprocessSpec`` that the user names. A wish that cannot be met is a BackboneError, WeightsError or SpecError.
    """
    height_width = (size, size) if isinstance(size, int) else size
    layer = ",".join(layers_of(layer)) or None
    if backbone is None:
        backbone = weights if is_model_file(weights) else DEFAULT
    if is_model_file(backbone) or is_model_file(weights):
        refuse_changes(backbone if is_model_file(backbone) else weights, changes)
        found, of_model = _backbone_in_model(backbone, height_width, weights)
        source = replace(of_model.backbone, layer=layer or of_model.backbone.layer)
        return ExtractSpec(source, replace(of_model.preprocess, decode=decode), precision, dtype), found
    if (library := source_of(backbone)) is not None:
        wish = Wish(backbone, height_width, weights, layer, changes or {}, download)
        made, preprocess, found = library.resolve(wish)
        return ExtractSpec(made, replace(preprocess, decode=decode), precision, dtype), found
    if sentence := path_refusal(backbone):
        raise BackboneError(sentence)
    refuse_changes(backbone, changes)
    row = find(backbone)
    preprocess = PreprocessSpec(height_width or (row.size, row.size), row.mode, decode=decode)
    check_size(row, preprocess.size)
    found = resolve(row, preprocess.size, weights, download=keras_build.download if download else None)
    return ExtractSpec(BackboneSpec(row.name, found.kind, found.sha256, layer), preprocess, precision, dtype), found


def refuse_changes(backbone: str, changes: Mapping[str, Any] | None) -> None:
    """Refuse fields of the ``PreprocessSpec`` that a user names for a backbone of Keras, or of a model file."""
    if changes:
        raise BackboneError(
            f"How pictures are prepared for the backbone '{backbone}' is fixed; leave --{' and --'.join(sorted(changes))} out."
        )


def _backbone_in_model(backbone: str, size: tuple[int, int] | None, weights: str) -> tuple[Weights, ExtractSpec]:
    """Return the weights of the backbone in a model file, and the spec of the model."""
    file = Path(backbone if is_model_file(backbone) else weights)
    found, spec = find_in_model(file)
    height, width = spec.preprocess.size
    if backbone not in {spec.backbone.name, str(file)}:
        raise WeightsError(
            f"The model file '{file}' holds the backbone '{spec.backbone.name}', not '{backbone}'; "
            f"take all of it with --backbone {file}."
        )
    if size not in (None, (height, width)):
        raise BackboneError(
            f"The backbone in '{file}' takes pictures of {height}x{width} pixels and no others; leave --size out."
        )
    return found, spec


def weights_of(spec: ExtractSpec, weights: str = "imagenet", *, download: bool = True) -> Weights:
    """Find the very weights that a spec was made with, as ``make_spec`` does; others, or none, are a WeightsError."""
    name = spec.backbone.name
    if is_model_file(weights):
        found, of_model = find_in_model(Path(weights))
        if of_model.backbone != replace(spec.backbone, layer=of_model.backbone.layer):
            differences = "; ".join(spec_differences(of_model, spec, ("the model has", "the features need")))
            raise WeightsError(
                f"The backbone in '{weights}' is not the one that made the features ({differences}); pass the right model file."
            )
        return found
    if spec.backbone.weights in LEARNT:
        raise WeightsError(
            f"The backbone of these features was trained by ffe, and exists in its model file alone ({name}, weights "
            f"{spec.backbone.weights_sha256[:12]}); pass that file with --weights MODEL.ffe."
        )
    wanted = "random" if spec.backbone.weights == "random" else weights
    if (source := source_of(name)) is not None:
        found = source.find_weights(spec.backbone, wanted, download=download)
    else:
        found = resolve(find(name), spec.preprocess.size, wanted, download=keras_build.download if download else None)
    if found.kind == "random" and spec.backbone.weights != "random":
        raise WeightsError("The features were made with pretrained weights, not random ones; leave --weights random out.")
    if found.sha256 != spec.backbone.weights_sha256:
        where = f" in '{found.path}'" if found.path else ""
        described = f", with the configuration '{found.config}'," if found.config else ""
        raise WeightsError(
            f"The weights of '{name}'{where} (SHA-256 {found.sha256[:12]}){described} are not those that made "
            f"the features ({spec.backbone.weights_sha256[:12]}); pass the right file with --weights PATH"
            f"{', or put the configuration of that time back' if found.config else ''}."
        )
    return found


def weights_of_each(specs: Sequence[ExtractSpec], weights: str) -> list[Weights]:
    """Find the weights of several backbones as ``weights_of`` does; a path is that of one, and the others are looked for."""
    found, refusals = list[Weights](), list[WeightsError]()
    for spec in specs:
        try:
            found.append(weights_of(spec, weights))
        except WeightsError as error:
            refusals.append(error)
            if weights == IMAGENET or len(refusals) == len(specs):
                raise refusals[0] from None
            found.append(weights_of(spec))
    return found


def with_model(spec: ExtractSpec, quantized: IrModel | None) -> ExtractSpec:
    """Return a spec that names its int8 model, if there is one."""
    return spec if quantized is None else replace(spec, quantized_sha256=quantized.sha256)
