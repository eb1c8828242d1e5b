"""What a run of extraction is to do, checked before anything slow starts."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import h5py

from ffe.backbones.catalog import check_size, find
from ffe.backbones.learnt import LEARNT, find_in_model, is_model_file
from ffe.backbones.weights import Weights, resolve
from ffe.engines.cache import model_key
from ffe.errors import BackboneError, StaleStoreError, StoreError, WeightsError
from ffe.images.scan import Scan, printable
from ffe.ir import IrModel
from ffe.keys import spec_differences
from ffe.specs import BackboneSpec, Decode, ExtractSpec, Precision, PreprocessSpec, StoredDtype
from ffe.store.journal import Journal, has_parts, unfinished_model
from ffe.store.reader import FeatureStore


@dataclass(frozen=True)
class Plan:
    """A checked run.

    Attributes:
        scan: the images.
        spec: what the features will be made by.
        weights: where the backbone's weights are.
        output: the feature file.
        existing: the file that is there already, made by the same spec; or None.
        journal: features of an unfinished run, if any, and place for new ones.
        quantized: the int8 model, where the spec has one.
    """

    scan: Scan
    spec: ExtractSpec
    weights: Weights
    output: Path
    existing: FeatureStore | None
    journal: Journal
    quantized: IrModel | None = None


def make_spec(
    backbone: str,
    size: int | tuple[int, int] | None = None,
    weights: str = "imagenet",
    layer: str | None = None,
    precision: Precision = "float32",
    dtype: StoredDtype = "float32",
    decode: Decode = "exact",
) -> tuple[ExtractSpec, Weights]:
    """Turn what a user asks for into a spec, and find the weights.

    Args:
        backbone: a name of the catalogue, or a model file (``.ffe``): its backbone, with its size and layer.
        size: input side or (height, width); None = the backbone's default.
        weights: ``imagenet``, ``random``, or a path; that of a model file stands for its backbone.
        layer: the layer whose output is taken; None = the last.
        precision: arithmetic of the backbone.
        dtype: type of the stored features.
        decode: ``exact`` or ``fast``.

    Raises:
        BackboneError, WeightsError, SpecError: the wish cannot be met.
    """
    if is_model_file(backbone) or is_model_file(weights):
        return _spec_of_model(backbone, size, weights, layer, precision, dtype, decode)
    row = find(backbone)
    side = row.size if size is None else size
    height_width = (side, side) if isinstance(side, int) else side
    preprocess = PreprocessSpec(height_width, row.mode, decode=decode)
    check_size(row, height_width)

    found = resolve(row, height_width, weights, download=_download)
    return ExtractSpec(BackboneSpec(row.name, found.kind, found.sha256, layer), preprocess, precision, dtype), found


def _spec_of_model(
    backbone: str,
    size: int | tuple[int, int] | None,
    weights: str,
    layer: str | None,
    precision: Precision,
    dtype: StoredDtype,
    decode: Decode,
) -> tuple[ExtractSpec, Weights]:
    """Return the spec and the weights of the backbone in a model file."""
    file = Path(backbone if is_model_file(backbone) else weights)
    saved = find_in_model(file)
    known = saved.spec.backbone
    height, width = saved.spec.preprocess.size
    if backbone not in {known.name, str(file)}:
        raise WeightsError(
            f"The model file '{file}' holds the backbone '{known.name}', not '{backbone}'; take all of it with --backbone {file}."
        )
    if size is not None and (size if isinstance(size, tuple) else (size, size)) != (height, width):
        raise BackboneError(
            f"The backbone in '{file}' takes pictures of {height}x{width} pixels and no others; leave --size out."
        )
    taken = BackboneSpec(known.name, known.weights, known.weights_sha256, layer or known.layer)
    preprocess = replace(saved.spec.preprocess, decode=decode)
    return ExtractSpec(taken, preprocess, precision, dtype), saved.weights


def weights_of(spec: ExtractSpec, weights: str = "imagenet") -> Weights:
    """Find the very weights that a spec was made with.

    Args:
        spec: of a feature file or a bundle.
        weights: ``imagenet`` (looked for), or a path: of weights, or of a model file that holds the backbone.

    Raises:
        WeightsError: they are not on this machine, or are others.
    """
    row = find(spec.backbone.name)
    if is_model_file(weights):
        saved = find_in_model(Path(weights))
        if saved.spec.backbone != replace(spec.backbone, layer=saved.spec.backbone.layer):
            differences = "; ".join(spec_differences(saved.spec, spec, ("the model has", "the features need")))
            raise WeightsError(
                f"The backbone in '{weights}' is not the one that made the features ({differences}); pass the right model file."
            )
        return saved.weights
    if spec.backbone.weights in LEARNT:
        raise WeightsError(
            f"The backbone of these features was trained by ffe, and exists in its model file alone ({row.name}, weights "
            f"{spec.backbone.weights_sha256[:12]}); pass that file with --weights MODEL.ffe."
        )
    wanted = "random" if spec.backbone.weights == "random" else weights
    found = resolve(row, spec.preprocess.size, wanted, download=_download)
    if found.path is None and spec.backbone.weights != "random":
        raise WeightsError("The features were made with pretrained weights, not random ones; leave --weights random out.")
    if found.sha256 != spec.backbone.weights_sha256:
        raise WeightsError(
            f"The weights of '{row.name}' in '{found.path}' (SHA-256 {found.sha256[:12]}) are not those that made "
            f"the features ({spec.backbone.weights_sha256[:12]}); pass the right file with --weights PATH."
        )
    return found


def _download(*arguments: object) -> None:
    from ffe.backbones.build import download

    download(*arguments)  # type: ignore[arg-type]


def check_output(path: Path, *, overwrite: bool = False) -> None:
    """Make sure, before anything slow, that the output can be written.

    Raises:
        StoreError: the output is no feature file, or its folder is missing.
    """
    if path.is_dir() or not path.parent.is_dir():
        problem = "is a folder" if path.is_dir() else f"lies in a folder that does not exist ('{path.parent}')"
        raise StoreError(f"The output '{path}' {problem}; name a file in an existing folder, such as features.h5.")
    if not os.access(path.parent, os.W_OK):
        raise StoreError(f"The folder '{path.parent}' cannot be written to; choose another place for the output.")
    if path.exists() and overwrite and not h5py.is_hdf5(path):
        raise StoreError(f"'{path}' exists and is no feature file, so it is not replaced; choose another output.")


def anything_before(path: Path) -> bool:
    """Return whether there is a feature file at ``path``, or an unfinished run for it."""
    return path.exists() or has_parts(path)


def quantized_before(path: Path, spec: ExtractSpec, *, overwrite: bool = False) -> IrModel | None:
    """Return the int8 model that the output, or an unfinished run for it, was made with; None if there is none.

    Raises:
        StaleStoreError: the output holds features of another spec.
        StoreError: the output is no feature file, or has lost its model.
    """
    if overwrite:
        return None
    if path.exists():
        with FeatureStore(path) as store:
            _refuse_other_spec(path, replace(store.spec, quantized_sha256=None), spec)
            return store.quantized()
    model = unfinished_model(path)
    return model if model is not None and model.record.get("key") == model_key(spec) else None


def quantized_like(path: Path, spec: ExtractSpec) -> IrModel:
    """Return the int8 model of another feature file.

    Raises:
        StaleStoreError: that file holds features of another spec.
        StoreError: it is no feature file, or has no int8 model.
    """
    with FeatureStore(path) as store:
        differences = spec_differences(replace(store.spec, quantized_sha256=None), spec)
        if differences:
            raise StaleStoreError(
                f"'{path}' holds other features than these ({'; '.join(differences)}); use the options that it was made with."
            )
        model = store.quantized()
        assert model is not None
        return model


def _refuse_other_spec(path: Path, stored: ExtractSpec, asked: ExtractSpec) -> None:
    if stored != asked:
        differences = "; ".join(spec_differences(stored, asked))
        raise StaleStoreError(
            f"'{path}' holds other features than these ({differences}); choose another output, or replace it with --overwrite."
        )


def make_plan(
    found: Scan,
    path: Path,
    spec: ExtractSpec,
    weights: Weights,
    *,
    quantized: IrModel | None = None,
    overwrite: bool = False,
) -> Plan:
    """See what is there already, and take hold of the output.

    Raises:
        StaleStoreError: the output holds features of another spec.
        StoreError: the output is no feature file, or another process writes it.
    """
    existing = None
    if path.exists() and not overwrite:
        existing = FeatureStore(path)
        try:
            _refuse_other_spec(path, existing.spec, spec)
            gone = set(existing.paths) - {record.path for record in found.records}
            if gone and existing.source != source_text(found):
                raise StaleStoreError(
                    f"'{path}' holds {len(gone)} rows of '{existing.source}' that '{found.root}' has not; "
                    "choose another output, or replace it with --overwrite."
                )
        except StaleStoreError:
            existing.close()
            raise
    try:
        journal = Journal(path, spec, overwrite=overwrite)
    except StoreError:
        if existing is not None:
            existing.close()
        raise
    try:
        if quantized is not None:
            journal.keep_model(quantized)
    except OSError:
        journal.close()
        if existing is not None:
            existing.close()
        raise
    return Plan(found, spec, weights, path, existing, journal, quantized)


def source_text(found: Scan) -> str:
    """Return where the images of a scan come from, as a feature file records it."""
    return printable(str(found.root.resolve()))
