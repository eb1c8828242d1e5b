"""Run a plan in this process: decoding threads -> engine -> journal."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ffe.base.feature_layout import FeatureLayout
from ffe.engines.base import Engine
from ffe.engines.factory import open_engine
from ffe.extraction.estimate import estimate_plan
from ffe.extraction.feature_file import Plan, in_place
from ffe.extraction.incremental import lasting
from ffe.extraction.pipeline import ImageFeatures, Pipeline
from ffe.extraction.request import Job
from ffe.extraction.stage_times import Computed, Progress, Stages
from ffe.extraction.views import count_of
from ffe.images.loader import ImageStream
from ffe.store.disk_space import explain_full_disk
from ffe.store.schema import Row, Skipped

log = logging.getLogger("ffe")


def open_images(job: Job, positions: Sequence[int]) -> ImageStream:
    """Return the images of some records, being decoded as soon as they are asked for."""
    images = ImageStream(
        (job.records[i].file for i in positions),
        job.spec.preprocess,
        workers=job.options.workers,
        limits=job.options.limits,
        views=lambda index: range(1 + count_of(job.records[positions[index]], job.views)),
        augment=None if job.views is None else job.views.augment,
    )
    if job.views is not None:
        images.ahead = max(2, images.ahead // (1 + job.views.count))
    return images


def compute(
    plan: Plan,
    images: ImageStream,
    opened: Callable[[FeatureLayout], None],
    progress: Callable[[Progress], None],
) -> Computed:
    """Read the files of a plan, and put the features of new content into the journal; an engine that opens tells its layout."""
    job, existing, journal, known, name = plan.job, plan.existing, plan.journal, plan.known, plan.name
    started, waited_for_disk = time.monotonic(), 0.0

    def open_backbone() -> Engine:
        nonlocal started
        before = time.monotonic()
        options = job.options
        engine = open_engine(plan.spec, job.weights, name=options.engine, batch_size=options.batch_size, quantized=plan.quantized)
        opened(engine.layout)
        started += time.monotonic() - before
        return engine

    def is_known(sha256: str, view: int) -> bool:
        return name(sha256, view) in plan.stored or name(sha256, view) in journal

    def phash(sha256: str) -> int:
        store, row = plan.stored.get(sha256, (None, 0))
        return journal.phash(sha256) if store is None else int(store.phash[row])

    @contextlib.contextmanager
    def writing() -> Iterator[None]:
        nonlocal waited_for_disk
        before = time.monotonic()
        with explain_full_disk(job.output, lambda: estimate_plan(plan).needed_bytes or 0):
            yield
        waited_for_disk += time.monotonic() - before

    def stages() -> Stages:
        return replace(pipeline.stages, write=journal.seconds, waited_for_disk=waited_for_disk)

    pipeline = Pipeline(images, open_backbone, batch_size=job.options.batch_size, dtype=plan.spec.dtype, known=is_known)
    rows: dict[int, Row] = {}
    skipped: dict[int, Skipped] = {}
    not_read, left_out = len(known.rows) + len(known.skipped), len(job.found.left_out) + len(known.skipped)
    computed = images_computed = 0
    last_computed = -1
    once = in_place(job, existing)
    for batch in pipeline:
        good = [item for item in batch if item.error is None and (once or item.features is not None)]  # copies have rows, too
        layout = journal.layout if pipeline.engine is None else pipeline.engine.layout
        if good and layout is not None:
            names, features = [name(item.sha256, item.view) for item in good], [item.features for item in good]
            with writing():
                journal.append(names, features, layout, [item.phash for item in good])
            new = {item.index for item in good if item.features is not None}
            computed += sum(row is not None for row in features)
            images_computed += len(new - {last_computed})  # the views of one may be in two batches
            last_computed = max(new, default=last_computed)
        for item in batch:
            _note(item, plan, rows, skipped, phash)
        elapsed = max(time.monotonic() - started, 1e-9)
        last = batch[-1]
        done = last.index + (last.error is not None or last.view == count_of(job.records[known.read[last.index]], job.views))
        remaining = elapsed / max(1, done) * (len(known.read) - done)
        skips = left_out + len(skipped)
        progress(Progress(not_read + done, len(job.records), skips, images_computed / elapsed, remaining, stages()))
    for remark in images.note_texts(lambda index: job.records[known.read[index]].path):
        log.warning("%s", remark)
    with writing():
        journal.flush()
    elapsed = max(time.monotonic() - started, 1e-9)
    return Computed(rows, skipped, computed, elapsed, pipeline.engine, images.workers, stages())


def _note(
    item: ImageFeatures, plan: Plan, rows: dict[int, Row], skipped: dict[int, Skipped], phash: Callable[[str], int]
) -> None:
    """Give a file a row, or a reason why it has none, by its position among the records; that of a view is its image's."""
    i = plan.known.read[item.index]
    record = plan.job.records[i]
    if item.error is not None:
        skipped[i] = lasting(Skipped(record.path, item.error.reason, str(item.error), item.stat))
    else:
        found = phash(item.sha256)  # of the image that was computed, also where this file is a copy of it
        rows[i] = Row(record.path, item.sha256, record.label, record.split, 0, found, record.group, item.stat)
