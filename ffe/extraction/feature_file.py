"""The feature file of a run: what is there already, and what is put there."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ffe.backbones.resolve import with_model
from ffe.base.feature_layout import FeatureLayout
from ffe.base.openvino_ir import IrModel
from ffe.base.system import collector_paused
from ffe.base.text import REPLACE, counted, none_could
from ffe.dataset.class_checks import check_readable
from ffe.errors import SourceError, StaleStoreError
from ffe.extraction.incremental import JUDGED_BY, Changes, Known, changes, known, removed_text
from ffe.extraction.missing_images import lost_rows, refuse_losses, refuse_mass_loss
from ffe.extraction.request import Job, refuse_other_spec
from ffe.extraction.views import count_of, names_of
from ffe.images.file_names import ByName
from ffe.specs import Compression, ExtractSpec
from ffe.store.compression import compression_choice
from ffe.store.disk_space import explain_full_disk, model_bytes
from ffe.store.journal import Journal
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row, Skipped, schema_of
from ffe.store.writer import write_store

log = logging.getLogger("ffe")


@dataclass(frozen=True)
class Plan:
    """A job with the output in its hands."""

    job: Job  # what is asked for
    spec: ExtractSpec  # what the features will be made by
    existing: FeatureStore | None  # the file that is there already, made by the same spec; or None
    known: Known  # what it knows of the source
    written: bool  # whether it says all that is asked for, as far as stamps tell
    journal: Journal  # features of an unfinished run, if any, and place for new ones
    quantized: IrModel | None = None  # the int8 model, where the spec has one

    @property
    def layout(self) -> FeatureLayout | None:
        """How the features lie in a row; None = no run has told it yet."""
        return self.journal.layout if self.existing is None else self.existing.layout

    @cached_property
    def name(self) -> Callable[[str, int], str]:
        """What features are kept under: (digest, view) -> name."""
        return names_of(self.job.views)

    @cached_property
    def stored(self) -> dict[str, int]:
        """The row of everything that the existing file holds, by its name, where anything is still to be written."""
        existing = self.existing
        if existing is None or self.written:
            return {}
        name = names_of(existing.made_views)
        return {name(*key): i for i, key in enumerate(zip(existing.sha256, existing.views.tolist(), strict=True))}


@contextlib.contextmanager
def open_plan(job: Job, quantized: IrModel | None, settled: Known | None = None) -> Iterator[Plan]:
    """Take hold of the output, and see what is there; what need not be read is as ``settled``, or else as stamps say."""
    spec = with_model(job.spec, quantized)
    with explain_full_disk(job.output, lambda: model_bytes(quantized)):
        journal = Journal(job.output, spec, overwrite=job.options.overwrite)  # from here on nobody else replaces the output
    with contextlib.closing(journal), contextlib.ExitStack() as stack:
        with collector_paused():
            existing = stack.enter_context(open_existing(job, spec))
            if existing is None and quantized is not None:  # else the model stands in that file
                with explain_full_disk(job.output, lambda: model_bytes(quantized)):
                    journal.keep_model(quantized)
            found = settled or known(job, existing)
            refuse_losses(job, existing, found.stamps)
            plan = Plan(job, spec, existing, found, says_all(job, existing, found), journal, quantized)
        yield plan


@contextlib.contextmanager
def open_existing(job: Job, spec: ExtractSpec) -> Iterator[FeatureStore | None]:
    """Open the output, if it is there and to be gone on with."""
    if not job.output.exists() or job.options.overwrite:
        yield None
        return
    with FeatureStore(job.output) as existing:
        refuse_other_spec(job.output, existing.spec, spec)
        names = ByName((record.path, None) for record in job.records)
        gone = {path for path in existing.paths if path not in names}
        if gone and existing.source != job.source:
            raise StaleStoreError(
                f"'{job.output}' holds {counted(len(gone), 'row')} of '{existing.source}' "
                f"that '{job.found.root}' has not; {REPLACE}."
            )
        yield existing


def _table(job: Job, rows: dict[int, Row], skipped: dict[int, Skipped]) -> tuple[list[Row], list[int], list[Skipped]]:
    """Return the rows of the images, how many views each has, and the skipped files, in the order of the feature file."""
    left_out = [Skipped(path, "left-out", why) for path, why in job.found.left_out]
    positions = sorted(rows)
    counts = [count_of(job.records[i], job.views) for i in positions]
    return [rows[i] for i in positions], counts, sorted([*left_out, *skipped.values()], key=lambda item: item.path)


def says_all(job: Job, existing: FeatureStore | None, found: Known) -> bool:
    """Return whether the existing file says all that a job asks for, as far as stamps tell."""
    return not found.read and _same_table(job, existing, *_table(job, found.rows, found.skipped))


def compression_of(job: Job, existing: FeatureStore | None) -> Compression:
    """Return how the file is to be compressed."""
    return job.options.compress or ("none" if existing is None else compression_choice({existing.compression}))


def in_place(job: Job, existing: FeatureStore | None) -> bool:
    """Return whether features are written where the finished file will have them, if nothing comes in between."""
    return existing is None and compression_of(job, existing) == "none"


def _same_table(job: Job, existing: FeatureStore | None, rows: list[Row], counts: list[int], skipped: list[Skipped]) -> bool:
    """Return whether the existing file says all this already; views stand behind their images, and say what those say."""
    if existing is None or existing.schema < schema_of(existing.layout) or existing.parts:
        return False
    if existing.compression != compression_of(job, existing):
        return False
    views = [view for count in counts for view in range(1 + count)]
    if existing.made_views != job.views or existing.views.tolist() != views:
        return False
    stats, labels = existing.stat.tolist(), existing.labels.tolist()
    stored = [
        (existing.paths[i], existing.sha256[i], labels[i], existing.split[i], existing.group[i], tuple(stats[i]))
        for i in existing.plain.tolist()
    ]
    return (
        existing.class_names == job.found.class_names
        and existing.source == job.source
        and list(existing.skipped) == skipped
        and (not skipped or existing.judged_by == JUDGED_BY)
        and stored == [(row.path, row.sha256, row.label, row.split, row.group, row.stat) for row in rows]
    )


@collector_paused()
def assemble(plan: Plan, rows: dict[int, Row], skipped: dict[int, Skipped]) -> tuple[int, list[Skipped], Changes]:
    """Put the feature file in place, unless it says all this already: its rows, the files that gave none, what changed."""
    job, existing, journal = plan.job, plan.existing, plan.journal
    images, counts, unread = _table(job, rows, skipped)
    changed, removed = (Changes(unchanged=len(rows)), []) if plan.written else changes(existing, images)
    if not rows or plan.layout is None:
        first = unread[0]
        raise SourceError(
            f"{none_could(len(unread), 'file')} be read (the first, '{job.found.root / first.path}': {first.message}); "
            "check the paths, and that they are pictures."
        )
    kept = " Features that were computed are kept for the same command."
    check_readable(job.found.class_names, job.records, {i: item.message for i, item in skipped.items()}, kept)
    if existing is not None and removed:
        refuse_mass_loss(job, existing, lost_rows(job, existing, set(removed)))
        dropped = counted(len(removed), "row was", "rows were")
        why, lost = removed_text(removed, unread, job.found.root)
        log.log(logging.WARNING if lost else logging.INFO, "%s dropped from '%s': %s", dropped, job.output, why)

    def features(row: Row) -> np.ndarray:
        name = plan.name(row.sha256, row.view)
        return existing.raw_row(plan.stored[name]) if existing is not None and name in plan.stored else journal.row(name)

    if not plan.written and not _same_table(job, existing, images, counts, unread):
        each = ((row, view) for row, count in zip(images, counts, strict=True) for view in range(1 + count))
        all_rows = [replace(row, view=view) if view else row for row, view in each]
        in_order = [plan.name(row.sha256, row.view) for row in all_rows]
        write_store(
            job.output,
            spec=plan.spec,
            layout=plan.layout,
            class_names=job.found.class_names,
            rows=all_rows,
            features=features,
            skipped=unread,
            judged_by=JUDGED_BY,
            source=job.source,
            quantized=plan.quantized,
            compress=compression_of(job, existing),
            views=job.views,
            draft=journal.draft(in_order) if in_place(job, existing) else None,
        )
    return len(counts) + sum(counts), unread, changed
