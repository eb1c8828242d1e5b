"""What a run will take, stated before it starts: images, disk and time."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ffe.backbones.catalog import FAKE
from ffe.backbones.registry import source_of
from ffe.backbones.resolve import with_model
from ffe.base.feature_layout import FeatureLayout
from ffe.base.openvino_ir import IrModel
from ffe.base.system import free_disk
from ffe.base.text import bytes_text
from ffe.dataset.held_images import held_images
from ffe.engines.factory import open_engine
from ffe.engines.fake import FakeEngine
from ffe.errors import DiskFullError
from ffe.extraction.feature_file import Plan, in_place, open_existing, says_all
from ffe.extraction.incremental import Known, known
from ffe.extraction.missing_images import refuse_losses
from ffe.extraction.request import ExtractOptions, Job, existing_quantized, make_job
from ffe.extraction.throughput_log import remembered
from ffe.extraction.views import counts_of, shared_count
from ffe.store.disk_space import column_bytes, file_bytes, model_bytes
from ffe.store.journal import names_of
from ffe.store.journal_records import RECORD_ROW, Record, check_same_spec, journal_bytes, read_records
from ffe.store.reader import FeatureStore

log = logging.getLogger("ffe")

_PICTURES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Estimate:
    """What a run is about to do."""

    output: Path  # the feature file
    images: int  # files that the source names
    views: int  # rows of views that the finished file holds, at the most, beside those of the images
    compute: int  # images, and views, to compute, at the most
    copied: int  # rows that the feature file holds, of files that have not changed, and that stay
    check: int  # files to read and compare by content: the feature file probably holds their rows
    unfinished: int  # rows that an unfinished run has left; of these images, if there are no more than are missing
    skipped: int  # files known to give no row
    file_bytes: int | None  # size of the finished file; None = not known before the backbone is loaded
    # what must be free meanwhile: the file, and the new rows once more where it is compressed, or another is there already
    needed_bytes: int | None
    least_bytes: int  # the same if files of equal size are copies, and only files named like pictures are some
    free_bytes: int  # what is free
    seconds: float | None  # how long the images take; None = no run like this was seen here
    dropped: int = 0  # rows of views that the feature file holds and that go, for they are not asked for

    def refuse(self) -> None:
        """Raise a DiskFullError if the run is surely in vain: it needs more than what is free."""
        if self.least_bytes > self.free_bytes:
            raise DiskFullError(
                f"The disk of '{self.output}' has {bytes_text(self.free_bytes)} free, but at least "
                f"{bytes_text(self.least_bytes)} are needed until the features are in their file, so "
                f"{bytes_text(self.least_bytes - self.free_bytes)} are missing; make room, or choose another output."
            )

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe extract --dry-run --json`` prints."""
        return {**asdict(self), "output": str(self.output)}


def estimate_job(
    job: Job,
    found: Known,
    existing: FeatureStore | None = None,
    *,
    layout: FeatureLayout | None = None,
    unfinished: int = 0,
    quantized: IrModel | None = None,
    written: bool = False,
) -> Estimate:
    """Say what a job takes, by what the feature file (``existing``) knows of the source (``found``).

    ``layout`` is that of the features, if known; ``unfinished`` counts rows; ``written``: the file says all this already.
    """
    seen, rate = remembered(job.spec, job.options.engine, views=job.views is not None)
    layout, once = layout or seen, in_place(job, existing)
    compute = max(0, sum(found.missing) - found.doubtful_rows)
    compute -= unfinished if unfinished <= compute else 0  # else they are not all of these images, and who knows how many are
    counts = counts_of(job.records, job.views, len(job.records))
    most = len(counts) + sum(counts)
    rows = most - sum(1 + counts[i] for i in found.skipped)
    size = needed = None
    least = 0
    if layout is not None:
        dims, itemsize = layout.dims, np.dtype(job.spec.dtype).itemsize
        part = RECORD_ROW + (0 if once else dims * itemsize)
        text = column_bytes(job.records.paths) + column_bytes(record.group for record in job.records)
        text = text * most // len(counts)
        # named like pictures and not empty; equal sizes may be copies, which are computed once
        sure, of_size = 0, dict[int, int]()
        for i, missing in zip(found.read, found.missing, strict=True):
            length = found.stamps[i][0]
            if length > 0 and job.records[i].file.suffix.lower() in _PICTURES:
                sure += 1 + counts[i]
                of_size[length] = min(missing, of_size.get(length, missing))
        different = sum(of_size.values()) - found.doubtful_rows - unfinished

        def bytes_of(count: int, new: int) -> int:
            return file_bytes(count, dims, itemsize, text=text, other=model_bytes(quantized)) + max(0, new) * part

        held = journal_bytes(job.output) if once and unfinished else 0  # of the file itself
        size = bytes_of(rows, 0)
        needed = 0 if written else max(bytes_of(rows, compute) - held, file_bytes(0, 0, 1, text=0))
        least = 0 if written else max(0, bytes_of(sure + sum(1 + counts[i] for i in found.rows), different) - held)
    return Estimate(
        output=job.output,
        images=len(job.records) + len(job.found.left_out),
        views=rows - len(job.records) + len(found.skipped),
        compute=compute,
        copied=found.copied,
        check=found.doubtful,
        unfinished=unfinished,
        skipped=len(job.found.left_out) + len(found.skipped),
        file_bytes=size,
        needed_bytes=needed,
        least_bytes=least,
        free_bytes=free_disk(Path(os.path.realpath(job.output)).parent),
        seconds=0.0 if compute == 0 else None if rate is None or job.options.runner != "local" else compute / rate,
        dropped=0 if existing is None else int((existing.views > shared_count(job.views, existing.made_views)).sum()),
    )


