"""What a run of extraction is to do, checked before anything slow starts."""

from __future__ import annotations

import itertools
import logging
import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ffe.backbones.catalog import DEFAULT, check_size, find
from ffe.backbones.registry import layers_of, source_of
from ffe.backbones.resolve import make_spec, refuse_changes, weights_of
from ffe.backbones.trained import is_model_file
from ffe.backbones.weights import Weights
from ffe.base.columns import Made, Numbers
from ffe.base.digests import path_digest
from ffe.base.file_access import HDF5_SIGNATURE, first_bytes, unopened
from ffe.base.helper_process import with_keras
from ffe.base.openvino_ir import IrModel
from ffe.base.output_file import check_folder
from ffe.base.shard_names import shard_path
from ffe.base.system import collector_paused, has_vnni
from ffe.base.text import REPLACE, counted, few
from ffe.base.urls import path_or_url
from ffe.engines.factory import check_backbone, check_model, int8_text
from ffe.engines.model_cache import is_cached, model_key
from ffe.errors import SourceError, SpecError, StaleStoreError, StoreError
from ffe.extraction.batch_size import check_batch
from ffe.extraction.runners.runner_names import RunnerName, check_runner
from ffe.extraction.shards import choose_shards, parse_shards, shard_of
from ffe.extraction.views import check_trains, requested_views
from ffe.images.image_handle import ANY_ORDER, ImageHandle
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Limits, Truncated
from ffe.images.records import Records
from ffe.images.sources import Scan, root_of, scan
from ffe.specs import (
    AugmentSpec,
    Channels,
    Compression,
    Decode,
    ExtractSpec,
    Interpolation,
    Precision,
    Resize,
    StoredDtype,
    ViewsSpec,
    spec_differences,
)
from ffe.store.compression import filter_options
from ffe.store.journal_records import check_same_spec, has_rows, journal_model, read_records
from ffe.store.reader import FeatureStore

log = logging.getLogger("ffe")

_AS_MADE = "use the options that it was made with"


@dataclass(frozen=True)
class ExtractOptions:
    """What a user asks ``ffe.extract`` for, whose docstring says what each option means; a new one is a field here, too."""

    source: str | os.PathLike[str]
    output: str | os.PathLike[str]
    backbone: str | None = None
    size: int | tuple[int, int] | None = None
    weights: str = "imagenet"
    layer: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    resize: Resize | None = None
    crop: float | None = None
    interpolation: Interpolation | None = None
    channels: Channels | None = None
    engine: str = "auto"
    precision: Precision | None = None
    like: str | os.PathLike[str] | None = None
    decode: Decode | None = None
    dtype: StoredDtype | None = None
    compress: Compression | None = None
    batch_size: int | None = None
    workers: int | None = None
    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    truncated: Truncated = "skip"
    overwrite: bool = False
    rehash: bool = False
    prune: bool = False
    views: int | None = None
    augment: str | AugmentSpec | None = None
    shards: int | str | None = None
    runner: RunnerName = "local"
    address: str | None = None
    actors: int | None = None
    limits: Limits = field(init=False)

    @property
    def changes(self) -> dict[str, Any]:
        """Fields of the ``PreprocessSpec`` that the user names."""
        return named_changes(self)

    def __post_init__(self) -> None:
        named_changes(self)
        parse_shards(self.shards)
        for name, path in (("source", self.source), ("output", self.output)):
            if not isinstance(path, (str, os.PathLike)):
                raise SpecError(f"{name} is {path!r}, but must be a path; give it as text or as a pathlib.Path.")
        check_runner(self.runner, self.address, self.actors)
        object.__setattr__(self, "limits", Limits(self.max_pixels, self.max_bytes, self.truncated))


def named_changes(options: Any) -> dict[str, Any]:
    """Return the fields of the ``PreprocessSpec`` that a user names, of an object with all of them; None = not named."""
    for name in ("mean", "std"):
        numbers = getattr(options, name)
        if numbers is not None and not isinstance(numbers, (tuple, list)):
            raise SpecError(f"{name} is {numbers!r}, but must be a tuple or a list of numbers, one for each channel.")
        if numbers is not None and not all(isinstance(n, (int, float)) and 0 <= n <= 1 for n in numbers):
            raise SpecError(
                f"{name} is {','.join(map(str, numbers))}, but must be of values from 0 to 1; divide by 255 what is of bytes."
            )
    names = ("mean", "std", "resize", "crop", "interpolation", "channels")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


