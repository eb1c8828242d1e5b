"""Run an extraction: decode workers -> engine -> one writer."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffe.engines.base import Engine
from ffe.engines.choose import check_engine, open_engine
from ffe.errors import SourceError, SpecError
from ffe.extraction.calibration import Fidelity, calibrated, fidelity_of
from ffe.extraction.pipeline import ImageFeatures, Pipeline
from ffe.extraction.plan import (
    Plan,
    anything_before,
    check_output,
    make_plan,
    make_spec,
    quantized_before,
    quantized_like,
    source_text,
)
from ffe.extraction.stages import Stages
from ffe.images.scan import ImageRecord, scan
from ffe.images.stream import ImageStream
from ffe.specs import Compression, Decode, Precision, StoredDtype
from ffe.store.compression import compression_choice, filter_options
from ffe.store.journal import Journal
from ffe.store.layout import Row, Skipped
from ffe.store.writer import row_key, write_store

log = logging.getLogger("ffe")


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done, total: images.
        skipped: files so far that gave no row.
        rate: images a second that the backbone computes; 0 before the first.
        remaining: seconds left, if the rest must be computed.
        stages: seconds spent in each stage so far.
    """

    done: int
    total: int
    skipped: int
    rate: float
    remaining: float
    stages: Stages


@dataclass(frozen=True)
class ExtractSummary:
    """What a run did.

    Attributes:
        output: the feature file.
        rows: rows that it holds now.
        computed: images that went through the backbone in this run.
        skipped: files that gave no row.
        skipped_reasons: how many files for which reason.
        seconds: the whole run.
        images_per_second: rate of the image loop, without loading the backbone.
        engine: what ran the backbone; None if it was not needed.
        batch_size, workers: as they were at the end.
        stages: seconds spent in each stage, and which of them held the others up.
        fidelity: of int8 to float32, on images held back from the calibration; None for other precisions.
    """

    output: Path
    rows: int
    computed: int
    skipped: int
    skipped_reasons: dict[str, int]
    seconds: float
    images_per_second: float
    engine: str | None
    batch_size: int | None
    workers: int
    stages: Stages
    fidelity: Fidelity | None

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe extract --json`` prints."""
        return {
            **vars(self),
            "output": str(self.output),
            "stages": self.stages.to_json(),
            "fidelity": None if self.fidelity is None else self.fidelity.to_json(),
        }


def extract(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    backbone: str = "vgg19",
    size: int | tuple[int, int] | None = None,
    weights: str = "imagenet",
    layer: str | None = None,
    engine: str = "auto",
    precision: Precision = "float32",
    like: str | os.PathLike[str] | None = None,
    decode: Decode = "exact",
    dtype: StoredDtype = "float32",
    compress: Compression | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> ExtractSummary:
    """Push every image of a source through a frozen backbone, once, into a feature file.

    Images whose content the file knows already, or that an interrupted run of
    the same command has computed, are not computed again.

    Args:
        source: a folder or a CSV; see ``ffe.images.scan``.
        output: the feature file (HDF5).
        backbone: a name of ``ffe backbones``.
        size: input side, or (height, width), in pixels; None = the backbone's default.
        weights: ``imagenet``, ``random`` (untrained), or the path of a Keras weights file.
        layer: name of the layer whose output is taken; None = the last.
        engine: ``auto``, ``keras`` or ``openvino``; auto takes Keras where there
            is a GPU, and OpenVINO elsewhere.
        precision: ``float32``; ``int8`` for a CPU, calibrated on a sample of these
            images; ``mixed_float16`` or ``mixed_bfloat16`` for a GPU.
        like: for int8, a feature file whose quantised model is taken instead of
            calibrating one: features of two sources are comparable only so.
        decode: ``exact``, or ``fast`` for JPEG files; see ``ffe.images.fast``.
        dtype: type of the stored features, ``float32`` or ``float16``.
        compress: how the file is compressed: ``none``, ``lzf``, ``gzip`` or
            ``zstd``; None = as it is already, or not at all.
        batch_size: images in one call of the backbone; None = what the engine and
            the first seconds make best.
        workers: threads that decode; None = one per core, more where files come slowly.
        overwrite: replace a file that holds other features.
        progress: called after every batch.

    Returns:
        What was done; the features themselves are in the file.

    Raises:
        SourceError, BackboneError, WeightsError, EngineError, StoreError, StaleStoreError:
            before anything slow starts.
    """
    started = time.monotonic()
    path = Path(output)
    found = scan(source, path)
    spec, found_weights = make_spec(backbone, size, weights, layer, precision, dtype, decode)
    check_engine(engine, precision)
    if like is not None and precision != "int8":
        raise SpecError("--like takes the int8 model of another feature file, so it needs --precision int8.")
    check_output(path, overwrite=overwrite)
    filter_options(compress or "none")
    if found_weights.kind == "random" and weights == "random":
        log.warning("THE BACKBONE IS UNTRAINED (--weights random): its features are good for trying things out only")
    if len(found.class_names) == 1:
        log.warning("only one class ('%s') was found; a head needs at least two", found.class_names[0])
    records = sorted(found.records, key=lambda record: row_key(record.path))
    files = (record.file for record in records)
    with ImageStream(files, spec.preprocess.size, how=decode, workers=workers) as images:
        if overwrite or not anything_before(path):
            images.prefetch()  # while libraries are loaded, and int8 is calibrated
        quantized = None
        if precision == "int8":
            quantized = quantized_before(path, spec, overwrite=overwrite) if like is None else quantized_like(Path(like), spec)
            if quantized is None:
                Journal(path, spec, overwrite=overwrite).close()  # refuses, before the calibration, what it would refuse after
                quantized = calibrated(spec, found_weights, records)
            spec = replace(spec, quantized_sha256=quantized.sha256)
        plan = make_plan(found, path, spec, found_weights, quantized=quantized, overwrite=overwrite)
        try:

            def open_backbone() -> Engine:
                return open_engine(spec, found_weights, name=engine, batch_size=batch_size, quantized=quantized)

            return _run(plan, records, images, open_backbone, batch_size, compress, progress, started)
        finally:
            plan.journal.close()
            if plan.existing is not None:
                plan.existing.close()


def _run(
    plan: Plan,
    records: list[ImageRecord],
    images: ImageStream,
    open_backbone: Callable[[], Engine],
    batch_size: int | None,
    compress: Compression | None,
    progress: Callable[[Progress], None],
    started: float,
) -> ExtractSummary:
    existing, journal = plan.existing, plan.journal
    stored = {sha256: i for i, sha256 in enumerate(existing.sha256)} if existing is not None else {}

    def phash(sha256: str) -> int:
        return int(existing.phash[stored[sha256]]) if existing is not None and sha256 in stored else journal.phash(sha256)

    grid = existing.grid if existing is not None else journal.grid
    loop_started = time.monotonic()

    def opened() -> Engine:
        nonlocal loop_started
        before = time.monotonic()
        engine = open_backbone()
        loop_started += time.monotonic() - before
        return engine

    pipeline = Pipeline(
        images,
        opened,
        batch_size=batch_size,
        dtype=plan.spec.dtype,
        known=lambda sha256: sha256 in stored or sha256 in journal,
    )
    rows: list[Row] = []
    skipped = [Skipped(path, "left-out", why) for path, why in plan.scan.left_out]
    computed = 0
    waited_for_disk = 0.0

    def stages() -> Stages:
        return replace(pipeline.stages, write=journal.seconds, waited_for_disk=waited_for_disk)

    try:
        for batch in pipeline:
            fresh = [item for item in batch if item.features is not None]
            if fresh and pipeline.engine is not None:
                grid = pipeline.engine.grid
                before = time.monotonic()
                journal.append(
                    [item.sha256 for item in fresh],
                    [item.features for item in fresh],  # type: ignore[misc]
                    grid,
                    [item.phash for item in fresh],
                )
                waited_for_disk += time.monotonic() - before
                computed += len(fresh)
            _sort_out(batch, records, rows, skipped, phash)
            elapsed = max(time.monotonic() - loop_started, 1e-9)
            done = batch[-1].index + 1
            remaining = elapsed / done * (len(records) - done)
            progress(Progress(done, len(records), len(skipped), computed / elapsed, remaining, stages()))
    except BaseException:
        journal.commit()
        raise
    before = time.monotonic()
    journal.flush()
    waited_for_disk += time.monotonic() - before
    elapsed = max(time.monotonic() - loop_started, 1e-9)
    if not rows or grid is None:
        first = skipped[0]
        raise SourceError(
            f"None of the {len(skipped)} files could be read (the first, '{plan.scan.root / first.path}': {first.message}); "
            "check the paths, and that they are pictures."
        )

    skipped.sort(key=lambda item: item.path)

    def features(row: Row) -> np.ndarray:
        if existing is not None and row.sha256 in stored:
            return existing.raw_row(stored[row.sha256])
        return journal.row(row.sha256)

    if existing is not None and (dropped := len(set(existing.paths) - {row.path for row in rows})):
        log.warning("%d rows were dropped from '%s': their files are gone or no longer readable", dropped, plan.output)
    before = time.monotonic()
    compression = compress or ("none" if existing is None else compression_choice({existing.compression}))
    if existing is None or not _same_table(plan, rows, skipped, compression):
        write_store(
            plan.output,
            spec=plan.spec,
            grid=grid,
            class_names=plan.scan.class_names,
            rows=rows,
            features=features,
            skipped=skipped,
            source=source_text(plan.scan),
            quantized=plan.quantized,
            compress=compression,
        )
    journal.discard()
    assembling = time.monotonic() - before
    waited_for_disk += assembling
    engine = pipeline.engine
    return ExtractSummary(
        output=plan.output,
        rows=len(rows),
        computed=computed,
        skipped=len(skipped),
        skipped_reasons=dict(Counter(item.reason for item in skipped)),
        seconds=time.monotonic() - started,
        images_per_second=computed / elapsed,
        engine=None if engine is None else engine.name,
        batch_size=None if engine is None else engine.batch_size,
        workers=images.workers,
        stages=replace(stages(), write=journal.seconds + assembling),
        fidelity=None if plan.quantized is None else fidelity_of(plan.quantized),
    )


def _sort_out(
    batch: list[ImageFeatures],
    records: list[ImageRecord],
    rows: list[Row],
    skipped: list[Skipped],
    phash: Callable[[str], int],
) -> None:
    """Give every file of a batch a row, or a reason why it has none."""
    for item in batch:
        record = records[item.index]
        if item.error is not None:
            skipped.append(Skipped(record.path, item.error.reason, str(item.error)))
        else:
            found = phash(item.sha256)  # of the image that was computed, also where this file is a copy of it
            rows.append(Row(record.path, item.sha256, record.label, record.split, phash=found, group=record.group))


def _same_table(plan: Plan, rows: list[Row], skipped: list[Skipped], compression: Compression) -> bool:
    """Return whether the existing file says all this already, with checksums, and is compressed so."""
    existing = plan.existing
    assert existing is not None
    return (
        existing.crc32 is not None
        and not existing.parts
        and existing.compression == compression
        and existing.class_names == plan.scan.class_names
        and list(existing.skipped) == skipped
        and list(zip(existing.paths, existing.sha256, existing.labels.tolist(), existing.split, existing.group, strict=True))
        == [(row.path, row.sha256, row.label, row.split, row.group) for row in rows]
    )
