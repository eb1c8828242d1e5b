"""The images that must be read -> rows and features, batch by batch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from ffe.engines.base import Engine
from ffe.extraction.feature_file import Plan, in_place
from ffe.extraction.incremental import lasting
from ffe.extraction.pipeline import ImageFeatures, Pipeline
from ffe.extraction.stage_times import Computed, Progress, Stages
from ffe.extraction.views import count_of
from ffe.images.loader import ImageStream
from ffe.store.disk_space import saying_what_is_missing
from ffe.store.schema import Row, Skipped

log = logging.getLogger("ffe")


def compute(
    plan: Plan,
    stored: dict[str, int],
    images: ImageStream,
    open_backbone: Callable[[], Engine],
    batch_size: int | None,
    room: Callable[[], int],
    progress: Callable[[Progress], None],
) -> Computed:
    """Read the files that must be read, and put the features of those whose content is new into the journal.

    Args:
        plan: what is to be done.
        stored: row of the existing file, by name; see ``ffe.extraction.views``.
        images: the files, being decoded.
        open_backbone: opens the engine; called once, when the first image needs it.
        batch_size: images in a batch; None = what is best.
        room: gives the bytes that must be free to go on.
        progress: called after every batch.

    Raises:
        DiskFullError: the disk is full.
    """
    job, existing, journal, known, name = plan.job, plan.existing, plan.journal, plan.known, plan.name

    def phash(sha256: str) -> int:
        return int(existing.phash[stored[sha256]]) if existing is not None and sha256 in stored else journal.phash(sha256)

    started = time.monotonic()

    def opened() -> Engine:
        nonlocal started
        before = time.monotonic()
        engine = open_backbone()
        started += time.monotonic() - before
        return engine

    pipeline = Pipeline(
        images,
        opened,
        batch_size=batch_size,
        dtype=plan.spec.dtype,
        known=lambda sha256, view: name(sha256, view) in stored or name(sha256, view) in journal,
    )
    rows: dict[int, Row] = {}
    skipped: dict[int, Skipped] = {}
    not_read, left_out = len(known.rows) + len(known.skipped), len(job.found.left_out) + len(known.skipped)
    computed = images_computed = 0
    last_computed = -1
    waited_for_disk = 0.0
    once = in_place(job, existing)

    def stages() -> Stages:
        return replace(pipeline.stages, write=journal.seconds, waited_for_disk=waited_for_disk)

    for batch in pipeline:
        good = [item for item in batch if item.error is None and (once or item.features is not None)]  # copies have rows, too
        grid = journal.grid if pipeline.engine is None else pipeline.engine.grid
        if good and grid is not None:
            before = time.monotonic()
            with saying_what_is_missing(job.output, room):
                journal.append(
                    [name(item.sha256, item.view) for item in good],
                    [item.features for item in good],
                    grid,
                    [item.phash for item in good],
                )
            waited_for_disk += time.monotonic() - before
            new = {item.index for item in good if item.features is not None}
            computed += sum(item.features is not None for item in good)
            images_computed += len(new - {last_computed})  # the views of one may be in two batches
            last_computed = max(new, default=last_computed)
        _sort_out(batch, plan, rows, skipped, phash)
        elapsed = max(time.monotonic() - started, 1e-9)
        last = batch[-1]
        views = count_of(job.records[known.read[last.index]], job.views)
        done = last.index + (last.error is not None or last.view == views)
        remaining = elapsed / max(1, done) * (len(known.read) - done)
        rate = images_computed / elapsed
        progress(Progress(not_read + done, len(job.records), left_out + len(skipped), rate, remaining, stages()))
    for remark in images.remarks(lambda index: job.records[known.read[index]].path):
        log.warning("%s", remark)
    before = time.monotonic()
    with saying_what_is_missing(job.output, room):
        journal.flush()
    waited_for_disk += time.monotonic() - before
    elapsed = max(time.monotonic() - started, 1e-9)
    return Computed(rows, skipped, computed, elapsed, pipeline.engine, images.workers, stages())


def _sort_out(
    batch: list[ImageFeatures],
    plan: Plan,
    rows: dict[int, Row],
    skipped: dict[int, Skipped],
    phash: Callable[[str], int],
) -> None:
    """Give every file of a batch a row, or a reason why it has none; by its position among the records. Views follow from it."""
    for item in batch:
        i = plan.known.read[item.index]
        record = plan.job.records[i]
        if item.error is not None:
            skipped[i] = lasting(Skipped(record.path, item.error.reason, str(item.error), item.stat))
        else:
            found = phash(item.sha256)  # of the image that was computed, also where this file is a copy of it
            rows[i] = Row(record.path, item.sha256, record.label, record.split, 0, found, record.group, item.stat)
