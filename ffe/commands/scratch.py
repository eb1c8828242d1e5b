"""``scratch``: labelled images in, a small network that learnt from nothing else out."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ffe.backbones.catalog import CONVNET
from ffe.backbones.convnet import FILTERS, build_convnet, check_size
from ffe.base.feature_layout import FeatureLayout
from ffe.bundle.build import tested_before
from ffe.dataset.assign_sides import Splitter
from ffe.dataset.class_checks import check_counts, check_labelled, check_two_classes
from ffe.dataset.table import table_of_files
from ffe.evaluation.class_weights import class_weights as weights_of_classes
from ffe.finetuning.epochs import Epoch
from ffe.finetuning.finish import learnt_head, learnt_spec, make_result, make_trainer, score_head, write_trained
from ffe.finetuning.head_layers import first_head
from ffe.finetuning.inputs import DecodedImages
from ffe.finetuning.joined_model import JoinedModel
from ffe.finetuning.trainer import Step
from ffe.finetuning.training_options import ScratchOptions
from ffe.finetuning.training_result import Stage, TrainingResult
from ffe.finetuning.unfreeze import ALL
from ffe.images.augment_text import SCRATCH
from ffe.images.limits import MAX_BYTES, MAX_PIXELS, Truncated
from ffe.images.sources import scan
from ffe.report.finetune_page import write_training_report
from ffe.specs import AugmentSpec, BackboneSpec, Decode, ExtractSpec, PreprocessSpec
from ffe.splits.groups import find_groups
from ffe.splits.holdout import TRAIN

log = logging.getLogger("ffe")


def scratch(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    size: int | tuple[int, int] = 150,
    plain: bool = False,
    augment: str | AugmentSpec | None = SCRATCH,
    epochs: str | int | Sequence[int] = 30,
    learning_rate: str | float | Sequence[float] = 1e-4,
    schedule: str = "constant",
    hold: int | None = None,
    optimizer: str = "rmsprop",
    weight_decay: float = 0.0,
    batch_size: int = 20,
    patience: int = 0,
    class_weights: str = "auto",
    valid_fraction: float = 0.2,
    test_fraction: float = 0.2,
    split: Mapping[str, str] | None = None,
    budget: float | None = None,
    seed: int = 0,
    decode: Decode = "exact",
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    truncated: Truncated = "skip",
    report: str | os.PathLike[str] | None = None,
    anonymous: bool = False,
    tensorboard: str | os.PathLike[str] | None = None,
    on_decoded: Callable[[int, int], None] = lambda done, total: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[Step], None] = lambda step: None,
) -> TrainingResult:
    """Train a small convolutional network on images alone, without pretrained weights.

    Four convolutions, a dense layer of 512 units, and dropout before it; images
    are decoded once, and change in every epoch. The model is an ordinary one:
    the convolutions are its backbone, the dense layers its head.

    Args:
        source: labelled images; see ``ffe.images.sources``.
        size: input side, or (height, width), in pixels, at least 46.
        plain: neither dropout nor changing images.
        augment: how images change, also as ``--augment`` takes it; None = they do not.
        output, overwrite, report, anonymous, tensorboard, on_decoded, on_epoch, on_step: see ``ffe.finetune``.
        epochs, learning_rate, schedule, hold, optimizer, weight_decay, batch_size, patience, class_weights,
            valid_fraction, seed: see ``ffe.specs.TrainingSpec``; there is one stage.
        test_fraction: share held out for the test, where the source gives none.
        split: as for ``ffe.finetune``; None = what the source gives, or a choice by content.
        budget: as for ``ffe.finetune``; decoding, one step, and what validates and tests go on all the same.
        decode: ``exact`` or ``fast``; see ``ffe.images.decode_fast``.
        workers: threads that decode; None = one per core, more where files come slowly.
        max_pixels, max_bytes, truncated: files with more, or cut off, are skipped; see ``ffe.images.limits``.

    Raises:
        SourceError, BackboneError, SpecError, BundleError, ReportError: before anything slow starts.
        DataError: a class has too few images, or the loss is no number any more.
        KeyboardInterrupt: interrupted before an epoch was better than the start. Later, the best weights are kept.
    """
    options = ScratchOptions.of(locals())
    spec = options.spec
    options.check_outputs()
    preprocess = PreprocessSpec((size, size) if isinstance(size, int) else size, "none", decode=decode)
    check_size(preprocess.size, batch_size)
    found = scan(source, options.output)
    check_labelled(found.class_names, found.root)
    check_two_classes(found.class_names, f"images of '{found.root}'", "; a network needs at least two classes.")
    check_counts(found)
    backbone = build_convnet(preprocess.size, seed)
    names = found.class_names
    pixels, table, skipped = table_of_files(found, names, preprocess, options.limits, workers, on_decoded)
    labelled = table.take(np.flatnonzero(table.labels >= 0))
    groups = find_groups(labelled.sha256, labelled.phash, names=labelled.named)
    tested = tested_before(options.output, seed, test_fraction)
    assigned = Splitter(names, valid_fraction, seed, split).split_anew(table, groups, test_fraction, tested=tested)
    weights = weights_of_classes(spec.class_weights, assigned.labels(TRAIN), len(names))
    start = first_head(FeatureLayout.of_shape(backbone.output_shape[1:]), len(names), spec.dropout or 0.0, seed)
    network = JoinedModel(backbone, start, seed)
    images = DecodedImages(pixels, table.sha256, "none", spec.augment)
    with contextlib.closing(images), options.logged() as logged:
        trainer = make_trainer(logged, assigned, weights)
        trainer.stage(1, network.above(""), images)
        learnt = learnt_head(network, start, "", images, assigned, pooled=options.report is not None)
    if not trainer.improved:
        log.warning(
            "no epoch was better than the untrained network, so it has learnt nothing and answers as by chance; give it %s",
            "more time with --budget" if trainer.out_of_time else "more --epochs, or more photos",
        )
    stage = Stage(1, ALL, len(backbone.layers), backbone.layers[0].name, len(FILTERS), "")
    judged = score_head(learnt, assigned, names)
    result = make_result(options, trainer, assigned, learnt.head, judged, stages=(stage,), classes=names, skipped=skipped)
    features = learnt_spec(ExtractSpec(BackboneSpec(CONVNET, "scratch", ""), preprocess), "scratch", backbone)
    if anonymous:
        assigned = assigned.anonymous()
    write_trained(result, backbone, features, {}, spec, assigned, test_fraction=test_fraction)
    if learnt.pooled is not None:
        write_training_report(options, result, features, assigned, learnt.pooled)
    return dataclasses.replace(result, seconds=options.clock.elapsed)
