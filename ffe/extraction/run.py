"""Images -> features, once, into a feature file: ``ffe.extract``."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffe.base.digests import path_digest
from ffe.base.feature_layout import FeatureLayout
from ffe.base.system import cores
from ffe.extraction.estimate import Estimate, estimate_job, estimate_plan, estimate_plans
from ffe.extraction.feature_file import Outcome, Plan, assemble, check_outcomes, join_shards, open_plans, settle
from ffe.extraction.incremental import Changes, known
from ffe.extraction.request import ExtractOptions, Job, existing_quantized, make_job
from ffe.extraction.runners.base import Runner, open_runner
from ffe.extraction.runners.runner_names import RunnerName
from ffe.extraction.stage_times import Computed, Progress, Stages, no_progress
from ffe.extraction.throughput_log import remember
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Truncated
from ffe.specs import AugmentSpec, Channels, Compression, Decode, Interpolation, Precision, Resize, StoredDtype, ViewsSpec
from ffe.store.disk_space import explain_full_disk
from ffe.store.journal import Journal

if TYPE_CHECKING:  # it loads more, which a run that has nothing to read does without
    from ffe.engines.quantize import Fidelity


@dataclass(frozen=True)
class ExtractSummary:
    """What a run did.

    Attributes:
        output: the feature file.
        rows: rows that it holds now, those of views too.
        images: that it holds now.
        copies: images that are the same file as another one, whose features they have.
        classes: their names; empty = no image has a label.
        views: that it holds of each image that trains; None = there are none.
        computed: images, and views, that went through the backbone in this run.
        read: files that were opened; the others had not changed.
        changes: how the rows differ from those of the file that was there.
        skipped: files that gave no row.
        skipped_reasons: how many files for which reason.
        skipped_files: their paths.
        seconds: the whole run.
        images_per_second: rate of the image loop, without loading the backbone.
        engine: what ran the backbone; None if it was not needed.
        batch_size, workers: as they were at the end.
        stages: seconds spent in each stage, and which of them held the others up.
        fidelity: of int8 to float32, on images held back from the quantisation; None for other precisions.
        runner: what pushed the images through the backbone.
        nodes: images, and views, that each machine of a cluster computed; empty where there was none.
    """

    output: Path
    rows: int
    images: int
    copies: int
    classes: tuple[str, ...]
    views: ViewsSpec | None
    computed: int
    read: int
    changes: Changes
    skipped: int
    skipped_reasons: dict[str, int]
    skipped_files: tuple[str, ...]
    seconds: float
    images_per_second: float
    engine: str | None
    batch_size: int | None
    workers: int
    stages: Stages
    fidelity: Fidelity | None
    runner: RunnerName
    nodes: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe extract --json`` prints."""
        values = {name: value for name, value in vars(self).items() if name != "changes"}
        return {
            **values,
            **asdict(self.changes),
            "output": str(self.output),
            "views": None if self.views is None else self.views.to_json(),
            "stages": self.stages.to_json(),
            "fidelity": None if self.fidelity is None else self.fidelity.to_json(),
        }


