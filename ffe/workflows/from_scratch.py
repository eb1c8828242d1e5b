"""``scratch``: labelled images in, a small network that learnt from nothing else out."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ffe.backbones.catalog import CONVNET
from ffe.engines.base import grid_of
from ffe.errors import DataError, SourceError
from ffe.evaluation.weights import class_weights as weights_of_classes
from ffe.finetuning.convnet import DROPOUT, build_convnet, first_head
from ffe.finetuning.cut import ALL
from ffe.finetuning.history import Epoch, TensorBoardLog
from ffe.finetuning.network import Network, features_above
from ffe.finetuning.sources import Pictures, views_of
from ffe.finetuning.train import Clock, Step, Trainer
from ffe.images.scan import Scan, scan
from ffe.report.page import check_output as check_report
from ffe.specs import AugmentSpec, BackboneSpec, Decode, ExtractSpec, PreprocessSpec, TrainingSpec
from ffe.splits.groups import find_groups
from ffe.splits.sides import TEST, TRAIN
from ffe.workflows.photos import VALID, photos_of_files, sides_anew
from ffe.workflows.training import Stage, TrainingResult, counts_of, ids_of, judge, pooled_of, probabilities_of, write_trained
from ffe.workflows.training_report import write_training_report
from ffe.workflows.writing import check_place

# chapter 5.2 of Chollet 2017 (Deep Learning with Python)
AUGMENT = AugmentSpec(flip=True, zoom=(0.8, 1.2), rotate=40, shift=0.2, shear=0.2)


def scratch(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] = 150,
    plain: bool = False,
    augment: AugmentSpec | None = AUGMENT,
    epochs: Sequence[int] = (30,),
    learning_rate: Sequence[float] = (1e-4,),
    schedule: str = "constant",
    hold: int = 10,
    optimizer: str = "rmsprop",
    weight_decay: float = 0.0,
    batch_size: int = 20,
    patience: int = 0,
    class_weights: str = "auto",
    valid_fraction: float = 0.2,
    test_fraction: float = 0.2,
    budget: float | None = None,
    seed: int = 0,
    decode: Decode = "exact",
    workers: int | None = None,
    report: str | os.PathLike[str] | None = None,
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
        source: labelled images; see ``ffe.images.scan``.
        output: the model file to write.
        size: input side, or (height, width), in pixels, at least 46.
        plain: neither dropout nor changing images.
        augment: how images change; None = they do not.
        epochs, learning_rate, schedule, hold, optimizer, weight_decay, batch_size, patience, class_weights,
            valid_fraction, seed: see ``ffe.specs.TrainingSpec``; there is one stage.
        test_fraction: share held out for the test, where no split is given.
        budget: seconds, from the start of the call; the best weights so far are kept when they are over.
        decode: ``exact`` or ``fast``; see ``ffe.images.fast``.
        workers: threads that decode; None = one per core, more where files come slowly.
        report: an HTML file to write.
        tensorboard: folder for TensorBoard's logs.
        on_decoded: called with how many images are decoded, of how many.
        on_epoch, on_step: called after every epoch, and every step.

    Raises:
        SourceError, BackboneError, SpecError, BundleError, ReportError: before anything slow starts.
        DataError: a class has too few images, or the loss is no number any more.
    """
    started = time.monotonic()
    spec = TrainingSpec(
        unfreeze=(ALL,),
        epochs=tuple(epochs),
        learning_rate=tuple(learning_rate),
        schedule=schedule,  # type: ignore[arg-type]
        hold=hold,
        optimizer=optimizer,  # type: ignore[arg-type]
        weight_decay=weight_decay,
        dropout=0.0 if plain else DROPOUT,
        batch_size=batch_size,
        patience=patience,
        class_weights=class_weights,  # type: ignore[arg-type]
        valid_fraction=valid_fraction,
        seconds=budget,
        seed=seed,
        augment=None if plain else augment,
    )
    place = Path(output)
    check_place(place)
    if report is not None:
        check_report(Path(report))
    found = scan(source, place)
    _check_classes(found)
    preprocess = PreprocessSpec((size, size) if isinstance(size, int) else size, "none", decode=decode)
    backbone = build_convnet(preprocess.size, seed)
    pixels, photos, skipped = photos_of_files(found, found.class_names, preprocess, workers, on_decoded)
    used = np.flatnonzero(photos.labels >= 0)
    groups = find_groups([photos.sha256[i] for i in used], photos.phash[used], names=[photos.named[i] for i in used])
    side = sides_anew(photos, groups, test_fraction, valid_fraction, seed, found.class_names)
    train, valid, test = (np.flatnonzero(side == name) for name in (TRAIN, VALID, TEST))
    weights = weights_of_classes(spec.class_weights, photos.labels[train], len(found.class_names))
    start = first_head(grid_of(backbone.output_shape[1:]), len(found.class_names), spec.dropout or 0.0, seed)
    network = Network(backbone, start, seed)
    with contextlib.ExitStack() as stack:
        board = None if tensorboard is None else stack.enter_context(TensorBoardLog(Path(tensorboard)))

        def told(epoch: Epoch) -> None:
            if board is not None:
                board.add(epoch)
            on_epoch(epoch)

        rows = weights[np.maximum(photos.labels, 0)]
        trainer = Trainer(spec, photos.labels, rows, train, valid, Clock(started, budget), told, on_step)
        pictures = stack.enter_context(contextlib.closing(Pictures(pixels, photos.sha256, "none", views_of(spec.augment))))
        trainer.stage(1, network.above(""), pictures)
        head, above = start.head(network.head_layers()), features_above(backbone, "")
        said = [probabilities_of(head, above, pictures, some) for some in (valid, test)]
        if report is not None:
            pooled = pooled_of(above, pictures, used, start.map.grid, len(photos))
    judged = judge(said[0], said[1], photos, side, ids_of(photos, groups), found.class_names)
    result = TrainingResult(
        output=place,
        head=head,
        stages=(Stage(1, ALL, len(backbone.layers), backbone.layers[0].name, 4, ""),),
        epochs=tuple(trainer.epochs),
        evaluation=judged.evaluation,
        calibration=judged.calibration,
        before=None,
        comparison=None,
        class_weights=None if np.allclose(weights, 1) else tuple(weights.tolist()),
        rows=counts_of(side),
        skipped=skipped,
        seconds=time.monotonic() - started,
        classes=found.class_names,
    )
    features = ExtractSpec(BackboneSpec(CONVNET, "scratch", ""), preprocess)
    write_trained(result, backbone, features, "scratch", {}, spec, photos, side)
    if report is not None:
        write_training_report(Path(report), result, features, spec, photos, side, groups, judged, pooled, str(source))
    return dataclasses.replace(result, seconds=time.monotonic() - started)


def _check_classes(found: Scan) -> None:
    if not found.class_names:
        raise SourceError(f"The images of '{found.root}' have no labels; give one folder per class, or a CSV with labels.")
    if len(found.class_names) < 2:
        raise DataError(
            f"All images of '{found.root}' are of one class ('{found.class_names[0]}'); a network needs at least two classes."
        )
