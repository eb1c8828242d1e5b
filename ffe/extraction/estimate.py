"""What a run will take, stated before it starts: images, disk and time."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffe.backbones.catalog import FAKE
from ffe.engines.base import grid_of
from ffe.engines.fake import FakeEngine
from ffe.errors import DiskFullError
from ffe.extraction.changes import Known
from ffe.extraction.history import remembered
from ffe.extraction.output import existing_of, known_of, says_all
from ffe.extraction.plan import Job, make_job, quantized_at_hand, with_model
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Limits
from ffe.ir import IrModel
from ffe.machine import bytes_text, free_disk
from ffe.specs import Compression, Decode, Precision, StoredDtype
from ffe.store.journal import PART_ROW, refuse_other_run, unfinished
from ffe.store.room import column_bytes, file_bytes, model_bytes

log = logging.getLogger("ffe")

_PICTURES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Estimate:
    """What a run is about to do.

    Attributes:
        output: the feature file.
        images: files that the source names.
        compute: of these, images to compute, at the most.
        copied: rows that the feature file holds, of files that have not changed.
        check: files to read and compare by content: the feature file probably holds their rows.
        unfinished: rows that an unfinished run has left.
        skipped: files known to give no row.
        file_bytes: size of the finished file; None = not known before the backbone is loaded.
        needed_bytes: what must be free meanwhile: the file, and the new rows once more until it is whole.
        least_bytes: the same if files of equal size are copies, and only files named like pictures are some.
        free_bytes: what is free.
        seconds: how long the images take; None = no run like this was seen here.
    """

    output: Path
    images: int
    compute: int
    copied: int
    check: int
    unfinished: int
    skipped: int
    file_bytes: int | None
    needed_bytes: int | None
    least_bytes: int
    free_bytes: int
    seconds: float | None

    def refuse(self) -> None:
        """Make sure that the run is not surely in vain.

        Raises:
            DiskFullError: what it needs is more than what is free.
        """
        if self.least_bytes > self.free_bytes:
            raise DiskFullError(
                f"The disk of '{self.output}' has {bytes_text(self.free_bytes)} free, but at least "
                f"{bytes_text(self.least_bytes)} are needed until the features are in their file, so "
                f"{bytes_text(self.least_bytes - self.free_bytes)} are missing; make room, or choose another output."
            )

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe extract --dry-run --json`` prints."""
        return {**asdict(self), "output": str(self.output)}


def state(
    job: Job,
    known: Known,
    *,
    grid: tuple[int, int, int] | None = None,
    unfinished: int = 0,
    quantized: IrModel | None = None,
    written: bool = False,
) -> Estimate:
    """Say what a job takes.

    Args:
        job: what is asked for.
        known: what the feature file knows of the source.
        grid: (h, w, c) of the features; None = not known, but maybe to earlier runs.
        unfinished: rows of an unfinished run.
        quantized: the int8 model.
        written: the feature file says all this already.
    """
    seen, rate = remembered(job.spec, job.engine)
    grid = grid or seen
    compute = max(0, len(known.read) - known.doubtful - unfinished)
    size = needed = None
    least = 0
    if grid is not None:
        dims, itemsize = math.prod(grid), np.dtype(job.spec.dtype).itemsize
        part = dims * itemsize + PART_ROW
        text = column_bytes([record.path for record in job.records]) + column_bytes([record.group for record in job.records])
        # named like pictures and not empty; equal sizes may be copies, which are computed once
        sure = [i for i in known.read if known.stamps[i][0] > 0 and job.records[i].file.suffix.lower() in _PICTURES]
        different = len({known.stamps[i][0] for i in sure}) - known.doubtful - unfinished

        def room(rows: int, new: int) -> int:
            return file_bytes(rows, dims, itemsize, text=text, other=model_bytes(quantized)) + max(0, new) * part

        size = room(len(job.records) - len(known.skipped), 0)
        needed = 0 if written else room(len(job.records) - len(known.skipped), compute)
        least = 0 if written else room(len(known.rows) + len(sure), different)
    return Estimate(
        job.output,
        len(job.records) + len(job.found.left_out),
        compute,
        len(known.rows),
        known.doubtful,
        unfinished,
        len(job.found.left_out) + len(known.skipped),
        size,
        needed,
        least,
        free_disk(Path(os.path.realpath(job.output)).parent),
        0.0 if compute == 0 else None if rate is None else compute / rate,
    )


def dry_run(
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
    overwrite: bool = False,
    rehash: bool = False,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> Estimate:
    """Say what ``extract`` would do, check what it would check, and write nothing.

    The backbone is built, once, where no earlier run has told the shape of its features.

    Args: see ``ffe.extraction.run.extract``.

    Raises:
        SourceError, BackboneError, WeightsError, EngineError, StoreError, StaleStoreError: as ``extract`` would.
    """
    job = make_job(
        source,
        output,
        backbone=backbone,
        size=size,
        weights=weights,
        layer=layer,
        engine=engine,
        precision=precision,
        decode=decode,
        dtype=dtype,
        compress=compress,
        overwrite=overwrite,
        rehash=rehash,
        limits=Limits(max_pixels, max_bytes),
        download=False,
    )
    quantized = quantized_at_hand(job, None if like is None else Path(like))
    spec = with_model(job.spec, quantized)
    records = [record for record in unfinished(job.output) if record.spec == spec or not overwrite]
    for record in records:
        refuse_other_run(job.output, record, spec)
    existing = existing_of(job, spec)
    try:
        known = known_of(job, existing)
        grid = existing.grid if existing is not None else records[0].grid if records else remembered(job.spec, engine)[0]
        return state(
            job,
            known,
            grid=grid or _grid(job),
            unfinished=sum(len(record.phash) for record in records),
            quantized=quantized,
            written=says_all(job, existing, known),
        )
    finally:
        if existing is not None:
            existing.close()


def _grid(job: Job) -> tuple[int, int, int]:
    """Build a backbone to see the shape of its features."""
    if job.spec.backbone.name == FAKE:
        return FakeEngine.grid
    log.info("loading the backbone %s to see the shape of its features", job.spec.backbone.name)
    from ffe.backbones.build import build

    shape: Sequence[int] = build(replace(job.spec, precision="float32"), job.weights).output_shape
    return grid_of(shape[1:])
