"""The feature file of a run: what is there already, and what is put there."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import eq

import numpy as np

from ffe.backbones.resolve import with_model
from ffe.base.columns import joined
from ffe.base.feature_layout import FeatureLayout
from ffe.base.openvino_ir import IrModel
from ffe.base.system import collector_paused
from ffe.base.text import OVERWRITE, REPLACE, counted, none_could
from ffe.base.urls import is_url
from ffe.dataset.class_checks import check_readable
from ffe.dataset.held_images import held_images
from ffe.errors import SourceError, StaleStoreError, StoreError
from ffe.extraction.incremental import JUDGED_BY, Changes, FoundRows, Known, StoredRows, changes, known, removed_text
from ffe.extraction.missing_images import lost_images, refuse_losses, refuse_mass_loss
from ffe.extraction.request import Job, refuse_other_spec
from ffe.extraction.views import counts_of
from ffe.images.file_names import places_of
from ffe.specs import Compression, ExtractSpec
from ffe.store.compression import compression_choice
from ffe.store.disk_space import explain_full_disk, model_bytes
from ffe.store.journal import Journal, held_in, names_of
from ffe.store.journal_folder import hold_output
from ffe.store.merge import merge, write_merged
from ffe.store.reader import FeatureStore
from ffe.store.schema import Row, Skipped, schema_of
from ffe.store.writer import write_store

log = logging.getLogger("ffe")

_OTHER_SHARD = f"choose another output, delete the shards that were made otherwise, or replace all of them with {OVERWRITE}"


@dataclass(frozen=True)
class Plan:
    """A job with the output in its hands."""

    job: Job  # what is asked for
    spec: ExtractSpec  # what the features will be made by
    existing: FeatureStore | None  # the file that is there already, made by the same spec; or None
    known: Known  # what it knows of the source
    written: bool  # whether it says all that is asked for, as far as stamps tell
    journal: Journal  # features of an unfinished run, if any, and place for new ones
    held: StoredRows  # of this file and of the other shards
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
    def stored(self) -> StoredRows:
        """What is there, where anything is still to be written."""
        return StoredRows() if self.written else self.held

    @cached_property
    def has(self) -> Callable[[str, int], bool]:
        """Whether the features of a content are there already, in the file or in the journal: (digest, view) -> bool."""
        return held_in(self.name, self.stored, self.journal)


@contextlib.contextmanager
def open_plans(job: Job, quantized: IrModel | None, settled: Known | None = None) -> Iterator[list[Plan]]:
    """Take hold of the output, and of all its shards, and see what is there; see ``_open_plan``."""
    with contextlib.ExitStack() as stack:
        if len(jobs := job.by_shard()) > 1:
            settled = None  # it is of all shards
            stack.enter_context(hold_output(job.output))
        held = StoredRows()
        plans = [stack.enter_context(_open_plan(one, quantized, settled, held)) for one in jobs]
        refuse_losses(job, held_images(held.stores), itertools.chain.from_iterable(plan.known.stamps for plan in plans))
        yield plans


@contextlib.contextmanager
def _open_plan(job: Job, quantized: IrModel | None, settled: Known | None, held: StoredRows) -> Iterator[Plan]:
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
            if existing is not None:
                held.stores.append(existing)
            plan = Plan(job, spec, existing, found, says_all(job, existing, found), journal, held, quantized)
        yield plan


@contextlib.contextmanager
def open_existing(job: Job, spec: ExtractSpec) -> Iterator[FeatureStore | None]:
    """Open the output, if it is there and to be gone on with."""
    if not job.output.exists() or job.options.overwrite:
        yield None
        return
    with FeatureStore(job.output) as existing:
        refuse_other_spec(job.output, existing.spec, spec, _OTHER_SHARD if job.shard else REPLACE)
        if not job.has_source(existing.source) and (gone := _count_gone(job, existing)):
            rows = f"{counted(gone, 'row')} of '{existing.source}' that '{job.options.source}' has not"
            raise StaleStoreError(f"'{job.output}' holds {rows}; {REPLACE}.")
        yield existing


def _count_gone(job: Job, existing: FeatureStore) -> int:
    return int((places_of(held_images([existing]).paths, job.records.paths) < 0).sum())


def _table(job: Job, rows: Mapping[int, Row], skipped: dict[int, Skipped]) -> tuple[Sequence[Row], Sequence[int], list[Skipped]]:
    """Return the rows of the images, how many views each has, and the skipped files, in the order of the feature file."""
    left_out = [Skipped(path, "left-out", why) for path, why in job.found.left_out]
    positions = rows if isinstance(rows, FoundRows) else sorted(rows)
    counts = counts_of((job.records[i] for i in positions), job.views, len(rows))
    images = rows.listed() if isinstance(rows, FoundRows) else [rows[i] for i in sorted(rows)]
    return images, counts, sorted([*left_out, *skipped.values()], key=lambda item: item.path)


def says_all(job: Job, existing: FeatureStore | None, found: Known) -> bool:
    """Return whether the existing file says all that a job asks for, as far as stamps tell."""
    return not found.read and _same_table(job, existing, *_table(job, found.rows, found.skipped))


def compression_of(job: Job, existing: FeatureStore | None) -> Compression:
    """Return how the file is to be compressed."""
    return job.options.compress or ("none" if existing is None else compression_choice({existing.compression}))


def in_place(job: Job, existing: FeatureStore | None) -> bool:
    """Return whether features are written where the finished file will have them, if nothing comes in between."""
    return existing is None and compression_of(job, existing) == "none" and job.any_order


def _same_table(
    job: Job, existing: FeatureStore | None, rows: Sequence[Row], counts: Sequence[int], skipped: list[Skipped]
) -> bool:
    """Return whether the existing file says all this already; views stand behind their images, and say what those say."""
    if existing is None or existing.schema < schema_of(existing.layout) or existing.parts:
        return False
    if existing.compression != compression_of(job, existing):
        return False
    views = (view for count in counts for view in range(1 + count))
    if existing.made_views != job.views or len(existing) != len(counts) + sum(counts) or not all(map(eq, existing.views, views)):
        return False
    stat, labels = existing.stat, existing.labels
    stored = (
        (existing.paths[i], existing.sha256[i], int(labels[i]), existing.split[i], existing.group[i], tuple(stat[i].tolist()))
        for i in map(int, existing.plain)
    )
    wanted = ((row.path, row.sha256, row.label, row.split, row.group, row.stat) for row in rows)
    return (
        existing.class_names == job.found.class_names
        and existing.source == job.source
        and list(existing.skipped) == skipped
        and (not skipped or existing.judged_by == JUDGED_BY)
        and len(existing.plain) == len(rows)
        and all(map(eq, stored, wanted))
    )


@dataclass(frozen=True)
class Outcome:
    """What a plan has come to, before its file is written."""

    plan: Plan
    images: Sequence[Row]  # in the order of the file
    counts: Sequence[int]  # views of each
    unread: list[Skipped]  # the files that gave no row, sorted by path
    failed: dict[int, Skipped]  # those of them that are records, by position
    copies: int  # images that are the same file as one before them

    @property
    def rows(self) -> int:
        """Rows of the file, those of views too."""
        return len(self.counts) + sum(self.counts)


def settle(plan: Plan, rows: Mapping[int, Row], skipped: dict[int, Skipped]) -> Outcome:
    """Put what a plan has computed beside what was known already."""
    skipped = {**plan.known.skipped, **skipped}
    if isinstance(rows, FoundRows):
        for i, row in plan.known.rows.items():
            rows.put(i, row.sha256, row.phash, row.stat)
    else:
        rows = plan.known.rows
    return Outcome(plan, *_table(plan.job, rows, skipped), skipped, rows.copies if isinstance(rows, FoundRows) else 0)


@collector_paused()
def check_outcomes(job: Job, outcomes: Sequence[Outcome]) -> Changes:
    """Say how the rows of all files of a job change; refuse what cannot be meant, before any of them is written."""
    empty = [outcome for outcome in outcomes if not outcome.images or outcome.plan.layout is None]
    if empty:
        first, count, shard = empty[0].unread[0], len(empty[0].unread), empty[0].plan.job.shard
        place = first.path if is_url(first.path) else job.found.root / first.path
        cannot = f"be read (the first, '{place}': {first.message})"
        if shard and (job.shard or len(empty) < len(outcomes)):
            advice = "ask for fewer shards (--shards), in another output"
            raise SourceError(f"No image of shard {shard} of {len(job.files)} can {cannot}; {advice}.")
        raise SourceError(f"{none_could(count, 'file')} {cannot}; check the paths, and that they are pictures.")
    kept = " Features that were computed are kept for the same command."
    if not job.shard:
        first_of = itertools.accumulate((len(outcome.plan.job.records) for outcome in outcomes), initial=0)
        why = {first + i: item.message for first, one in zip(first_of, outcomes, strict=False) for i, item in one.failed.items()}
        check_readable(job.found.class_names, job.records, why, kept)
    count = sum(len(outcome.images) for outcome in outcomes)
    if all(outcome.plan.written for outcome in outcomes):
        return Changes(unchanged=count)
    held = held_images(outcome.plan.existing for outcome in outcomes)
    if not held.paths:
        return Changes(new=count)
    changed, removed = changes(held, joined([outcome.images for outcome in outcomes]))
    if removed:
        refuse_mass_loss(job, held, lost_images(job, held, set(removed)))
        dropped = counted(len(removed), "row was", "rows were")
        unread = [item for outcome in outcomes for item in outcome.unread]
        text, lost = removed_text(removed, unread, job.place)
        log.log(logging.WARNING if lost else logging.INFO, "%s dropped from '%s': %s", dropped, job.output, text)
    return changed


@collector_paused()
def assemble(outcome: Outcome) -> None:
    """Put a feature file in place, unless it says all this already."""
    plan, images, counts = outcome.plan, outcome.images, outcome.counts
    job, existing, journal, layout = plan.job, plan.existing, plan.journal, plan.layout
    assert layout is not None  # ``check_outcomes``
    if plan.written or _same_table(job, existing, images, counts, outcome.unread):
        return

    stored = plan.stored

    def features(row: Row) -> np.ndarray:
        name = plan.name(row.sha256, row.view)
        if (found := stored.find(name)) is None:
            return journal.row(name)
        store, place = found
        return store.raw_row(place)

    all_rows = images
    if any(counts):
        each = ((row, view) for row, count in zip(images, counts, strict=True) for view in range(1 + count))
        all_rows = [replace(row, view=view) if view else row for row, view in each]
    names = (plan.name(row.sha256, row.view) for row in all_rows)
    write_store(
        job.output,
        spec=plan.spec,
        layout=layout,
        class_names=job.found.class_names,
        rows=all_rows,
        features=features,
        skipped=outcome.unread,
        judged_by=JUDGED_BY,
        source=job.source,
        quantized=plan.quantized,
        compress=compression_of(job, existing),
        views=job.views,
        draft=journal.draft(names) if in_place(job, existing) else None,
    )


def join_shards(job: Job) -> None:
    """Put the file in place that shows the rows of all shards, unless it does so already."""
    with contextlib.suppress(StoreError), FeatureStore(job.output) as there:  # an error: it shows others, or there is none
        if [part.path.resolve() for part in there.parts] == [file.resolve() for file in job.files]:
            return
    with contextlib.ExitStack() as stack, explain_full_disk(job.output, lambda: 0):
        stores = [stack.enter_context(FeatureStore(file, verify=False)) for file in job.files]
        write_merged(stores, merge(stores), job.output, virtual=True)