def extract(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    size: int | tuple[int, int] | None = None,
    weights: str = "imagenet",
    layer: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize: Resize | None = None,
    crop: float | None = None,
    interpolation: Interpolation | None = None,
    channels: Channels | None = None,
    engine: str = "auto",
    precision: Precision | None = None,
    like: str | os.PathLike[str] | None = None,
    decode: Decode | None = None,
    dtype: StoredDtype | None = None,
    compress: Compression | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    truncated: Truncated = "skip",
    overwrite: bool = False,
    rehash: bool = False,
    prune: bool = False,
    views: int | None = None,
    augment: str | AugmentSpec | None = None,
    shards: int | str | None = None,
    runner: RunnerName = "local",
    address: str | None = None,
    actors: int | None = None,
    announce: Callable[[Estimate], None] = no_progress,
    progress: Callable[[Progress], None] = no_progress,
) -> ExtractSummary:
    """Push every image of a source through a frozen backbone, once, into a feature file.

    Images whose content the file knows already, or that an interrupted run of
    the same command has computed, are not computed again; files whose size and
    time of change are as they were are not even opened.

    Args:
        source: a folder, a CSV, or an archive of images; see ``ffe.images.sources``.
        output: the feature file (HDF5).
        backbone: a name of ``ffe backbones``; None = that of the output, or of ``like``,
            with its size and all else that is not named here; of a new file
            ``ffe.backbones.catalog.DEFAULT``.
        size: input side, or (height, width), in pixels; None = the backbone's default.
        weights: ``imagenet``, ``random`` (untrained), or the path of a Keras weights file.
        layer: name of the layer whose output is taken; None = the last.
        mean, std: of the values in [0, 1], one number for each channel that the backbone is given: they
            become 0 and 1. Like the five that follow, None = what the backbone's own library says, and
            refused for a backbone of Keras.
        resize: ``stretch`` the picture, bring its ``shortest`` side to the size and cut the longer one,
            or its ``longest`` side and fill what is missing.
        crop: share of the sides that is cut out at the centre, in [0.01, 1]; 1 = no such cut.
        interpolation: the filter: ``bilinear``, ``bicubic``, ``lanczos`` or ``nearest``, Pillow's.
        channels: what the backbone is given: ``rgb``, ``bgr``, or one channel, ``gray``.
        engine: ``auto``, ``keras``, ``openvino``, ``winograd``, or ``torch`` for backbones of timm and
            Hugging Face; auto takes Keras or PyTorch where there is a GPU, and elsewhere OpenVINO,
            or winograd for networks of 3x3 convolutions where that is faster: it is measured once.
        precision: ``float32`` (the default); ``int8`` for a CPU, quantised on a sample of these
            images; ``mixed_float16`` or ``mixed_bfloat16`` for a GPU.
        like: for int8, a feature file whose quantised model is taken instead of
            making one: features of two sources are comparable only so.
        decode: ``exact`` (the default), or ``fast`` for JPEG files; see ``ffe.images.decode_fast``.
        dtype: type of the stored features, ``float32`` (the default) or ``float16``.
        compress: how the file is compressed: ``none``, ``lzf``, ``gzip`` or
            ``zstd``; None = as it is already, or not at all.
        batch_size: images in one call of the backbone; None = what the engine and
            the first seconds make best.
        workers: threads that decode; None = one per core, more where files come slowly.
        max_pixels, max_bytes, truncated: files with more, or cut off, are skipped; see ``ffe.images.limits``.
        overwrite: replace a file that holds other features.
        rehash: read all files, whatever their sizes and times of change.
        prune: drop the rows of images that are gone, also where these are more than
            half of the file, or a whole class or split; otherwise that is refused.
        views: rows of changed copies to make of each image that trains, beside
            its own; 0 = none, None = as the file has them already, or none.
        augment: how they differ, as ``--augment`` takes it; None = as in the file.
        shards: feature files that the rows are spread over, ``features-00001-of-00008.h5`` and so on,
            behind an output that shows them as one; ``"3/8"`` makes the third of eight alone;
            1 = one file, None = as the output is made already, or one file.
        runner: ``local``, this process; or ``ray``, the machines of a Ray cluster.
        address: of the cluster: ``auto`` (one that runs on this machine), ``HOST:PORT``
            or ``ray://HOST:PORT``; None = ``RAY_ADDRESS``, or one of this machine alone
            that is started for this run.
        actors: processes on the cluster; None = one for up to eight cores, or for a GPU.
        announce: called with what the run will take, before it starts; and again
            when more is known: the size of an int8 model, the shape of the features.
        progress: called after every batch.

    Returns:
        What was done; the features themselves are in the file.

    Raises:
        SourceError, BackboneError, WeightsError, EngineError, StoreError, StaleStoreError:
            before anything slow starts. SourceError also at the end: no file of a class could be read.
        DiskFullError: before, if it surely does not fit; or when the disk is
            full: what was computed is kept.
    """
    options = ExtractOptions(**{name: value for name, value in locals().items() if name not in {"announce", "progress"}})
    started = time.monotonic()
    job = make_job(options)
    quantized = existing_quantized(job)
    with contextlib.ExitStack() as stack:
        everything = None

        @functools.cache
        def opened_runner() -> Runner:
            return stack.enter_context(open_runner(job))

        if job.spec.precision == "int8" and quantized is None:
            from ffe.engines.quantize import quantized_for

            for one in job.by_shard():
                Journal(one.output, one.spec, overwrite=overwrite).close()  # refuses now what it would refuse afterwards
            everything = known(job, None)
            _announce(estimate_job(job, everything), announce)
            opened_runner()
            if len(job.files) == 1:
                opened_runner().prefetch(everything.read)  # while libraries are loaded, and the backbone is quantised
            quantized = quantized_for(job.spec, job.weights, job.found.records.sorted(path_digest), job.options.limits)
        plans = stack.enter_context(open_plans(job, quantized, everything))
        estimate = estimate_plans(job, plans)
        _announce(estimate, announce)

        def opened(layout: FeatureLayout) -> None:
            if estimate.file_bytes is None:  # how features lie in a row was not known
                _announce(estimate_plans(job, plans, layout), announce)

        outcomes, done = list[Outcome](), list[Computed]()
        for at, plan in enumerate(plans):
            told = _told_of_all(job, plans, at, sum(len(one.unread) for one in outcomes), done, progress)
            done.append(_compute(plan, opened_runner, opened, told))
            outcomes.append(settle(plan, done[-1].rows, done[-1].skipped))
        return _finish(job, outcomes, done, started)


