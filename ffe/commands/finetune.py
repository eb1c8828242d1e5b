"""``finetune``: a model and its images in; the same model, its backbone trained further, out."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ffe.backbones.keras_build import build
from ffe.backbones.trained import arrays_digest, is_model_file
from ffe.base.clock import OutOfTimeError
from ffe.base.urls import path_or_url
from ffe.bundle.io import Bundle
from ffe.dataset.assign_sides import ImageSplit
from ffe.dataset.class_checks import check_classes, check_counts, check_own_folder
from ffe.engines.factory import check_backbone
from ffe.errors import BundleError, DataError
from ffe.evaluation.comparison import compare
from ffe.evaluation.scores import evaluate_probabilities
from ffe.extraction.batch_size import check_batch
from ffe.extraction.stage_times import Progress
from ffe.finetuning.activation_cache import ActivationCache
from ffe.finetuning.base_model import BaseModel, open_base, prepare_model
from ffe.finetuning.epochs import Epoch
from ffe.finetuning.finish import learnt_head, learnt_spec, make_result, make_trainer, score_head, scores_as_before, write_trained
from ffe.finetuning.joined_model import JoinedModel, features_above
from ffe.finetuning.split_point import Cut, find_cut
from ffe.finetuning.trainer import Step, Trainer
from ffe.finetuning.training_options import FinetuneOptions
from ffe.finetuning.training_result import Stage, TrainingResult
from ffe.finetuning.unfreeze import count_stages, unfreeze_layers
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Truncated
from ffe.images.sources import scan
from ffe.report.finetune_page import write_training_report
from ffe.specs import AugmentSpec, TrainingSpec
from ffe.splits.holdout import TEST

if TYPE_CHECKING:
    import keras

log = logging.getLogger("ffe")


def finetune(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str],
    overwrite: bool = False,
    unfreeze: str | int | Sequence[str | int],
    epochs: str | int | Sequence[int] = 15,
    learning_rate: str | float | Sequence[float] = 1e-4,
    schedule: str = "constant",
    hold: int | None = None,
    optimizer: str = "adam",
    weight_decay: float = 0.0,
    dropout: float | None = None,
    batch_size: int = 32,
    patience: int = 5,
    batchnorm: bool = False,
    augment: str | AugmentSpec | None = None,
    views: int = 0,
    class_weights: str = "auto",
    valid_fraction: float = 0.2,
    split: Mapping[str, str] | None = None,
    budget: float | None = None,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    keep_cache: bool = False,
    weights: str = "imagenet",
    engine: str = "auto",
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    truncated: Truncated = "skip",
    report: str | os.PathLike[str] | None = None,
    anonymous: bool = False,
    tensorboard: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
    on_decoded: Callable[[int, int], None] = lambda done, total: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[Step], None] = lambda step: None,
) -> TrainingResult:
    """Train a model further, its backbone included, in stages that unfreeze more and more layers.

    The head of the model is the start. What stays frozen in a stage is computed
    once, by the extraction's engine, into a feature file in ``cache``; its
    epochs train the part above. With ``augment`` images differ in every epoch:
    they go through the frozen part each time, or, with ``views``, those of so
    many views of each are computed once and take turns.

    The images that tested the model test here too. Where the model had no
    validation images, a share of those that trained it validates from now on,
    and the head is fitted again without them before anything else: it has seen
    them. The weights of the epoch with the least validation loss are kept,
    those from before the first epoch included; the temperature is fitted anew
    on the validation images. Where no epoch is better than the start, the output
    is a copy of the model's file. Ctrl-C ends the training with the best weights
    so far, if they are better than the start; once more, it ends the call.

    Args:
        source: the images that the model was made from, with others if you like.
        output: the model file to write; with ``overwrite`` also that of ``model``.
        overwrite: replace a model that is there; see ``ffe.base.text.overwrite_refusal``.
        model: the model file to start from; its head consists of layers: dense,
            logistic, or a linear svm.
        unfreeze, epochs, learning_rate, schedule, hold, optimizer, weight_decay, dropout, batch_size,
            patience, batchnorm, augment, views, class_weights, valid_fraction, seed: see ``ffe.specs.TrainingSpec``;
            those of stages also as text, ``"6,19"``, or a single value, and ``augment`` as ``--augment`` takes it.
        split: digest of an image file -> ``train``, ``valid`` or ``test``; all other images are left out.
            None = the split of the model, as above.
        budget: about so many seconds, from the start of the call; the best weights so far are kept when they are
            over, also if that is while a later stage computes its activations. The activations of the first
            stage, one step, and what validates and tests go on all the same.
        cache: folder for the activations; None = beside the output.
        keep_cache: leave them there, for the next run. Else those that this run made go when it ends; they
            stay where it is interrupted or the disk is full, so that the same command goes on with them; beside
            the output they go when that one has succeeded.
        weights: where the backbone's weights are, if the model file has none that can be trained.
        engine, workers, max_pixels, max_bytes, truncated, progress: for the frozen part; see ``ffe.extract``.
        report: an HTML file to write.
        anonymous: see ``ffe.tune``.
        tensorboard: folder for TensorBoard's logs.
        on_decoded: called with how many images are decoded, of how many, where images change.
        on_epoch, on_step: called after every epoch, and every step.

    Raises:
        BundleError, HeadError, BackboneError, WeightsError, SourceError, ModelMismatchError, SpecError,
        StoreError, ReportError: before anything slow starts.
        DataError: a class has too few images, or none on one of the sides, or the loss is no number any more.
        KeyboardInterrupt: interrupted before an epoch was better than the start; nothing is written then.
    """
    options = FinetuneOptions.of(locals())
    _check_model(options.model, path_or_url(source))
    options.check_outputs(weights)
    base = open_base(options.model, weights)
    check_backbone(base.spec.backbone.name, engine, base.spec.precision)
    check_batch(batch_size, base.spec.preprocess.size)
    found = scan(source, options.output)
    manifest = base.bundle.manifest
    check_classes(found, manifest.class_names, str(model))
    check_counts(found)
    check_own_folder(options.folder, found, "cache", "--cache", "create it, or name another")
    activations = ActivationCache(options, found, manifest.class_names, base.spec, base.found)
    backbone = build(base.spec, base.found)
    plan = _plan(backbone, base, options.spec)
    activations.check_room([cut for _, cut in plan])
    untouched = arrays_digest(backbone)
    with activations.made.tidied(), options.logged() as logged:
        result, assigned, pooled = _train(base, backbone, plan, activations, logged)
    features = base.spec
    if arrays_digest(backbone) != untouched:
        features = learnt_spec(base.spec, "finetuned", backbone)
    elif features == manifest.spec:
        log.info("the backbone is as it was: features that it made before are good for the new model too")
    if anonymous:
        assigned = assigned.anonymous()
    if result.unchanged:
        base.bundle.copy(options.output)
        if anonymous:
            Bundle(options.output).replace_splits([])
    else:
        write_trained(result, backbone, features, base.to_json(), options.spec, assigned, manifest.reject)
    if pooled is not None:
        write_training_report(options, result, base.spec, assigned, pooled, manifest.reject)
    return dataclasses.replace(result, seconds=options.clock.elapsed)


def _check_model(model: Path, source: Path | str) -> None:
    """Make sure that the model is not the folder of the images; in a command the two are easily swapped."""
    if not model.is_dir():
        return
    if isinstance(source, Path) and source.is_file() and is_model_file(source.name):
        raise BundleError(
            f"'{model}' is a folder, and '{source}' a model file: they are swapped; "
            f"write 'ffe finetune {model} --from {source}', and what else you want."
        )
    raise BundleError(f"'{model}' is a folder; --from takes a model file (.ffe), such as 'ffe tune' writes.")


def _plan(backbone: keras.Model, base: BaseModel, spec: TrainingSpec) -> list[tuple[Stage, Cut]]:
    """Return what each stage trains, and where it is cut from the rest."""
    counts = count_stages(backbone, spec.unfreeze, base.spec.backbone.name)
    plan = []
    for number, (wanted, count) in enumerate(zip(spec.unfreeze, counts, strict=True), start=1):
        learning = unfreeze_layers(backbone, count, batchnorm=spec.batchnorm)
        cut = find_cut(backbone, learning, from_file=base.from_file)
        first = backbone.layers[-count].name if count else ""
        plan.append((Stage(number, wanted, count, first, len(learning), cut.layer), cut))
    return plan


def _train(
    base: BaseModel,
    backbone: keras.Model,
    plan: list[tuple[Stage, Cut]],
    activations: ActivationCache,
    options: FinetuneOptions,
) -> tuple[TrainingResult, ImageSplit, np.ndarray | None]:
    """Train all stages, and score; return also the pooled features of all images, float32 (N, C), where a page wants them."""
    trainer: Trainer | None = None
    for stage, cut in plan:
        if trainer is not None and trainer.interrupted:
            break
        if trainer is not None and options.clock.is_over:
            trainer.out_of_time = True
            break
        unfreeze_layers(backbone, stage.layers, batchnorm=options.spec.batchnorm)
        above = features_above(backbone, cut.layer)
        with contextlib.ExitStack() as lent:
            try:
                source = lent.enter_context(activations.rows(stage, cut, above, len(plan)))
            except OutOfTimeError:
                if trainer is None:
                    raise
                trainer.out_of_time = True
                log.info("the time was over before stage %d could learn, so the stages before it are the result", stage.number)
                break
            except KeyboardInterrupt:
                if trainer is None:
                    raise
                trainer.interrupt()
                break
            if trainer is None:
                model = prepare_model(base, activations.images, source, above, options)
                network = JoinedModel(backbone, model.start, options.spec.seed)
                trainer = make_trainer(options, model.assigned, model.class_weights)
            trainer.stage(stage.number, network.above(cut.layer), source)
            learnt = learnt_head(network, model.start, cut.layer, source, model.assigned, pooled=options.report is not None)
    assert trainer is not None
    assigned, before, names = model.assigned, model.before, base.bundle.manifest.class_names
    head, judged, together = learnt.head, score_head(learnt, assigned, names), assigned.together(TEST)
    was = None if before is None else evaluate_probabilities(before, assigned.labels(TEST), names, groups=together)
    comparison = None
    if trainer.improved:
        if before is not None:
            comparison = compare(judged.test, before, assigned.labels(TEST), groups=together)
    else:
        if before is None or was is None:
            raise DataError(
                f"No epoch was better than '{base.bundle.path}' was before, and it cannot be tested here; use it as it is."
            )
        head, judged = base.head, scores_as_before(judged, before, was, base.bundle.manifest.temperature)
    result = make_result(
        *(options, trainer, assigned, head, judged),
        stages=tuple(stage for stage, _ in plan[: trainer.epochs[-1].stage]),
        before=was,
        comparison=comparison,
        classes=names,
        skipped=activations.skipped,
        reused=activations.reused,
        unchanged=not trainer.improved,
    )
    return result, assigned, learnt.pooled
