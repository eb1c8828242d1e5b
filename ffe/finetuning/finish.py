"""What ``finetune`` and ``scratch`` do alike when the training is over: score what came of it, and write the model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffe.backbones.trained import arrays_digest
from ffe.backbones.weights import Weights
from ffe.base.feature_layout import FeatureLayout
from ffe.base.model_archive import BACKBONE
from ffe.base.text import counted
from ffe.bundle.build import library_versions, write_model
from ffe.bundle.io import SplitRow
from ffe.bundle.manifest import Manifest
from ffe.dataset.assign_sides import ImageSplit
from ffe.engines.devices import predicted
from ffe.evaluation.scores import Evaluation, evaluate_probabilities
from ffe.evaluation.temperature import calibrate, with_temperature
from ffe.finetuning.head_layers import WarmStart
from ffe.finetuning.joined_model import JoinedModel, features_above
from ffe.finetuning.prefetch import BatchSource, batches
from ffe.finetuning.trainer import Trainer
from ffe.finetuning.training_options import TrainingOptions
from ffe.finetuning.training_result import HeadScores, TrainingResult
from ffe.heads.base import Head
from ffe.heads.transform import averaged
from ffe.specs import ExtractSpec, HeadSpec, TrainingSpec, WeightsKind, spec_digest
from ffe.splits.holdout import TEST, TRAIN, VALID

if TYPE_CHECKING:
    import keras


_BATCH = 64


def make_trainer(options: TrainingOptions, assigned: ImageSplit, weights: np.ndarray) -> Trainer:
    """Return what trains on images that have their sides, whose classes count as much as ``weights`` float64 (K,) say."""
    sides = assigned.rows(TRAIN), assigned.rows(VALID)
    return Trainer(options.spec, assigned.images.labels, weights, *sides, options.clock, options.on_epoch, options.on_step)


def features_of(model: keras.Model | None, source: BatchSource, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows, features float32 (n, D)) of rows int64 (N,), batch by batch; without a model, the source gives features."""
    for some, x in batches(source, rows, _BATCH):
        found = x if model is None else predicted(model, x)
        yield some, np.ascontiguousarray(found.reshape(len(some), -1), np.float32)


def probabilities_of(head: Head, model: keras.Model | None, source: BatchSource, rows: np.ndarray) -> np.ndarray:
    """Return what a head says of rows, before a temperature: float64 (N, K)."""
    return np.concatenate([head.predict_proba(features) for _, features in features_of(model, source, rows)])


@dataclass(frozen=True, eq=False)
class LearntHead:
    """A head after a training, and what it says through the backbone as that is now."""

    head: Head  # apart from its backbone
    # valid, test: probabilities of those images, before a temperature, float64 (n, K), in the order of the images
    valid: np.ndarray
    test: np.ndarray
    # features of all N images, averaged over their places, float32 (N, c), 0 where there is no label; None = nobody asked
    pooled: np.ndarray | None


def learnt_head(
    network: JoinedModel, start: WarmStart, layer: str, source: BatchSource, assigned: ImageSplit, *, pooled: bool
) -> LearntHead:
    """Return the head of a network as it is now, with what it says of the images that a source gives at a layer."""
    head, above = start.head(network.head_layers()), features_above(network.backbone, layer)
    valid, test = (probabilities_of(head, above, source, assigned.rows(side)) for side in (VALID, TEST))
    if not pooled:
        return LearntHead(head, valid, test, None)
    layout, labels = start.map.layout, assigned.images.labels
    means = np.zeros((len(labels), layout.channels), np.float32)
    for rows, features in features_of(above, source, np.flatnonzero(labels >= 0)):
        means[rows] = averaged(features, layout)
    return LearntHead(head, valid, test, means)