@dataclass(frozen=True)
class Job:
    """What a user asks for, checked."""

    options: ExtractOptions  # as they were given
    found: Scan  # the source
    records: Records  # its images, in the order of the rows
    spec: ExtractSpec  # what the features will be made by; of int8, without the model
    weights: Weights  # where the backbone's weights are
    views: ViewsSpec | None = None  # that each image that trains gets, or None
    files: tuple[Path, ...] = ()  # that hold the features: the output, or all its shards
    shard: int = 0  # which of these this is for, from 1; 0 = all of them

    @property
    def output(self) -> Path:
        """The feature file."""
        return Path(self.options.output)

    @cached_property
    def any_order(self) -> bool:
        """Whether the images are read as fast in any order as in another."""
        files = (record.file for record in self.records)
        return all(file.reading_order() == ANY_ORDER for file in files if isinstance(file, ImageHandle))

    def of_shard(self, number: int) -> Job:
        """Return what one of the shards takes, as a job of its own."""
        count = len(self.files)
        begin, end = (bisect_left(self.records, n, key=lambda one: shard_of(one.path, count)) for n in (number, number + 1))
        if begin == end:
            raise SourceError(
                f"--shards {count} is too many for {counted(len(self.records), 'image')}: shard {number} would have none; "
                "ask for fewer."
            )
        left_out = tuple(item for item in self.found.left_out if shard_of(item[0], count) == number)
        return replace(
            self,
            options=replace(self.options, output=self.files[number - 1]),
            found=replace(self.found, left_out=left_out),
            records=self.records[begin:end],
            shard=number,
        )

    def by_shard(self) -> list[Job]:
        """Return the jobs of all files of features: this one, or one for each shard."""
        if self.shard or len(self.files) == 1:
            return [self]
        jobs = [self.of_shard(number) for number in range(1, len(self.files) + 1)]
        # what is lost of all of them together is looked at, not what is lost of each
        return [replace(job, options=replace(job.options, prune=True)) for job in jobs]

    @property
    def place(self) -> str | Path:
        """Where the images lie now: a URL is as it was given, with all that opens it."""
        given = path_or_url(self.options.source)
        return given if isinstance(given, str) else self.found.root

    @property
    def source(self) -> str:
        """Where the images come from, as a feature file records it."""
        root = self.found.root
        place = self.found.opened_by or (root if isinstance(root, str) else root.resolve())
        return os.fspath(place).encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    def has_source(self, source: str) -> bool:
        """Return whether a feature file of a ``source`` is of this one: a list may be another, for signatures do not last."""
        return root_of(source) == root_of(self.source)


@collector_paused()
def make_job(options: ExtractOptions, *, download: bool = True) -> Job:
    """Look at the source, find the weights (``download``: also elsewhere), and check all that can be checked at once."""
    path = Path(options.output)
    found = scan(options.source, path)
    check_output(path, overwrite=options.overwrite)
    asked, only = parse_shards(options.shards)
    count = choose_shards(path, asked, overwrite=options.overwrite)
    files = tuple(shard_path(path, number, count) for number in range(1, count + 1)) if count > 1 else (path,)
    for file in files:
        check_output(file, overwrite=options.overwrite)
    path = next((file for file in files if file.exists() or has_rows(file)), files[0])
    own, made = (None, None) if options.overwrite else existing_specs(path)
    spec, weights = _spec_and_weights(options, path, own, download)
    check_batch(options.batch_size, spec.preprocess.size)
    check_backbone(spec.backbone.name, options.engine, spec.precision)
    foreign = source_of(spec.backbone.name) is not None  # resolving it has checked the layer
    if spec.precision != "int8":  # which may lie in the output
        check_model(spec, weights)
    if spec.backbone.layer is not None and not foreign and not is_cached(spec):
        from ffe.backbones.keras_build import check_layer

        with_keras(check_layer, spec, weights)
    filter_options(options.compress or "none")
    views = requested_views(options.views, options.augment, made)
    check_trains(found.records, found.root, views)
    if weights.kind == "random" and options.weights == "random":
        log.warning("THE BACKBONE IS UNTRAINED (--weights random): its features are for tests alone")
    if spec.precision == "int8":
        vnni = has_vnni()
        log.log(logging.WARNING if vnni is False else logging.INFO, "%s", int8_text(vnni))
    empty = Numbers("I", (i for i, record in enumerate(found.records) if record.label < 0))
    if found.class_names and empty:
        have, them = ("photo has", "it") if len(empty) == 1 else ("photos have", "them")
        names = few(Made(len(empty), lambda i: f"'{found.records[empty[i]].path}'"))
        log.info("%d %s no label, so nothing is learnt from %s (%s)", len(empty), have, them, names)
    if len(found.class_names) == 1:
        log.warning("only one class ('%s') was found; a head needs at least two", found.class_names[0])
    job = Job(options, found, found.records.sorted(path_digest), spec, weights, views, files)
    return job.of_shard(only) if only and count > 1 else job