def _compute(
    plan: Plan, runner: Callable[[], Runner], opened: Callable[[FeatureLayout], None], progress: Callable[[Progress], None]
) -> Computed:
    """Compute what a plan lacks."""
    job, known = plan.job, plan.known
    if not known.read:
        done, total = Computed(workers=job.options.workers or cores()), len(job.records)
        progress(Progress(total, total, len(job.found.left_out) + len(known.skipped), 0.0, 0.0, done.stages))
        return done
    from ffe.extraction.runners.collect import collect

    with _keeping(plan.journal):
        done = collect(plan, runner(), opened, progress)
        if job.shard:  # it may be long until the others are done, too
            with explain_full_disk(job.output, lambda: estimate_plan(plan).needed_bytes or 0):
                plan.journal.commit()
        return done


def _told_of_all(
    job: Job,
    plans: Sequence[Plan],
    at: int,
    skipped: int,
    computed: Sequence[Computed],
    progress: Callable[[Progress], None],
) -> Callable[[Progress], None]:
    """Return what takes in how far one of the plans is, and tells how far all of them are.

    ``skipped`` by those before, of which ``computed`` says what they did.
    """
    if len(plans) == 1:
        return progress
    done = sum(len(plan.job.records) for plan in plans[:at])
    later = sum(len(plan.known.read) for plan in plans[at + 1 :])
    rate = next((one.rate for one in reversed(computed) if one.count), 0.0)
    stages = sum((one.stages for one in computed), Stages())

    def tell(one: Progress) -> None:
        here = replace(one, rate=one.rate or rate, stages=stages + one.stages, skipped=skipped + one.skipped)
        remaining = one.remaining + (later / here.rate if here.rate else 0.0)
        progress(replace(here, done=done + one.done, total=len(job.records), remaining=remaining))

    return tell


@contextlib.contextmanager
def _keeping(journal: Journal) -> Iterator[None]:
    """Keep what was computed, if a run breaks off."""
    try:
        yield
    except BaseException:
        for _ in range(2):  # the first may say what went wrong before; what can be kept is kept
            with contextlib.suppress(OSError):
                journal.commit()
        raise


def _announce(estimate: Estimate, announce: Callable[[Estimate], None]) -> None:
    announce(estimate)
    estimate.refuse()


def _finish(job: Job, outcomes: Sequence[Outcome], computed: Sequence[Computed], started: float) -> ExtractSummary:
    """Put the feature files in place, and say what was done."""
    before = time.monotonic()
    with contextlib.ExitStack() as keeping:
        for one in outcomes:
            keeping.enter_context(_keeping(one.plan.journal))
        changed = check_outcomes(job, outcomes)
    for one in outcomes:
        _put_in_place(one)
    if len(outcomes) > 1:
        join_shards(job)
    assembling = time.monotonic() - before
    count, loop = sum(done.count for done in computed), sum(done.seconds for done in computed if done.count)
    engine = next((done.engine for done in computed if done.engine is not None), None)
    rate = count / loop if count else 0.0
    wanted = sum(sum(one.plan.known.missing) for one in outcomes)
    local = job.options.runner == "local"  # a cluster's rate tells nothing of this machine's
    if engine is not None and local and 2 * count >= wanted:  # else the rate is that of reading
        remember(job.spec, job.options.engine, engine.layout, count, rate, views=job.views is not None)
    fidelity = None
    if (quantized := outcomes[0].plan.quantized) is not None:
        from ffe.engines.quantize import fidelity_of

        fidelity = fidelity_of(quantized)
    unread = sorted((item for one in outcomes for item in one.unread), key=lambda item: item.path)
    stages = sum((done.stages for done in computed), Stages())
    write = assembling + sum(one.plan.journal.seconds for one in outcomes)
    return ExtractSummary(
        output=job.output,
        rows=sum(one.rows for one in outcomes),
        images=sum(len(one.images) for one in outcomes),
        copies=sum(one.copies for one in outcomes),
        classes=tuple(job.found.class_names),
        views=job.views,
        computed=count,
        read=sum(len(one.plan.known.read) for one in outcomes),
        changes=changed,
        skipped=len(unread),
        skipped_reasons=dict(Counter(item.reason for item in unread)),
        skipped_files=tuple(item.path for item in unread),
        seconds=time.monotonic() - started,
        images_per_second=rate,
        engine=None if engine is None else engine.name,
        batch_size=None if engine is None else engine.batch_size,
        workers=computed[-1].workers,
        stages=replace(stages, write=write, waited_for_disk=stages.waited_for_disk + assembling),
        fidelity=fidelity,
        runner=job.options.runner,
        nodes=dict(sum((Counter(done.nodes) for done in computed), Counter())),
    )


def _put_in_place(outcome: Outcome) -> None:
    """Put one feature file in place; its journal is of no more use then."""
    plan, journal = outcome.plan, outcome.plan.journal
    with (
        _keeping(journal),
        explain_full_disk(plan.job.output, lambda: (estimate_plan(plan).file_bytes or 0) - journal.reused_bytes),
    ):
        assemble(outcome)
    journal.discard()
