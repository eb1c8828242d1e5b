"""What ``finetune`` and ``scratch`` do alike: tell of the training, judge what came of it, and write the model."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffe._version import __version__
from ffe.backbones.trained import arrays_digest
from ffe.backbones.weights import Weights
from ffe.base.clock import Clock
from ffe.base.model_archive import BACKBONE
from ffe.base.text import counted
from ffe.bundle import manifest as layout
from ffe.bundle.build import check_page, check_place, library_versions, write_model
from ffe.bundle.io import SplitRow
from ffe.bundle.manifest import Manifest
from ffe.dataset.assign import ImageSplit
from ffe.engines.base import grid_of
from ffe.errors import ReportError
from ffe.evaluation.scores import Evaluation, evaluate_probabilities
from ffe.evaluation.temperature import calibrate, with_temperature
from ffe.finetuning.epochs import Epoch, TensorBoardLog
from ffe.finetuning.prefetch import BatchSource, batches
from ffe.finetuning.trainer import Step, Trainer
from ffe.finetuning.training_result import HeadScores, TrainingResult
from ffe.heads.base import Head
from ffe.specs import ExtractSpec, HeadSpec, TrainingSpec, WeightsKind, spec_digest
from ffe.splits.holdout import TEST, VALID

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Call:
    """What a training is to write, when it ends, and whom it tells.

    Attributes:
        output: the model file.
        page: the report; None = none.
        board: folder for TensorBoard's logs; None = none.
        overwrite: whether a model that is there may be replaced.
        inputs: files that may not.
        clock: runs since the call began.
        on_epoch, on_step: called after every epoch, and every step.
    """

    output: Path
    page: Path | None
    board: Path | None
    overwrite: bool
    inputs: tuple[str | os.PathLike[str], ...]
    clock: Clock
    on_epoch: Callable[[Epoch], None]
    on_step: Callable[[Step], None]

    def check(self) -> None:
        """Make sure, before anything slow, that the files can be written.

        Raises:
            BundleError, ReportError: one of them cannot.
        """
        check_place(self.output, overwrite=self.overwrite, inputs=self.inputs)
        check_page(self.page, self.output)
        if self.board is not None:
            _make_folder(self.board)

    @contextlib.contextmanager
    def logged(self) -> Iterator[Call]:
        """Lend the same call, whose epochs go into TensorBoard's logs too, if they are wanted."""
        if self.board is None:
            with _without_tracing_advice():
                yield self
            return
        with _without_tracing_advice(), TensorBoardLog(self.board) as log:

            def told(epoch: Epoch) -> None:
                log.add(epoch)
                self.on_epoch(epoch)

            yield replace(self, on_epoch=told)


@contextlib.contextmanager
def _without_tracing_advice() -> Iterator[None]:
    """Keep TensorFlow's advice against tracing functions anew from the user.

    It counts by the code of a function, which all models share: each stage has models of its own, and traces each of
    them once or twice.
    """

    def wanted(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in str(record.msg)

    logger = logging.getLogger("tensorflow")
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


def _make_folder(board: Path) -> None:
    """Make the folder for TensorBoard's logs, and write to it."""
    if board.exists() and not board.is_dir():
        raise ReportError(f"'{board}' is a file; name a folder for TensorBoard's logs with --tensorboard.")
    try:
        board.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=board) as file:
            file.write(b"log")
    except OSError as error:
        raise ReportError(
            f"TensorBoard's logs cannot be written into '{board}' ({error.strerror}); name another folder with --tensorboard."
        ) from error