def _spec_and_weights(
    options: ExtractOptions, path: Path, own: ExtractSpec | None, download: bool
) -> tuple[ExtractSpec, Weights]:
    """Return what the features will be made by: what is asked for, and for the rest what the output (``own``) or ``like`` has."""
    like = None if options.like is None else Path(options.like)
    named = options.backbone is not None or is_model_file(options.weights) or options.overwrite
    taken = path if path.exists() else None  # the feature file that ``own`` is of; None = of an unfinished run
    if own is None and like is not None and like.exists() and not named:
        own, _ = existing_specs(like)
        taken = like
    precision, dtype, decode = options.precision or "float32", options.dtype or "float32", options.decode or "exact"
    if own is None or named:
        return make_spec(
            options.backbone,
            options.size,
            options.weights,
            options.layer,
            precision,
            dtype,
            decode,
            changes=options.changes,
            download=download,
        )
    keras = source_of(own.backbone.name) is None
    if keras:
        refuse_changes(own.backbone.name, options.changes)
    side = options.size or own.preprocess.size
    size = (side, side) if isinstance(side, int) else side
    spec = ExtractSpec(
        replace(own.backbone, layer=",".join(layers_of(options.layer)) or own.backbone.layer),
        replace(own.preprocess, size=size, decode=options.decode or own.preprocess.decode, **options.changes),
        options.precision or own.precision,
        options.dtype or own.dtype,
    )
    if keras:
        check_size(find(own.backbone.name), spec.preprocess.size)
    elif taken is not None:  # its source, which could say whether there is such a layer or size, may not be at hand
        refuse_other_spec(taken, own, spec, REPLACE if taken == path else _AS_MADE)
    else:
        for record in itertools.islice(read_records(path), 1):
            check_same_spec(path, replace(record, spec=own), spec)
    usual = find(DEFAULT)
    if spec == own and (own.backbone.name, *size) != (DEFAULT, usual.size, usual.size):
        log.info("'%s' was made with the backbone %s at %dx%d: going on with that", taken or path, own.backbone.name, *size)
    return spec, weights_of(own, options.weights, download=download)


def existing_specs(path: Path) -> tuple[ExtractSpec | None, ViewsSpec | None]:
    """Return what makes the features of a file, and its views; where there is no file, those of an unfinished run for it."""
    if path.exists():
        with FeatureStore(path) as store:
            return replace(store.spec, quantized_sha256=None), store.made_views
    record = next(read_records(path), None)
    return None if record is None else replace(record.spec, quantized_sha256=None), None


def check_output(path: Path, *, overwrite: bool = False) -> None:
    """Make sure, before anything slow, that the output can be written."""
    try:
        if overwrite and path.is_file() and first_bytes(path) not in {HDF5_SIGNATURE, b""}:
            raise StoreError(f"'{path}' exists and is no feature file, so it is not replaced; choose another output.")
    except OSError as error:
        raise StoreError(unopened(path, error)) from error
    check_folder(path, "features", StoreError)


def existing_quantized(job: Job) -> IrModel | None:
    """Return the int8 model of a job: that of ``like``, of the output, or of its unfinished run; None if there is none yet."""
    like = job.options.like
    if job.spec.precision != "int8":
        if like is not None:
            raise SpecError("--like takes the int8 model of another feature file, so it needs --precision int8.")
        return None
    if like is not None:
        return _quantized_in(Path(like), job.spec, _AS_MADE)
    for file in () if job.options.overwrite else job.files:
        if file.exists():
            return _quantized_in(file, job.spec)
    models = (model for file in job.files if (model := journal_model(file)) is not None)
    found = next((model for model in models if model.record.get("key") == model_key(job.spec)), None)
    if found is None and job.shard > 1:
        raise StoreError(
            f"All shards need one int8 model, and there is none yet; make shard 1/{len(job.files)} first, or name a feature file "
            "that has one with --like."
        )
    return found


def _quantized_in(path: Path, spec: ExtractSpec, instead: str = REPLACE) -> IrModel | None:
    """Return the int8 model in a feature file of the same spec."""
    with FeatureStore(path) as store:
        refuse_other_spec(path, replace(store.spec, quantized_sha256=None), spec, instead)
        return store.quantized()


def refuse_other_spec(path: Path, stored: ExtractSpec, asked: ExtractSpec, instead: str = REPLACE) -> None:
    """Make sure that a feature file holds what is asked for."""
    if stored != asked:
        differences = "; ".join(spec_differences(stored, asked))
        raise StaleStoreError(f"'{path}' holds other features than these ({differences}); {instead}.")
