"""``compare``: labelled images in; several roads to a classifier, gone on the same split, side by side out."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ffe.backbones.catalog import DEFAULT, FAKE, check_size, find
from ffe.backbones.keras_build import build
from ffe.backbones.resolve import make_spec
from ffe.base.clock import Clock, OutOfTimeError
from ffe.base.output_file import check_output as check_report
from ffe.bundle.build import check_place
from ffe.commands.compare_runner import Callbacks, RoadRunner
from ffe.comparing.compare_result import CompareResult, agreement_of, ranked
from ffe.comparing.roads import FINETUNING, ON_BACKBONE, ROADS, Road, check_roads
from ffe.dataset.assign import ImageSplit, Splitter
from ffe.dataset.split_csv import SplitCsv, check_source
from ffe.dataset.table import check_apart
from ffe.errors import DataError, FfeError, SpecError, StoreError, is_sentence, memory_text, ran_out_of_memory
from ffe.evaluation.scores import evaluate_probabilities
from ffe.extraction.request import existing_spec
from ffe.extraction.stage_times import Progress
from ffe.finetuning.epochs import Epoch
from ffe.finetuning.trainer import Step
from ffe.finetuning.training_options import parts_of
from ffe.finetuning.unfreeze import count_stages
from ffe.images.augment_text import COMPARE, parse_augment
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Limits, Truncated
from ffe.images.sources import Scan, scan
from ffe.report.compare_page import write_compare_page
from ffe.specs import AugmentSpec, PreprocessSpec, TrainingSpec, ViewsSpec
from ffe.splits.holdout import TEST
from ffe.tuning.search import SearchProgress

log = logging.getLogger("ffe")


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
    started = time.monotonic()
    if seconds is not None and not 0 < seconds < 1e7:
        raise SpecError(f"a budget of {seconds:g} seconds cannot be kept; give one above 0 with --budget.")
    if epochs is not None and not 1 <= epochs <= 10_000:
        raise SpecError(f"epochs are {epochs}, but must be from 1 to 10000.")
    names = check_roads(parts_of(roads))
    changes = parse_augment(augment) if isinstance(augment, str) else augment
    found, folder = scan(source), Path(output)
    check_source(found)
    page = None if report is None else check_report(report)
    _make_folder(folder, found)
    for name in names:
        check_place(folder / f"{name}.ffe", overwrite=True)
    clock = Clock(started, seconds)
    if backbone is None:
        own = existing_spec(folder / "features.h5")
        backbone, size = (DEFAULT, size) if own is None else (own.backbone.name, size or own.preprocess.size)
        if own is not None and backbone != DEFAULT:
            log.info("the features in '%s' were made with the backbone %s: going on with that", folder, backbone)
    told = Callbacks(progress, on_trials, on_decoded, on_epoch, on_step)
    stages = parts_of(unfreeze)
    if stages and FINETUNING in names and backbone != FAKE:
        _check_stages(stages, backbone, size, weights)
    split = SplitCsv(found, folder / "split.csv")
    runner = RoadRunner(
        folder=folder,
        clock=clock,
        budget=seconds,
        told=told,
        backbone=backbone,
        size=_size_of(backbone, size),
        weights=weights,
        trials=trials,
        epochs=epochs,
        unfreeze=stages,
        views=ViewsSpec(views, changes),
        seed=seed,
        workers=workers,
        limits=Limits(max_pixels, max_bytes, truncated),
    )
    splitter = Splitter(found.class_names, valid_fraction, seed)
    assigned = _split_once(split, runner, splitter, test_fraction, on_backbone=not ON_BACKBONE.isdisjoint(names))
    runner.set_split(split, assigned)
    _load_libraries()
    results = list(_run_roads(names, runner, assigned, found.class_names))
    labels, together = assigned.labels(TEST), assigned.together(TEST)
    compared, order, quickest = ranked(results, labels, together)
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
        backbone=backbone,
        size=runner.size,
        scratch_size=runner.scratch_size,
        budget=seconds,
        seed=seed,
        interrupted=runner.interrupted,
        seconds=time.monotonic() - started,
    )
    if page is not None:
        write_compare_page(page, result, assigned, str(source))
    return result


def _size_of(backbone: str, size: int | tuple[int, int] | None) -> tuple[int, int]:
    row = find(backbone)
    side = row.size if size is None else size
    height_width = (side, side) if isinstance(side, int) else side
    check_size(row, height_width)
    return height_width


def _check_stages(unfreeze: tuple[str, ...], backbone: str, size: int | tuple[int, int] | None, weights: str) -> None:
    """Make sure that the backbone has the layers that fine-tuning is to train, before the roads ahead of it are gone."""
    TrainingSpec(unfreeze=unfreeze)
    count_stages(build(*make_spec(backbone, size, weights)), unfreeze, backbone)


def _make_folder(folder: Path, found: Scan) -> None:
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"The output '{folder}' is a file; name a folder for the models with -o.")
    if not folder.parent.is_dir():
        raise StoreError(f"The output '{folder}' lies in a folder that does not exist ('{folder.parent}'); create it first.")
    check_apart(folder, found, "output", "-o")
    folder.mkdir(exist_ok=True)


def _split_once(
    split: SplitCsv, runner: RoadRunner, splitter: Splitter, test_fraction: float, *, on_backbone: bool
) -> ImageSplit:
    """Give each image its side, with features where a road needs them anyway."""
    try:
        if on_backbone:
            runner.extract(split.path)
            return split.split_features(runner.features, splitter, test_fraction)
        preprocess = PreprocessSpec(runner.scratch_size, "none")
        return split.split_pixels(preprocess, splitter, test_fraction, runner.limits, runner.workers, runner.on_decoded)
    except OutOfTimeError as error:
        raise DataError(
            f"The {runner.budget:g} seconds were over before all images were read; features that were computed are kept, "
            "so run the same command again, or give more with --budget."
        ) from error


def _load_libraries() -> None:
    """Load what the roads need before the first of them, which would otherwise seem slow."""
    import keras
    import keras_tuner  # noqa: F401

    keras.backend.clear_session()


def _run_roads(names: Sequence[str], runner: RoadRunner, assigned: ImageSplit, classes: Sequence[str]) -> Iterator[Road]:
    """Go one road after another; yield what each came to, or why it came to nothing."""
    for number, name in enumerate(names, start=1):
        if runner.interrupted:
            yield Road(name, "interrupted before its turn")
            continue
        if runner.clock.is_over:
            yield Road(name, f"no time left: the {runner.budget:g} seconds were over before its turn; give more with --budget")
            continue
        share = runner.share(len(names) - number + 1)
        for_it = "" if share is None else f", up to {share:.0f} s"
        log.info("road %d of %d: %s (%s)%s", number, len(names), name, ROADS[name], for_it)
        with contextlib.suppress(FileNotFoundError):  # what stood there is of an earlier run
            os.unlink(runner.folder / f"{name}.ffe")
        try:
            road = runner.run(name, share)
        except OutOfTimeError:
            reason = f"the {runner.budget:g} seconds were over before it could learn; what was computed is kept for the next run"
            yield Road(name, reason)
        except Exception as error:
            if not isinstance(error, (FfeError, OSError)) and not ran_out_of_memory(error):
                raise
            log.debug("the road %s", name, exc_info=error)
            yield Road(name, _reason(error))
        except KeyboardInterrupt:
            if number == 1:
                raise
            runner.interrupted = True
            yield Road(name, "interrupted")
        else:
            together = assigned.together(TEST)
            evaluation = evaluate_probabilities(road.probabilities, assigned.labels(TEST), classes, groups=together)
            yield dataclasses.replace(road, evaluation=evaluation)


def _reason(error: Exception) -> str:
    """Say why a road could not be gone."""
    if is_sentence(error):
        return str(error)
    if ran_out_of_memory(error):
        return memory_text(error, "give a smaller --size, or fewer --views")
    assert isinstance(error, OSError)
    what = " ".join((error.strerror or str(error)).split())
    where = f" ('{error.filename}')" if error.filename else ""
    return f"the system refused: {what}{where}; mend that, and run the same command again"