def score_head(learnt: LearntHead, assigned: ImageSplit, names: Sequence[str]) -> HeadScores:
    """Fit the temperature on the validation images, and score the test images; ``names`` are those of the classes."""
    calibration = calibrate(learnt.valid, assigned.labels(VALID), groups=assigned.ids[assigned.rows(VALID)])
    answers = with_temperature(learnt.test, calibration.factor)
    evaluation = evaluate_probabilities(answers, assigned.labels(TEST), names, groups=assigned.together(TEST))
    tested = tuple(assigned.images.sha256[i] for i in assigned.rows(TEST))
    return HeadScores(calibration, evaluation, learnt.valid, answers, tested)


def scores_as_before(judged: HeadScores, test: np.ndarray, evaluation: Evaluation, factor: float) -> HeadScores:
    """Return what is known of a model that no training made better, from what it says of the ``test`` images, float64 (m, K).

    ``judged`` are the layers that the training started from, with the model's temperature, ``factor``, in them: they say of the
    validation images what the model would say that had not seen them.
    """
    start = judged.calibration
    kept = replace(start, factor=factor, error_after=start.error_before, log_loss_after=start.log_loss_before, after=start.before)
    return replace(judged, calibration=kept, evaluation=evaluation, valid=with_temperature(judged.valid, 1 / factor), test=test)


def make_result(
    options: TrainingOptions, trainer: Trainer, assigned: ImageSplit, head: Head, judged: HeadScores, **more: Any
) -> TrainingResult:
    """Return what a training came to; ``more`` is known to the caller."""
    return TrainingResult(
        output=options.output,
        head=head,
        epochs=tuple(trainer.epochs),
        judged=judged,
        class_weights=None if np.allclose(trainer.weights, 1) else tuple(trainer.weights.tolist()),
        rows=assigned.counts(),
        seconds=options.clock.elapsed,
        ended_early=trainer.ended_early,
        interrupted=trainer.interrupted,
        **more,
    )


def learnt_spec(was: ExtractSpec, kind: WeightsKind, backbone: keras.Model) -> ExtractSpec:
    """Return what makes the features of a backbone that was trained; the weights in ``was`` do not count."""
    return replace(was, backbone=replace(was.backbone, weights=kind, weights_sha256=arrays_digest(backbone)))


def write_trained(
    result: TrainingResult,
    backbone: keras.Model,
    features: ExtractSpec,
    base: Mapping[str, Any],
    spec: TrainingSpec,
    assigned: ImageSplit,
    reject: float = 0.0,
    test_fraction: float | None = None,
) -> None:
    """Write a model whose backbone was trained, and makes ``features`` now.

    ``base`` is what the model was before, empty = there was none; ``test_fraction`` None = the sides are those of that one.
    """
    asked = {} if test_fraction is None else {"test_fraction": test_fraction}
    learnt = result.to_json()
    manifest = Manifest(
        libraries=library_versions(),
        spec=features,
        spec_digest=spec_digest(features),
        layout=FeatureLayout.of_shape(backbone.output_shape[1:]),
        head=HeadSpec(result.head.name, result.head.parameters),
        class_names=result.classes,
        evaluation=learnt["evaluation"],
        search={"rows": result.rows, "validation": counted(result.rows["valid"], "validation row"), "seed": spec.seed, **asked},
        calibration=learnt["calibration"],
        reject=reject,
        views={"count": spec.views, "augment": spec.to_json()["augment"], "used": "epoch"} if spec.views else None,
        training={
            "kind": "finetuned" if base else "scratch",
            "base": dict(base),
            "options": spec.to_json(),
            **{name: learnt[name] for name in ("stages", "history", "best", "before", "comparison", "class_weights", "seconds")},
        },
    )
    images = assigned.images
    listed = [i for i in np.flatnonzero(images.labels >= 0) if images.sha256[i]]  # anonymous ones have no digests
    splits = [SplitRow(images.paths[i], images.sha256[i], str(assigned.side[i])) for i in listed]
    with tempfile.TemporaryDirectory(prefix="ffe-trained-") as folder:
        file = Path(folder) / BACKBONE
        backbone.trainable = False
        backbone.save(file)
        found = Weights(features.backbone.weights, features.backbone.weights_sha256, file)
        write_model(result.output, manifest, result.head, splits, [found])
