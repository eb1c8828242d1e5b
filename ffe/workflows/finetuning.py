"""``finetune``: a model and its images in; the same model, its backbone trained further, out."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ffe.arrays import empty_rows
from ffe.backbones.build import build
from ffe.backbones.catalog import FAKE
from ffe.backbones.learnt import BACKBONE, find_in_model
from ffe.backbones.weights import Weights
from ffe.bundle.io import Bundle
from ffe.engines.choose import check_engine
from ffe.errors import BackboneError, DataError, StoreError
from ffe.evaluation.calibration import calibrate, with_temperature
from ffe.evaluation.comparison import compare
from ffe.evaluation.scores import evaluate_probabilities
from ffe.evaluation.weights import class_weights as weights_of_classes
from ffe.extraction.plan import weights_of
from ffe.extraction.stages import Progress
from ffe.finetuning.batches import Source
from ffe.finetuning.cut import Cut, check_growing, count_unfrozen, find_cut
from ffe.finetuning.cut import unfreeze as unfreeze_layers
from ffe.finetuning.history import Epoch, TensorBoardLog
from ffe.finetuning.network import Network, features_above
from ffe.finetuning.train import Clock, Step, Trainer
from ffe.finetuning.warm_start import WarmStart, check_head, warm_start
from ffe.heads import find_head
from ffe.heads.base import Head
from ffe.heads.feature_map import pooled_dims
from ffe.images.scan import Scan, scan
from ffe.report.page import check_output as check_report
from ffe.specs import AugmentSpec, ExtractSpec, TrainingSpec
from ffe.splits.groups import Groups, find_groups
from ffe.splits.sides import TEST, TRAIN
from ffe.workflows.photos import VALID, Photos, check_classes, sides_as_before
from ffe.workflows.stage_inputs import StageInputs
from ffe.workflows.training import (
    Stage,
    TrainingResult,
    counts_of,
    features_of,
    ids_of,
    judge,
    pooled_of,
    probabilities_of,
    together,
    write_trained,
)
from ffe.workflows.training_report import write_training_report
from ffe.workflows.writing import check_place

if TYPE_CHECKING:
    import keras

log = logging.getLogger("ffe")


@dataclass(frozen=True)
class _Model:
    """The model that is fine-tuned.

    Attributes:
        bundle: its file.
        head: its head.
        spec: of its features, in float32.
        found: where its backbone is.
    """

    bundle: Bundle
    head: Head
    spec: ExtractSpec
    found: Weights

    @property
    def from_file(self) -> bool:
        """Whether the backbone is read from a file as a whole, and not built."""
        return self.found.path is not None and self.found.path.suffix == ".ffe"


@dataclass(frozen=True, eq=False)
class _Ready:
    """What is known before the first step.

    Attributes:
        side: str (N,), of each image.
        groups: which of the images that have labels belong together.
        ids: int64 (N,), equal for images that belong together.
        start: the layers to start from.
        before: what the model says of the test images, float64 (n, K).
        class_weights: float64 (K,).
    """

    side: np.ndarray
    groups: Groups
    ids: np.ndarray
    start: WarmStart
    before: np.ndarray
    class_weights: np.ndarray


def finetune(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str],
    unfreeze: Sequence[str],
    epochs: Sequence[int] = (15,),
    learning_rate: Sequence[float] = (1e-4,),
    schedule: str = "constant",
    hold: int = 10,
    optimizer: str = "adam",
    weight_decay: float = 0.0,
    dropout: float | None = None,
    batch_size: int = 32,
    patience: int = 5,
    batchnorm: bool = False,
    augment: AugmentSpec | None = None,
    class_weights: str = "auto",
    valid_fraction: float = 0.2,
    budget: float | None = None,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
    keep_cache: bool = False,
    weights: str = "imagenet",
    engine: str = "auto",
    workers: int | None = None,
    report: str | os.PathLike[str] | None = None,
    tensorboard: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[Step], None] = lambda step: None,
) -> TrainingResult:
    """Train a model further, its backbone included, in stages that unfreeze more and more layers.

    The head of the model is the start. What stays frozen in a stage is computed
    once, by the extraction's engine, into a feature file in ``cache``; its
    epochs train the part above. With ``augment`` images differ in every epoch,
    so there is nothing to keep: they go through the frozen part each time.

    The images that tested the model test here too. Where the model had no
    validation images, a share of those that trained it validates from now on,
    and the head is fitted again without them before anything else: it has seen
    them. The weights of the epoch with the least validation loss are kept,
    those from before the first epoch included; the temperature is fitted anew
    on the validation images.

    Args:
        source: the images that the model was made from, with others if you like.
        output: the model file to write.
        model: the model file to start from; its head consists of layers: dense,
            logistic, or a linear svm.
        unfreeze, epochs, learning_rate, schedule, hold, optimizer, weight_decay, dropout, batch_size,
            patience, batchnorm, augment, class_weights, valid_fraction, seed: see ``ffe.specs.TrainingSpec``.
        budget: seconds, from the start of the call; the best weights so far are kept when they are over.
        cache: folder for the activations; None = beside the output.
        keep_cache: leave them there, for the next run.
        weights: where the backbone's weights are, if the model file has none that can be trained.
        engine, workers, progress: for the frozen part; see ``ffe.extract``.
        report: an HTML file to write.
        tensorboard: folder for TensorBoard's logs.
        on_epoch, on_step: called after every epoch, and every step.

    Raises:
        BundleError, HeadError, BackboneError, WeightsError, SourceError, ModelMismatchError, SpecError,
        StoreError, ReportError: before anything slow starts.
        DataError: a class has no images on one of the sides, or the loss is no number any more.
    """
    started = time.monotonic()
    spec = TrainingSpec(
        unfreeze=tuple(unfreeze),
        epochs=tuple(epochs),
        learning_rate=tuple(learning_rate),
        schedule=schedule,  # type: ignore[arg-type]
        hold=hold,
        optimizer=optimizer,  # type: ignore[arg-type]
        weight_decay=weight_decay,
        dropout=dropout,
        batch_size=batch_size,
        patience=patience,
        batchnorm=batchnorm,
        class_weights=class_weights,  # type: ignore[arg-type]
        valid_fraction=valid_fraction,
        seconds=budget,
        seed=seed,
        augment=augment,
    )
    place = Path(output)
    base = _open_model(Path(model), weights)
    check_engine(engine)
    check_place(place)
    if report is not None:
        check_report(Path(report))
    folder = Path(cache) if cache is not None else place.with_name(place.name + ".cache")
    found = scan(source, place)
    names = base.bundle.manifest.class_names
    check_classes(found, names, str(model))
    _check_folder(folder, found)
    inputs = StageInputs(Path(source), found, names, base.spec, base.found, folder, augment, engine, workers, progress)
    backbone = build(base.spec, base.found)
    plan = _plan(backbone, base, spec)
    inputs.check_room([cut for _, cut in plan])
    with contextlib.ExitStack() as stack:
        board = None if tensorboard is None else stack.enter_context(TensorBoardLog(Path(tensorboard)))

        def told(epoch: Epoch) -> None:
            if board is not None:
                board.add(epoch)
            on_epoch(epoch)

        page = None if report is None else Path(report)
        result = _train(base, backbone, plan, inputs, spec, place, started, told, on_step, page)
    if not keep_cache:
        inputs.forget()
    return dataclasses.replace(result, seconds=time.monotonic() - started)


def _open_model(path: Path, weights: str) -> _Model:
    """Open the model to start from, and find a backbone of it that can be trained."""
    bundle = Bundle(path)
    head = bundle.head()
    check_head(head, str(path))
    spec = bundle.manifest.spec
    if spec.backbone.name == FAKE:
        raise BackboneError(f"The backbone of '{path}' is the fake one for tests, which has no layers; choose another model.")
    trainable = dataclasses.replace(spec, precision="float32", quantized_sha256=None)
    if BACKBONE in bundle.manifest.members and spec.precision == "float32":
        return _Model(bundle, head, trainable, find_in_model(path).weights)
    return _Model(bundle, head, trainable, weights_of(trainable, weights))


def _check_folder(folder: Path, found: Scan) -> None:
    """Make sure that activations may lie in a folder, and that it is no folder of images."""
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"The cache '{folder}' is a file; name a folder with --cache.")
    if not folder.parent.is_dir():
        raise StoreError(
            f"The cache '{folder}' lies in a folder that does not exist ('{folder.parent}'); create it, or name another."
        )
    if found.kind != "csv" and os.path.realpath(folder).startswith(os.path.realpath(found.root) + os.sep):
        raise StoreError(f"The cache '{folder}' lies among the images of '{found.root}'; name another folder with --cache.")


def _plan(backbone: keras.Model, base: _Model, spec: TrainingSpec) -> list[tuple[Stage, Cut]]:
    """Return what each stage trains, and where it is cut from the rest."""
    counts = [count_unfrozen(backbone, wanted, base.spec.backbone.name) for wanted in spec.unfreeze]
    check_growing(spec.unfreeze, counts)
    plan = []
    for number, (wanted, count) in enumerate(zip(spec.unfreeze, counts, strict=True), start=1):
        learning = unfreeze_layers(backbone, count, batchnorm=spec.batchnorm)
        cut = find_cut(backbone, learning, from_file=base.from_file)
        first = backbone.layers[-count].name if count else ""
        plan.append((Stage(number, wanted, count, first, len(learning), cut.layer), cut))
    return plan


def _train(
    base: _Model,
    backbone: keras.Model,
    plan: list[tuple[Stage, Cut]],
    inputs: StageInputs,
    spec: TrainingSpec,
    output: Path,
    started: float,
    on_epoch: Callable[[Epoch], None],
    on_step: Callable[[Step], None],
    page: Path | None,
) -> TrainingResult:
    """Train all stages, judge, and write the model, and its page."""
    manifest = base.bundle.manifest
    names = manifest.class_names
    clock = Clock(started, spec.seconds)
    trainer: Trainer | None = None
    photos: Photos
    for stage, cut in plan:
        if trainer is not None and clock.is_over:
            break
        unfreeze_layers(backbone, stage.layers, batchnorm=spec.batchnorm)
        above = features_above(backbone, cut.layer)
        with inputs.rows(stage, cut, above, len(plan)) as source:
            photos = inputs.met
            if trainer is None:
                ready = _prepare(base, photos, source, above, spec)
                network = Network(backbone, ready.start, spec.seed)
                train, valid = (np.flatnonzero(ready.side == side) for side in (TRAIN, VALID))
                weights = ready.class_weights[np.maximum(photos.labels, 0)]
                trainer = Trainer(spec, photos.labels, weights, train, valid, clock, on_epoch, on_step)
            trainer.stage(stage.number, network.above(cut.layer), source)
            head = ready.start.head(network.head_layers())
            above = features_above(backbone, cut.layer)
            said = {side: probabilities_of(head, above, source, np.flatnonzero(ready.side == side)) for side in (VALID, TEST)}
            if page is not None:
                used = np.flatnonzero(photos.labels >= 0)
                pooled = pooled_of(above, source, used, manifest.grid, len(photos))
    assert trainer is not None
    judged = judge(said[VALID], said[TEST], photos, ready.side, ready.ids, names)
    testing = ready.side == TEST
    labels, groups = photos.labels[testing], together(ready.ids[testing])
    before = evaluate_probabilities(ready.before, labels, names, groups=groups)
    comparison = compare(judged.test, ready.before, labels, groups=groups)
    result = TrainingResult(
        output=output,
        head=head,
        stages=tuple(stage for stage, _ in plan[: trainer.epochs[-1].stage]),
        epochs=tuple(trainer.epochs),
        evaluation=judged.evaluation,
        calibration=judged.calibration,
        before=before,
        comparison=comparison,
        class_weights=None if np.allclose(ready.class_weights, 1) else tuple(ready.class_weights.tolist()),
        rows=counts_of(ready.side),
        skipped=inputs.skipped,
        seconds=time.monotonic() - started,
        classes=names,
    )
    was = {**manifest.spec.backbone.to_json(), "precision": manifest.spec.precision, "head": manifest.head.name}
    write_trained(result, backbone, base.spec, "finetuned", was, spec, photos, ready.side)
    if page is not None:
        text = str(inputs.source)
        write_training_report(page, result, base.spec, spec, photos, ready.side, ready.groups, judged, pooled, text)
    return result


def _prepare(base: _Model, photos: Photos, source: Source, above: keras.Model | None, spec: TrainingSpec) -> _Ready:
    """Look at all images once, through the model as it is: who belongs together, who trains, and where the head starts."""
    manifest, head = base.bundle.manifest, base.head
    used = np.flatnonzero(photos.labels >= 0)
    height, width, channels = manifest.grid
    mapped = empty_rows(len(photos), pooled_dims(head.map.pooling, manifest.grid))
    pooled = np.empty((len(photos), channels), np.float32)
    for rows, features in features_of(above, source, used):
        mapped[rows] = head.map.rowwise(features)
        pooled[rows] = features.reshape(len(rows), height * width, channels).mean(axis=1)
    phash, named = photos.phash[used], [photos.named[i] for i in used]
    groups = find_groups([photos.sha256[i] for i in used], phash, pooled[used], named)
    known = {row.sha256: row.split for row in sorted(base.bundle.splits(), key=lambda row: row.split == TEST)}
    side = sides_as_before(photos, groups, known, spec.valid_fraction, spec.seed, manifest.class_names)
    ids = ids_of(photos, groups)
    train, valid, test = (np.flatnonzero(side == name) for name in (TRAIN, VALID, TEST))
    weights = weights_of_classes(spec.class_weights, photos.labels[train], len(manifest.class_names))
    before = with_temperature(head.proba_rowwise(mapped[test]), manifest.temperature)
    factor = manifest.temperature
    seen = [i for i in valid if known.get(photos.sha256[i]) != VALID]
    if seen or manifest.spec.precision != "float32":
        head = _without(head, mapped[train], photos.labels[train], base, spec.seed, None if np.allclose(weights, 1) else weights)
        factor = calibrate(head.proba_rowwise(mapped[valid]), photos.labels[valid], groups=ids[valid]).factor
        log.info(
            "the head has seen the %d images that validate, so it is fitted again without them, on %d images",
            len(seen),
            len(train),
        )
    return _Ready(side, groups, ids, warm_start(head, factor, spec.dropout, mapped[train]), before, weights)


def _without(head: Head, x: np.ndarray, labels: np.ndarray, base: _Model, seed: int, weights: np.ndarray | None) -> Head:
    """Fit a head again, with the same parameters, on other rows."""
    manifest = base.bundle.manifest
    if manifest.training:
        raise DataError(
            f"'{base.bundle.path}' was trained as a whole, and none of the images that validated it is here; "
            "give the images that it was made from."
        )
    kind = find_head(head.name)
    return kind(head.parameters, manifest.grid).fit_rowwise(
        x, labels, len(manifest.class_names), seed=seed, class_weights=weights
    )