def estimate_plan(plan: Plan, layout: FeatureLayout | None = None) -> Estimate:
    """Say what a plan takes; ``layout`` is that of the features, where the backbone has told it."""
    return estimate_job(
        plan.job,
        plan.known,
        plan.existing,
        layout=layout or plan.layout,
        unfinished=len(plan.journal),
        quantized=plan.quantized,
        written=plan.written,
    )


def estimate_plans(job: Job, plans: Sequence[Plan], layout: FeatureLayout | None = None) -> Estimate:
    """Say what the plans of a job take together; see ``estimate_plan``."""
    return _sum(job, [estimate_plan(plan, layout) for plan in plans], [plan.existing is not None for plan in plans])


def _sum(job: Job, of_files: Sequence[Estimate], there: Sequence[bool]) -> Estimate:
    """Add up what several files take: those that are ``there`` already are replaced one after another, so not all at once."""
    if len(of_files) == 1:
        return of_files[0]
    whole: dict[str, Any] = {"output": job.output, "free_bytes": of_files[0].free_bytes}
    for name in (one.name for one in fields(Estimate) if one.name not in whole):
        values = [getattr(one, name) for one in of_files]
        whole[name] = None if None in values else sum(values)
    pairs = list(zip(of_files, there, strict=True))
    new, old = ([one.least_bytes for one, is_there in pairs if is_there == which] for which in (False, True))
    whole["least_bytes"] = sum(new) + max(old, default=0)
    return Estimate(**whole)


def dry_run(source: str | os.PathLike[str], output: str | os.PathLike[str], **keywords: Any) -> Estimate:
    """Say what ``extract`` would do with the same keywords, check and refuse what it would, and write nothing.

    The backbone is built, once, where no earlier run has told the shape of its features.
    """
    options = ExtractOptions(source, output, **keywords)
    job = make_job(options, download=False)
    quantized = existing_quantized(job)
    spec = with_model(job.spec, quantized)
    jobs, unfinished = job.by_shard(), list[list[Record]]()
    for one in jobs:
        unfinished.append([record for record in read_records(one.output) if record.spec == spec or not options.overwrite])
        for record in unfinished[-1]:
            check_same_spec(one.output, record, spec)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open_existing(one, spec)) for one in jobs]
        found = [known(one, existing) for one, existing in zip(jobs, files, strict=True)]
        refuse_losses(job, held_images(files), itertools.chain.from_iterable(one.stamps for one in found))
        layouts = [one.layout for one in files if one is not None] + [one.layout for one in itertools.chain(*unfinished)]
        layout = next(iter(layouts), None) or remembered(job.spec, options.engine)[0] or _layout(job)
        estimates = [
            estimate_job(
                one,
                seen,
                existing,
                layout=layout,
                unfinished=_asked_for(one, records),
                quantized=quantized,
                written=says_all(one, existing, seen),
            )
            for one, existing, seen, records in zip(jobs, files, found, unfinished, strict=True)
        ]
        return _sum(job, estimates, [existing is not None for existing in files])


def _asked_for(job: Job, records: Sequence[Record]) -> int:
    """Count the rows of an unfinished run that this one can use: those of views that differ otherwise, it cannot."""
    plain = names_of(None)
    suffixes = () if job.views is None else tuple(names_of(job.views)("", v) for v in range(1, 1 + job.views.count))
    names = {name for record in records for name in record.names}
    return sum(name == plain(name[:64], 0) or name.endswith(suffixes) for name in names)


def _layout(job: Job) -> FeatureLayout:
    """Build a backbone to see the shape of its features."""
    if job.spec.backbone.name == FAKE:
        return FakeEngine.layout
    if source_of(job.spec.backbone.name) is not None:
        return open_engine(replace(job.spec, precision="float32"), job.weights, name=job.options.engine).layout
    log.info("loading the backbone %s to see the shape of its features", job.spec.backbone.name)
    from ffe.backbones.keras_build import build

    model = build(replace(job.spec, precision="float32"), job.weights)
    return FeatureLayout.of_shapes(output.shape[1:] for output in model.outputs)
