"""What a run of extraction is to do, checked before anything slow starts."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from ffe.backbones.catalog import DEFAULT, check_size, find
from ffe.backbones.resolve import make_spec, weights_of
from ffe.backbones.trained import is_model_file
from ffe.backbones.weights import Weights
from ffe.base.file_access import HDF5_SIGNATURE, first_bytes, unopened, unwritable
from ffe.base.openvino_ir import IrModel
from ffe.base.system import collector_paused, has_vnni
from ffe.base.text import REPLACE, suffix_refusal
from ffe.engines.factory import check_engine, int8_text
from ffe.engines.model_cache import cached_path, model_key
from ffe.errors import SpecError, StaleStoreError, StoreError
from ffe.extraction.batch_size import check_batch
from ffe.extraction.views import asked_views, check_trains
from ffe.images.limits import Limits
from ffe.images.sources import ImageRecord, Scan, scan
from ffe.specs import (
    AugmentSpec,
    Compression,
    Decode,
    ExtractSpec,
    Precision,
    StoredDtype,
    ViewsSpec,
    spec_differences,
)
from ffe.store.compression import filter_options
from ffe.store.journal_records import unfinished, unfinished_model
from ffe.store.reader import FeatureStore
from ffe.store.writer import row_key

log = logging.getLogger("ffe")


@dataclass(frozen=True)
class Job:
    """What a user asks for, checked.

    Attributes:
        found: the source.
        records: its images, in the order of the rows.
        spec: what the features will be made by; of int8, without the model.
        weights: where the backbone's weights are.
        output: the feature file.
        engine: what is to run the backbone, as the user named it.
        compress: how the file is to be compressed; None = as it is already, or not at all.
        overwrite: replace a file that holds other features.
        rehash: read all files, whatever their sizes and times of change.
        limits: larger files are skipped.
        views: that each image that trains gets, or None.
        prune: drop the rows of images that are gone, however many they are.
    """

    found: Scan
    records: tuple[ImageRecord, ...]
    spec: ExtractSpec
    weights: Weights
    output: Path
    engine: str
    compress: Compression | None
    overwrite: bool
    rehash: bool
    limits: Limits
    views: ViewsSpec | None = None
    prune: bool = False


@collector_paused()
def make_job(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    backbone: str | None,
    size: int | tuple[int, int] | None,
    weights: str,
    layer: str | None,
    engine: str,
    precision: Precision | None,
    decode: Decode | None,
    dtype: StoredDtype | None,
    compress: Compression | None,
    overwrite: bool,
    rehash: bool,
    limits: Limits,
    views: int | None = None,
    augment: str | AugmentSpec | None = None,
    prune: bool = False,
    batch_size: int | None = None,
    like: Path | None = None,
    download: bool = True,
) -> Job:
    """Look at the source, find the weights, and check all that can be checked at once.

    Args: see ``ffe.extraction.run.extract``; ``download``: fetch weights that are not on this machine.

    Raises:
        SourceError, BackboneError, WeightsError, SpecError, EngineError, StoreError: it cannot be done.
    """
    path = Path(output)
    found = scan(source, path)
    check_output(path, overwrite=overwrite)
    named = backbone is not None or is_model_file(weights) or overwrite
    own = None if named else spec_at_hand(path, like)
    if own is None:
        spec, found_weights = make_spec(
            backbone, size, weights, layer, precision or "float32", dtype or "float32", decode or "exact", download=download
        )
    else:
        found_weights = weights_of(own, weights, download=download)
        spec = _changed(own, size, layer, precision, dtype, decode)
        (height, width), usual = own.preprocess.size, find(DEFAULT)
        if spec == own and (own.backbone.name, height, width) != (DEFAULT, usual.size, usual.size):
            whose = path if path.exists() or like is None else like
            log.info("'%s' was made with the backbone %s at %dx%d: going on with that", whose, own.backbone.name, height, width)
    check_batch(batch_size, spec.preprocess.size)
    check_engine(engine, spec.precision)
    if spec.backbone.layer is not None and cached_path(spec) is None:
        from ffe.backbones.keras_build import check_layer

        check_layer(spec, found_weights)
    filter_options(compress or "none")
    made = asked_views(views, augment, None if overwrite else _views_at_hand(path))
    check_trains(found.records, found.root, made)
    if found_weights.kind == "random" and weights == "random":
        log.warning("THE BACKBONE IS UNTRAINED (--weights random): its features are for tests alone")
    if spec.precision == "int8":
        vnni = has_vnni()
        log.log(logging.WARNING if vnni is False else logging.INFO, "%s", int8_text(vnni))
    if len(found.class_names) == 1:
        log.warning("only one class ('%s') was found; a head needs at least two", found.class_names[0])
    records = tuple(sorted(found.records, key=lambda record: row_key(record.path)))
    return Job(found, records, spec, found_weights, path, engine, compress, overwrite, rehash, limits, made, prune)


def _views_at_hand(path: Path) -> ViewsSpec | None:
    """Return the views of the feature file that is there already, if any."""
    if not path.exists():
        return None
    with FeatureStore(path) as store:
        return store.made_views


def spec_at_hand(path: Path, like: Path | None = None) -> ExtractSpec | None:
    """Return what the features of a file are made by, which is what a user means who names no backbone.

    Args:
        path: the feature file; where there is none yet, what an unfinished run for it made.
        like: another one, which counts where there is neither.

    Raises:
        StoreError: one of them is no feature file.
    """
    runs = [] if path.exists() else unfinished(path)
    if runs:
        return replace(runs[0].spec, quantized_sha256=None)
    for file in (path, like):
        if file is not None and file.exists():
            with FeatureStore(file) as store:
                return replace(store.spec, quantized_sha256=None)
    return None


def _changed(
    own: ExtractSpec,
    size: int | tuple[int, int] | None,
    layer: str | None,
    precision: Precision | None,
    dtype: StoredDtype | None,
    decode: Decode | None,
) -> ExtractSpec:
    """Return a spec with what a user names in place of what it has."""
    side = size or own.preprocess.size
    preprocess = replace(
        own.preprocess, size=(side, side) if isinstance(side, int) else side, decode=decode or own.preprocess.decode
    )
    check_size(find(own.backbone.name), preprocess.size)
    backbone = replace(own.backbone, layer=layer or own.backbone.layer)
    return replace(own, backbone=backbone, preprocess=preprocess, precision=precision or own.precision, dtype=dtype or own.dtype)


def check_output(path: Path, *, overwrite: bool = False) -> None:
    """Make sure, before anything slow, that the output can be written.

    Raises:
        StoreError: the output is no feature file, or its folder is missing.
    """
    if (refusal := suffix_refusal(path, "features")) is not None:
        raise StoreError(refusal)
    folder = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent
    if path.is_dir() or not folder.is_dir():
        problem = "is a folder" if path.is_dir() else f"lies in a folder that does not exist ('{folder}')"
        raise StoreError(f"The output '{path}' {problem}; name a file in an existing folder, such as features.h5.")
    if not os.access(folder, os.W_OK):
        raise StoreError(unwritable(folder, path.exists()))
    try:
        replaceable = not overwrite or not path.exists() or first_bytes(path) in {HDF5_SIGNATURE, b""}
    except OSError as error:
        raise StoreError(unopened(path, error)) from error
    if not replaceable:
        raise StoreError(f"'{path}' exists and is no feature file, so it is not replaced; choose another output.")


def quantized_at_hand(job: Job, like: Path | None) -> IrModel | None:
    """Return the int8 model that a job must take; None for other precisions, or if one is yet to be made.

    It is that of ``like``, a feature file, or the one that the output, or an unfinished run for it, was made with.

    Raises:
        SpecError: ``like`` is given for another precision.
        StaleStoreError: the output, or ``like``, holds features of another spec.
        StoreError: one of them is no feature file, or has lost its model.
    """
    if job.spec.precision != "int8":
        if like is not None:
            raise SpecError("--like takes the int8 model of another feature file, so it needs --precision int8.")
        return None
    if like is not None:
        return quantized_like(like, job.spec)
    if job.output.exists() and not job.overwrite:
        with FeatureStore(job.output) as store:
            refuse_other_spec(job.output, replace(store.spec, quantized_sha256=None), job.spec)
            return store.quantized()
    model = unfinished_model(job.output)
    return model if model is not None and model.record.get("key") == model_key(job.spec) else None


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


def refuse_other_spec(path: Path, stored: ExtractSpec, asked: ExtractSpec) -> None:
    """Make sure that a feature file holds what is asked for.

    Raises:
        StaleStoreError: it holds features of another spec.
    """
    if stored != asked:
        differences = "; ".join(spec_differences(stored, asked))
        raise StaleStoreError(f"'{path}' holds other features than these ({differences}); {REPLACE}.")


def source_text(found: Scan) -> str:
    """Return where the images of a scan come from, as a feature file records it."""
    root = os.fspath(found.root.resolve())
    return root.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
