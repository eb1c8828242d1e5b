"""How each road of a comparison is gone: which calls it consists of, and how long they may take."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ffe.backbones.keras_build import build
from ffe.base.atomic import copy_file
from ffe.base.clock import Clock, OutOfTimeError
from ffe.commands.finetune import finetune
from ffe.commands.scratch import scratch
from ffe.commands.tune import train, tune
from ffe.comparing.roads import FINETUNING, FROZEN, HEAD_ONLY, PLAIN, VIEWS, Road
from ffe.dataset.assign import ImageSplit
from ffe.dataset.split_csv import SplitCsv
from ffe.errors import StaleStoreError
from ffe.evaluation.temperature import with_temperature
from ffe.extraction.run import ExtractSummary, extract
from ffe.extraction.stage_times import Progress
from ffe.finetuning.base_model import open_base
from ffe.finetuning.epochs import Epoch
from ffe.finetuning.trainer import Step
from ffe.finetuning.training_result import TrainingResult
from ffe.images.limits import Limits
from ffe.specs import ViewsSpec
from ffe.splits.holdout import TEST
from ffe.store.journal_records import has_rows
from ffe.store.reader import FeatureStore
from ffe.tuning.search import SearchProgress, Trial
from ffe.tuning.tune_result import TuneResult

log = logging.getLogger("ffe")

LEAST_SIDE, MOST_SIDE = 46, 150  # of the convnet: what it can take, and what the article gave it

_MANY = 10_000  # epochs that the time ends, or the patience
_FIRST_STAGE = 5
_STAGES = (0.22, 0.43)  # of the layers
_LEAST_SECONDS = 1.0


@dataclass(frozen=True)
class Callbacks:
    """What is called on the way; see ``ffe.compare``."""

    progress: Callable[[Progress], None]
    on_trials: Callable[[SearchProgress], None]
    on_decoded: Callable[[int, int], None]
    on_epoch: Callable[[Epoch], None]
    on_step: Callable[[Step], None]


@dataclass
class RoadRunner:
    """Runs roads, and remembers what the later ones take from the earlier.

    Attributes:
        folder: for everything that is kept.
        clock, budget: of the whole comparison, and its seconds.
        told: what is called on the way.
        backbone, weights, trials, epochs, unfreeze, seed, workers: see ``ffe.compare``.
        size: (height, width) of the backbone's input in pixels.
        views: of each training image.
        limits: larger files are skipped.
        interrupted: whether no more roads are gone.
    """

    folder: Path
    clock: Clock
    budget: float | None
    told: Callbacks
    backbone: str
    size: tuple[int, int]
    weights: str
    trials: int | None
    epochs: int | None
    unfreeze: tuple[str, ...]
    views: ViewsSpec
    seed: int
    workers: int | None
    limits: Limits
    interrupted: bool = False
    _extracting: float = 0.0
    _reused: bool = False
    _views_reused: bool = False
    _source: Path = field(default_factory=Path)
    _split: dict[str, str] = field(default_factory=dict)
    _tested: tuple[str, ...] = ()
    _frozen: tuple[TuneResult, float] | None = None
    _start: tuple[Path, float] | None = None

    @property
    def features(self) -> Path:
        """The feature file of the plain images."""
        return self.folder / "features.h5"

    @property
    def scratch_size(self) -> tuple[int, int]:
        """(height, width) of the convnet's input in pixels."""
        height, width = (max(LEAST_SIDE, min(MOST_SIDE, side)) for side in self.size)
        return height, width

    def share(self, roads: int) -> float | None:
        """Return the seconds that the next of so many roads may take; None = as many as it likes."""
        return None if self.budget is None else max(_LEAST_SECONDS, (self.budget - self.clock.elapsed) / roads)

    def extract(self, source: Path) -> None:
        """Extract the features of the plain images, or go on where an earlier run was."""
        known = _begun(self.features)
        done = self._extract(source, self.features)
        self._extracting += done.seconds
        self._reused = known and done.computed < done.images

    def set_split(self, split: SplitCsv, assigned: ImageSplit) -> None:
        """Take in the split, which is in its CSV by now."""
        self._source = split.path
        self._split = {assigned.images.sha256[i]: str(assigned.side[i]) for i in np.flatnonzero(assigned.side != "")}
        self._tested = tuple(assigned.images.sha256[i] for i in assigned.rows(TEST))
        if self._extracting:
            began = time.monotonic()
            self._extract(split.path, self.features)
            self._extracting += time.monotonic() - began

    def run(self, name: str, seconds: float | None) -> Road:
        """Run one road.

        Args:
            name: of the road.
            seconds: about how long it may take; None = as long as it likes.

        Raises:
            FfeError: it cannot be gone.
            OutOfTimeError: the time of all of them is over.
        """
        began = time.monotonic()
        if name == FROZEN:
            return self._search(name, self.features, None, began, seconds)
        if name == VIEWS:
            return self._search(name, self._with_views(), "all", began, seconds)
        if name in {FINETUNING, HEAD_ONLY}:
            return self._train_on_backbone(name, began, seconds)
        return self._train_from_scratch(name, began, seconds)

    def on_decoded(self, done: int, total: int) -> None:
        """Tell how many images are decoded; end where the time is over."""
        self.told.on_decoded(done, total)
        if done < total and self.clock.is_over:
            raise OutOfTimeError

    def _progress(self, progress: Progress) -> None:
        self.told.progress(progress)
        if progress.done < progress.total and self.clock.is_over:
            raise OutOfTimeError

    def _extract(self, source: Path, output: Path, **views: Any) -> ExtractSummary:
        def again(overwrite: bool) -> ExtractSummary:
            return extract(
                source,
                output,
                backbone=self.backbone,
                size=self.size,
                weights=self.weights,
                workers=self.workers,
                max_pixels=self.limits.pixels,
                max_bytes=self.limits.bytes,
                truncated=self.limits.truncated,
                overwrite=overwrite,
                prune=True,
                progress=self._progress,
                **views,
            )

        try:
            return again(overwrite=False)
        except StaleStoreError:  # an earlier comparison had another backbone, or other views
            return again(overwrite=True)

    def _with_views(self) -> Path:
        """Return the feature file with views; its plain rows are those that are there."""
        path = self.folder / "views.h5"
        known = _begun(path)
        if not path.exists():
            copy_file(self.features, path)
        done = self._extract(self._source, path, views=self.views.count, augment=self.views.augment)
        with FeatureStore(path) as store:
            self._views_reused = known and done.computed < len(store) - len(store.plain)
        return path

    def _search(self, name: str, features: Path, views: str | None, began: float, seconds: float | None) -> Road:
        """Search over heads on a feature file."""
        curve: list[tuple[float, float]] = []

        def watch(progress: SearchProgress) -> None:
            now = self._extracting + time.monotonic() - began
            for trial in progress.new:
                best = max([trial.score, *(score for _, score in curve[-1:])])
                curve.append((now - progress.elapsed + trial.finished, best))
            self.told.on_trials(progress)

        used = time.monotonic() - began
        result = tune(
            features,
            self.folder / f"{name}.ffe",
            overwrite=True,
            trials=self.trials,
            budget=None if seconds is None else max(_LEAST_SECONDS, seconds - used),
            seed=self.seed,
            views=views,
            weights=self.weights,
            on_progress=watch,
        )
        road = self._road(
            name,
            began,
            self._extracting,
            reused=self._reused or (name == VIEWS and self._views_reused),
            valid_accuracy=result.leaderboard[0].score,
            trials=len(result.leaderboard),
            best_at=min(at for at, share in curve if share == curve[-1][1]),
            curve=tuple(curve),
            probabilities=self._answers(features, result),
        )
        if name == FROZEN:
            self._frozen = result, road.own_seconds
        return road

    def _answers(self, features: Path, result: TuneResult) -> np.ndarray:
        """Return what a head says of the test images, by their plain rows: float64 (m, K)."""
        with FeatureStore(features) as store:
            row_of = {store.sha256[i]: i for i in store.plain.tolist()}
            x = store.features(np.asarray([row_of[digest] for digest in self._tested], np.int64))
        return with_temperature(result.head.predict_proba(x), result.calibration.factor)

    def _train_on_backbone(self, name: str, began: float, seconds: float | None) -> Road:
        """Train the head, or some of the backbone too, from the head on the frozen features."""
        start, spent = self._warm_start()
        if name == FINETUNING:
            stages = self.unfreeze or self._stages(start)
            last = self._epochs(15)
            epochs = (*([last if self.epochs else _FIRST_STAGE] * (len(stages) - 1)), last)
            options: dict[str, Any] = {"unfreeze": stages, "epochs": epochs, "schedule": "exponential", "hold": _FIRST_STAGE}
        else:
            epochs = (self._epochs(15),)
            options = {"unfreeze": ("0",), "epochs": epochs, "learning_rate": (1e-3,), "augment": self.views.augment}
        before = self._extracting + spent
        entered = time.monotonic()
        result = finetune(
            self._source,
            self.folder / f"{name}.ffe",
            overwrite=True,
            model=start,
            split=self._split,
            budget=None if seconds is None else max(_LEAST_SECONDS, seconds - (entered - began)),
            seed=self.seed,
            cache=self.folder / "activations",
            keep_cache=True,
            weights=self.weights,
            progress=self._progress,
            **self._of_training(),
            **options,
        )
        return self._trained(name, result, entered, before, starts_from=start.stem, reused=self._reused or result.reused)

    def _train_from_scratch(self, name: str, began: float, seconds: float | None) -> Road:
        result = scratch(
            self._source,
            self.folder / f"{name}.ffe",
            overwrite=True,
            size=self.scratch_size,
            plain=name == PLAIN,
            epochs=(self._epochs(30),),
            split=self._split,
            budget=seconds,
            seed=self.seed,
            **self._of_training(),
        )
        return self._trained(name, result, began, 0.0)

    def _of_training(self) -> dict[str, Any]:
        """Return what every training is called with."""
        return {
            "workers": self.workers,
            "max_pixels": self.limits.pixels,
            "max_bytes": self.limits.bytes,
            "truncated": self.limits.truncated,
            "on_decoded": self.on_decoded,
            "on_epoch": self.told.on_epoch,
            "on_step": self.told.on_step,
        }

    def _epochs(self, without_budget: int) -> int:
        if self.epochs is not None:
            return self.epochs
        return without_budget if self.budget is None else _MANY

    def _warm_start(self) -> tuple[Path, float]:
        """Return a model whose head consists of layers, and the seconds that it took.

        It is the best one of the search over frozen features, or a logistic
        regression where there was no search.
        """
        if self._start is not None:
            return self._start
        began, spent, head, settings = time.monotonic(), 0.0, "logistic", {}
        path = self.folder / "start.ffe"
        if self._frozen is not None:
            result, spent = self._frozen
            best = next(filter(_has_layers, result.leaderboard), None)
            if best is result.leaderboard[0]:
                path = self.folder / f"{FROZEN}.ffe"
            elif best is not None:
                head, settings = best.head, best.parameters
        if path.stem != FROZEN:
            log.info("the start of what follows is a %s head", head)
            train(self.features, path, overwrite=True, head=head, settings=settings, seed=self.seed, weights=self.weights)
        self._start = path, spent + time.monotonic() - began
        return self._start

    def _stages(self, start: Path) -> tuple[str, ...]:
        """Return how many layers each stage of fine-tuning trains."""
        base = open_base(start, self.weights)
        count = len(build(base.spec, base.found).layers)
        return tuple(str(max(1, round(share * count))) for share in _STAGES)

    def _trained(self, name: str, result: TrainingResult, began: float, before: float, **more: Any) -> Road:
        self.interrupted = self.interrupted or result.interrupted
        place = {digest: i for i, digest in enumerate(result.judged.tested)}
        made = [epoch for epoch in result.epochs if epoch.epoch > 0]
        return self._road(
            name,
            began,
            before,
            valid_accuracy=result.best.valid_accuracy,
            epochs=len(made),
            kept=made.index(result.best) + 1 if result.best in made else 0,
            best_at=before + result.best.elapsed,
            curve=tuple((before + epoch.elapsed, epoch.valid_accuracy) for epoch in result.epochs),
            probabilities=result.judged.test[[place[digest] for digest in self._tested]],
            **more,
        )

    def _road(self, name: str, began: float, before: float, **known: Any) -> Road:
        """Return a road that was gone.

        Args:
            name: of the road.
            began: ``time.monotonic()`` when it began.
            before: seconds that it needs of what was there already.
            known: what it came to.
        """
        model, own = self.folder / f"{name}.ffe", time.monotonic() - began
        return Road(name, seconds=before + own, own_seconds=own, model=model, size=model.stat().st_size, **known)


def _begun(features: Path) -> bool:
    """Return whether an earlier run has written a feature file, or parts of it."""
    return features.exists() or has_rows(features)


def _has_layers(trial: Trial) -> bool:
    """Return whether a trial's head can go on learning; see ``ffe.finetuning.head_layers.check_head``."""
    return trial.head in {"dense", "logistic"} or (trial.head == "svm" and trial.parameters["kernel"] == "linear")
