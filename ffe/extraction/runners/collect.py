"""What a runner computes -> journal, rows and skipped files: the same for every runner."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from ffe.base.feature_layout import FeatureLayout
from ffe.extraction.estimate import estimate_plan
from ffe.extraction.feature_file import Plan, in_place
from ffe.extraction.incremental import FoundRows, lasting
from ffe.extraction.pipeline import ImageFeatures
from ffe.extraction.runners.base import Runner
from ffe.extraction.stage_times import Computed, Progress, Stages
from ffe.extraction.views import count_of
from ffe.images.loader import note_text
from ffe.store.disk_space import explain_full_disk
from ffe.store.schema import Skipped

log = logging.getLogger("ffe")


def collect(
    plan: Plan, runner: Runner, opened: Callable[[FeatureLayout], None], progress: Callable[[Progress], None]
) -> Computed:
    """Read the files of a plan, and put the features of new content into the journal; an engine that opens tells its layout."""
    job, existing, journal, known, name, stored = plan.job, plan.existing, plan.journal, plan.known, plan.name, plan.stored
    started, waited_for_disk = time.monotonic(), 0.0

    def phash(sha256: str) -> int:
        found = stored.find(sha256)
        return journal.phash(sha256) if found is None else int(found[0].phash[found[1]])

    @contextlib.contextmanager
    def writing() -> Iterator[None]:
        nonlocal waited_for_disk
        before = time.monotonic()
        with explain_full_disk(job.output, lambda: estimate_plan(plan).needed_bytes or 0):
            yield
        waited_for_disk += time.monotonic() - before

    def stages() -> Stages:
        return replace(runner.stages, write=journal.seconds, waited_for_disk=waited_for_disk)

    def elapsed() -> float:
        return max(time.monotonic() - started - runner.opening, 1e-9)

    rows = FoundRows(job.records)
    skipped: dict[int, Skipped] = {}
    not_read, left_out = len(known.rows) + len(known.skipped), len(job.found.left_out) + len(known.skipped)
    computed = images_computed = 0
    last_computed = -1
    once = in_place(job, existing)
    with contextlib.closing(runner.run(plan, opened)) as batches:
        for batch in batches:
            good = [item for item in batch if item.error is None and (once or item.features is not None)]  # copies have rows, too
            layout = journal.layout if runner.engine is None else runner.engine.layout
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
            seconds, last = elapsed(), batch[-1]
            done = last.index + (last.error is not None or last.view == count_of(job.records[known.read[last.index]], job.views))
            remaining = seconds / max(1, done) * (len(known.read) - done)
            nodes = {node: count / seconds for node, count in runner.nodes.items()}
            skips = left_out + len(skipped)
            told = Progress(not_read + done, len(job.records), skips, images_computed / seconds, remaining, stages(), nodes)
            progress(told)
    for kind, where in runner.noted().items():
        if where:
            log.warning("%s", note_text(kind, [job.records[known.read[index]].path for index in sorted(where)]))
    with writing():
        journal.flush()
    return Computed(rows, skipped, computed, elapsed(), runner.engine, runner.workers, runner.nodes, stages())


def _note(item: ImageFeatures, plan: Plan, rows: FoundRows, skipped: dict[int, Skipped], phash: Callable[[str], int]) -> None:
    """Give a file a row, or a reason why it has none, by its position among the records; that of a view is its image's."""
    i = plan.known.read[item.index]
    if item.error is not None:
        skipped[i] = lasting(Skipped(plan.job.records.paths[i], item.error.reason, str(item.error), item.stat))
    else:
        found = phash(item.sha256)  # of the image that was computed, also where this file is a copy of it
        rows.put(i, item.sha256, found, item.stat)