def features_of(
    model: keras.Model | None, source: BatchSource, rows: np.ndarray, size: int = 64
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows, features float32 (n, D)) of rows, batch by batch.

    Args:
        model: from what the source gives to features; None = it gives features.
        source: of the rows.
        rows: int64 (N,).
        size: rows in a batch.
    """
    for some, x in batches(source, rows, size):
        found = x if model is None else np.asarray(model.predict_on_batch(x))
        yield some, np.ascontiguousarray(found.reshape(len(some), -1), np.float32)


def pooled_of(
    model: keras.Model | None, source: BatchSource, rows: np.ndarray, grid: tuple[int, int, int], count: int
) -> np.ndarray:
    """Return features averaged over their places, float32 (count, c); those of other images than ``rows`` are 0.

    Args:
        model, source, rows: see ``features_of``.
        grid: (h, w, c) of the features.
        count: how many images there are.
    """
    pooled = np.zeros((count, grid[2]), np.float32)
    for some, features in features_of(model, source, rows):
        pooled[some] = features.reshape(len(some), -1, grid[2]).mean(axis=1)
    return pooled


def probabilities_of(head: Head, model: keras.Model | None, source: BatchSource, rows: np.ndarray) -> np.ndarray:
    """Return what a head says of rows, before a temperature: float64 (N, K)."""
    return np.concatenate([head.predict_proba(features) for _, features in features_of(model, source, rows)])


def score_head(valid: np.ndarray, test: np.ndarray, assigned: ImageSplit, names: Sequence[str]) -> HeadScores:
    """Fit the temperature on the validation images, and score the test images.

    Args:
        valid, test: what the head says of them, float64 (n, K), in the order of the images.
        assigned: all images.
        names: of the classes.
    """
    calibration = calibrate(valid, assigned.labels(VALID), groups=assigned.ids[assigned.rows(VALID)])
    answers = with_temperature(test, calibration.factor)
    evaluation = evaluate_probabilities(answers, assigned.labels(TEST), names, groups=assigned.together(TEST))
    return HeadScores(calibration, evaluation, valid, answers, tuple(assigned.images.sha256[i] for i in assigned.rows(TEST)))


def scores_as_before(judged: HeadScores, test: np.ndarray, evaluation: Evaluation, factor: float) -> HeadScores:
    """Return what is known of a model that no training made better.

    Args:
        judged: the layers that the training started from. They say of the
            validation images what the model would say that had not seen them.
        test, evaluation: what the model itself says of the test images, float64 (m, K), and its scores.
        factor: its temperature, which is in those layers already.
    """
    start = judged.calibration
    kept = replace(start, factor=factor, error_after=start.error_before, log_loss_after=start.log_loss_before, after=start.before)
    return replace(judged, calibration=kept, evaluation=evaluation, valid=with_temperature(judged.valid, 1 / factor), test=test)


def ended_early(trainer: Trainer, spec: TrainingSpec) -> str | None:
    """Return that the time was over, or that it was interrupted; None where the epochs or the patience ended the training."""
    if not (trainer.out_of_time or trainer.interrupted):
        return None
    last, stages = trainer.epochs[-1], len(spec.unfreeze)
    time = "time was" if spec.seconds is None else f"{spec.seconds:g} s were"
    ended = "command was interrupted" if trainer.interrupted else f"{time} over"
    where = f"epoch {last.epoch} of {spec.epochs[last.stage - 1]}" + (f" in stage {last.stage} of {stages}" if stages > 1 else "")
    return f"the {ended} after {where}, so the training ended there, and the best weights so far are kept"


def learnt_spec(was: ExtractSpec, kind: WeightsKind, backbone: keras.Model) -> ExtractSpec:
    """Return what makes the features of a backbone that was trained.

    Args:
        was: what made them before; the weights in it do not count.
        kind: of the weights now.
        backbone: as it is now.
    """
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
    """Write a model whose backbone was trained.

    Args:
        result: what was learnt.
        backbone: as it is now.
        features: what it makes; see ``learnt_spec``.
        base: what the model was before; empty = there was none.
        spec: how it was trained.
        assigned: where each image went.
        reject: a best probability below this is "not sure".
        test_fraction: share that was asked for the test; None = the sides are those of the model before.
    """
    asked = {} if test_fraction is None else {"test_fraction": test_fraction}
    learnt = result.to_json()
    manifest = Manifest(
        schema=layout.SCHEMA,
        ffe_version=__version__,
        libraries=library_versions(),
        spec=features,
        spec_digest=spec_digest(features),
        grid=grid_of(backbone.output_shape[1:]),
        head=HeadSpec(result.head.name, result.head.parameters),
        class_names=result.classes,
        evaluation=learnt["evaluation"],
        leaderboard=(),
        search={"rows": result.rows, "validation": counted(result.rows["valid"], "validation row"), "seed": spec.seed, **asked},
        members={},
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
    photos = assigned.images
    listed = [i for i in np.flatnonzero(photos.labels >= 0) if photos.sha256[i]]  # anonymous ones have no digests
    splits = [SplitRow(photos.paths[i], photos.sha256[i], str(assigned.side[i])) for i in listed]
    with tempfile.TemporaryDirectory(prefix="ffe-trained-") as folder:
        file = Path(folder) / BACKBONE
        backbone.trainable = False
        backbone.save(file)
        found = Weights(features.backbone.weights, features.backbone.weights_sha256, file)
        write_model(result.output, manifest, result.head, splits, found)
