"""``compare``: labelled images in; several roads to a classifier, gone on the same split, side by side out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from ffe.backbones.catalog import FAKE
from ffe.backbones.keras_build import build
from ffe.backbones.resolve import make_spec
from ffe.base.clock import OutOfTimeError
from ffe.base.output_file import check_output as check_report
from ffe.base.output_file import write_output
from ffe.bundle.build import check_place
from ffe.commands.compare_runner import RoadRunner
from ffe.comparing.compare_options import CompareOptions
from ffe.comparing.compare_result import CompareResult, agreement_of, ranked
from ffe.comparing.roads import FINETUNING, ON_BACKBONE
from ffe.dataset.assign_sides import ImageSplit, Splitter
from ffe.dataset.class_checks import check_own_folder
from ffe.dataset.split_csv import SplitCsv, check_source
from ffe.dataset.table import table_of_files
from ffe.errors import DataError
from ffe.extraction.stage_times import Progress
from ffe.finetuning.epochs import Epoch
from ffe.finetuning.trainer import Step
from ffe.finetuning.unfreeze import count_stages
from ffe.images.augment_text import COMPARE
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Truncated
from ffe.images.sources import list_images, scan
from ffe.redaction import redacted
from ffe.report.compare_page import compare_page
from ffe.specs import AugmentSpec, PreprocessSpec, TrainingSpec
from ffe.splits.holdout import TEST
from ffe.tuning.search import SearchProgress


def compare(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    roads: str | Sequence[str] = (),
    backbone: str | None = None,
    size: int | tuple[int, int] | None = None,
    weights: str = "imagenet",
    seconds: float | None = None,
    trials: int | None = None,
    epochs: int | None = None,
    unfreeze: str | int | Sequence[str | int] = (),
    views: int = 4,
    augment: str | AugmentSpec = COMPARE,
    test_fraction: float = 0.2,
    valid_fraction: float = 0.2,
    seed: int = 0,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    truncated: Truncated = "skip",
    report: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
    on_trials: Callable[[SearchProgress], None] = lambda progress: None,
    on_decoded: Callable[[int, int], None] = lambda done, total: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[Step], None] = lambda step: None,
) -> CompareResult:
    """Go several roads from labelled images to a classifier, all on the same split, and compare what they come to.

    Every road learns from the same images, chooses by the same, and is tested
    once on the same. Its model, the features and the activations stay in the
    folder, so that the next comparison computes only what is new. A road that
    cannot be gone says why, and the others are gone nevertheless; an
    interruption ends the comparison with the roads that are done.

    Of ``seconds``, whatever the features and the split took is gone first. Then
    each road may use an equal share of what is left when its turn comes: what
    one does not use is shared by those behind it. A training ends with its best
    weights so far when its share is over; it makes one epoch at least begin.

    Args:
        source: labelled images; see ``ffe.images.sources``. Splits that it gives are kept.
        output: folder for models, features and activations; made if it is missing.
        roads: names of ``ffe.comparing.roads.ROADS``; empty = all.
        backbone, size, weights: see ``ffe.extract``; where no backbone is named, that of the features in the folder,
            with its size. The convnets from scratch take
            the same size, but at least 46 and at most 150 pixels.
        seconds: time for everything; None = as long as it takes.
        trials: of each head in a search; None = what the time allows, or a number that suits each.
        epochs: most epochs of a training, or of each of its stages; None = what the time
            allows, or 5 and 15 for the stages of fine-tuning, 15 for the head alone, 30 from scratch.
        unfreeze: what the stages of fine-tuning train; see ``ffe.finetune``. Empty = the
            last 22 %, then 43 % of the layers: block5, then blocks 4 and 5 of a VGG19.
        views: of each training image, for the road ``views``.
        augment: how they differ, and how images change for ``head-only``; from scratch, the article's changes are taken.
        test_fraction: share held out for the test, where the source gives none.
        valid_fraction: share of the others that validates, where the source gives none.
        seed: of every random choice.
        workers, max_pixels, max_bytes, truncated, progress: see ``ffe.extract``.
        report: an HTML file to write.
        on_trials, on_decoded, on_epoch, on_step: see ``ffe.tune`` and ``ffe.finetune``.

    Raises:
        SpecError, SourceError, DataError, StoreError, BundleError, ReportError, BackboneError: before a road is gone.
        KeyboardInterrupt: interrupted before a road was gone.
    """
    options = CompareOptions.of(locals())
    found, folder = scan(source), options.output
    check_source(found)
    page = None if report is None else check_report(report)
    check_own_folder(folder, found, "output", "-o", "create it first", holds=" for the models")
    folder.mkdir(exist_ok=True)
    for name in options.roads:
        check_place(folder / f"{name}.ffe", overwrite=True)
    _check_stages(options)
    runner = RoadRunner(options)
    split = SplitCsv(found, folder / "split.csv")  # held to the end: it knows what opens signed URLs
    assigned = _split_once(split, runner, found.class_names)

    import keras  # before the first of the roads, which would seem slow with it
    import keras_tuner  # noqa: F401

    keras.backend.clear_session()
    results = list(runner.run_all(assigned, found.class_names))
    labels = assigned.labels(TEST)
    compared, order, quickest = ranked(results, labels, assigned.together(TEST))
    best, second = [*order, "", ""][:2]
    by_name = {road.name: road for road in compared}
    result = CompareResult(
        folder=folder,
        roads=compared,
        best=best,
        second=second,
        quickest=quickest,
        agreement=agreement_of(by_name[best], by_name[second], labels, found.class_names) if second else (),
        classes=found.class_names,
        rows=assigned.counts(),
        backbone=options.backbone,
        size=options.size,
        scratch_size=options.scratch_size,
        budget=seconds,
        seed=seed,
        interrupted=runner.interrupted,
        seconds=options.clock.elapsed,
    )
    if page is not None:
        write_output(page, compare_page(result, assigned, redacted(str(source))).encode())
    return result


def _check_stages(options: CompareOptions) -> None:
    """Make sure that the backbone has the layers that fine-tuning is to train, before the roads ahead of it are gone."""
    stages, backbone = options.unfreeze, options.backbone
    if stages and FINETUNING in options.roads and backbone != FAKE:
        TrainingSpec(unfreeze=stages)
        count_stages(build(*make_spec(backbone, options.size, options.weights)), stages, backbone)


def _split_once(split: SplitCsv, runner: RoadRunner, class_names: Sequence[str]) -> ImageSplit:
    """Give each image its side, with features where a road needs them anyway."""
    options = runner.options
    splitter = Splitter(class_names, options.valid_fraction, options.seed)
    try:
        if ON_BACKBONE.isdisjoint(options.roads):
            preprocess, reading = PreprocessSpec(options.scratch_size, "none"), (options.limits, options.workers)
            _, images, _ = table_of_files(list_images(split.path), class_names, preprocess, *reading, runner.on_decoded)
            assigned = split.split(images, None, splitter, options.test_fraction)
        else:
            runner.extract(split.path)
            assigned = split.split_features(runner.features, splitter, options.test_fraction)
        runner.set_split(split.path, assigned)
    except OutOfTimeError as error:
        raise DataError(
            f"The {options.seconds:g} seconds were over before all images were read; features that were computed are kept, "
            "so run the same command again, or give more with --budget."
        ) from error
    return assigned
