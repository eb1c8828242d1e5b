"""What ``finetune`` and ``scratch`` do alike, once the training is over: judge, and write the model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffe._version import __version__
from ffe.backbones.learnt import BACKBONE, arrays_digest
from ffe.backbones.weights import Weights
from ffe.bundle import manifest as layout
from ffe.bundle.io import SplitRow
from ffe.bundle.manifest import Manifest
from ffe.engines.base import grid_of
from ffe.evaluation.calibration import Calibration, calibrate, with_temperature
from ffe.evaluation.comparison import Comparison
from ffe.evaluation.scores import Evaluation, evaluate_probabilities
from ffe.finetuning.batches import Source, batches
from ffe.finetuning.history import Epoch, best_of
from ffe.heads.base import Head
from ffe.keys import spec_digest
from ffe.specs import ExtractSpec, HeadSpec, TrainingSpec, WeightsKind
from ffe.splits.groups import Groups
from ffe.splits.sides import TEST
from ffe.workflows.photos import VALID, Photos
from ffe.workflows.writing import library_versions, write_model

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Stage:
    """What a stage was to train.

    Attributes:
        number: from 1.
        unfreeze: as it was asked for.
        layers: of the backbone, counted from its end, that are unfrozen.
        first: the first of them; empty if there are none.
        learning: how many of them have weights that learn.
        cut: the last layer of the part that stays as it is; empty = there is none.
    """

    number: int
    unfreeze: str
    layers: int
    first: str
    learning: int
    cut: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to.

    Attributes:
        output: the model file.
        head: the head, apart from its backbone.
        stages: what each was to train.
        epochs: what happened.
        best: the epoch whose weights the model has.
        evaluation: scores on the test images.
        calibration: what the temperature does, on the validation images.
        before: scores of the model that was fine-tuned, on the same test images; None = there was none.
        comparison: of the two; None = there was none.
        class_weights: of each class; None = all the same.
        rows: how many images train, validate and test, and how many are left out.
        skipped: files that could not be read.
        seconds: the whole call.
        classes: names of the classes.
    """

    output: Path
    head: Head
    stages: tuple[Stage, ...]
    epochs: tuple[Epoch, ...]
    evaluation: Evaluation
    calibration: Calibration
    before: Evaluation | None
    comparison: Comparison | None
    class_weights: tuple[float, ...] | None
    rows: dict[str, int]
    skipped: int
    seconds: float
    classes: tuple[str, ...]

    @property
    def best(self) -> Epoch:
        """The epoch whose weights the model has."""
        return best_of(self.epochs)

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe finetune --json`` and ``ffe scratch --json`` print."""
        return {
            "output": str(self.output),
            "head": self.head.name,
            "parameters": self.head.parameters,
            "stages": [stage.to_json() for stage in self.stages],
            "history": [epoch.to_json() for epoch in self.epochs],
            "best": self.best.to_json(),
            "evaluation": {"test": self.evaluation.to_json()},
            "calibration": self.calibration.to_json(),
            "before": None if self.before is None else self.before.to_json(),
            "comparison": None if self.comparison is None else self.comparison.to_json(),
            "class_weights": None if self.class_weights is None else list(self.class_weights),
            "rows": self.rows,
            "skipped": self.skipped,
            "seconds": self.seconds,
        }


def features_of(model: keras.Model | None, source: Source, rows: np.ndarray, size: int = 64) -> Any:
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


def pooled_of(model: keras.Model | None, source: Source, rows: np.ndarray, grid: tuple[int, int, int], count: int) -> np.ndarray:
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


def probabilities_of(head: Head, model: keras.Model | None, source: Source, rows: np.ndarray) -> np.ndarray:
    """Return what a head says of rows, before a temperature: float64 (N, K)."""
    return np.concatenate([head.predict_proba(features) for _, features in features_of(model, source, rows)])


@dataclass(frozen=True, eq=False)
class Judged:
    """A head, judged.

    Attributes:
        calibration: its temperature, fitted on the validation images.
        evaluation: its scores on the test images.
        valid: its probabilities of the validation images, before the temperature, float64 (n, K).
        test: its probabilities of the test images, with it.
    """

    calibration: Calibration
    evaluation: Evaluation
    valid: np.ndarray
    test: np.ndarray


def judge(valid: np.ndarray, test: np.ndarray, photos: Photos, side: np.ndarray, ids: np.ndarray, names: Sequence[str]) -> Judged:
    """Fit the temperature on the validation images, and score the test images.

    Args:
        valid, test: what the head says of them, float64 (n, K), in the order of the images.
        photos: all images.
        side: str (N,), of each.
        ids: int64 (N,), equal for images that belong together.
        names: of the classes.
    """
    choosing, testing = side == VALID, side == TEST
    calibration = calibrate(valid, photos.labels[choosing], groups=ids[choosing])
    answers = with_temperature(test, calibration.factor)
    evaluation = evaluate_probabilities(answers, photos.labels[testing], names, groups=together(ids[testing]))
    return Judged(calibration, evaluation, valid, answers)


def together(ids: np.ndarray) -> np.ndarray | None:
    """Return group numbers; None where every image stands alone."""
    return ids if len(np.unique(ids)) < len(ids) else None


def ids_of(photos: Photos, groups: Groups) -> np.ndarray:
    """Return int64 (N,), equal for images that belong together; those without labels stand alone."""
    ids = np.arange(len(groups.ids), len(groups.ids) + len(photos))
    ids[photos.labels >= 0] = groups.ids
    return ids


def counts_of(side: np.ndarray) -> dict[str, int]:
    """Return how many images stand on each side."""
    return {
        name: int((side == value).sum())
        for name, value in (("train", "train"), ("valid", VALID), ("test", TEST), ("left_out", ""))
    }


def write_trained(
    result: TrainingResult,
    backbone: keras.Model,
    was: ExtractSpec,
    kind: WeightsKind,
    base: Mapping[str, Any],
    spec: TrainingSpec,
    photos: Photos,
    side: np.ndarray,
) -> None:
    """Write a model whose backbone was trained.

    Args:
        result: what was learnt.
        backbone: as it is now.
        was: of the features, before the training.
        kind: of the weights now.
        base: what the backbone was before; its ``weights_sha256`` goes into the new digest.
        spec: how it was trained.
        photos, side: where each image went.
    """
    origin = str(base.get("weights_sha256", ""))
    digest = arrays_digest(backbone, origin)
    extract = replace(was, backbone=replace(was.backbone, weights=kind, weights_sha256=digest))
    learnt = result.to_json()
    manifest = Manifest(
        schema=layout.SCHEMA,
        ffe_version=__version__,
        libraries=library_versions(),
        spec=extract,
        spec_digest=spec_digest(extract),
        grid=grid_of(backbone.output_shape[1:]),
        head=HeadSpec(result.head.name, result.head.parameters),
        class_names=result.classes,
        evaluation=learnt["evaluation"],
        leaderboard=(),
        search={"rows": result.rows, "validation": f"{result.rows['valid']} validation rows", "seed": spec.seed},
        members={},
        calibration=learnt["calibration"],
        training={
            "kind": kind,
            "base": dict(base),
            "options": spec.to_json(),
            **{name: learnt[name] for name in ("stages", "history", "best", "before", "comparison", "class_weights", "seconds")},
        },
    )
    splits = [SplitRow(photos.paths[i], photos.sha256[i], str(side[i])) for i in np.flatnonzero(photos.labels >= 0)]
    with tempfile.TemporaryDirectory(prefix="ffe-trained-") as folder:
        file = Path(folder) / BACKBONE
        backbone.trainable = False
        backbone.save(file)
        write_model(result.output, manifest, result.head, splits, Weights(kind, digest, file, origin))
