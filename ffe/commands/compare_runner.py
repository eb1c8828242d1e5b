"""How each road of a comparison is gone: which calls it consists of, and how long they may take."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ffe.backbones.keras_build import build
from ffe.base.atomic import copy_file
from ffe.base.clock import OutOfTimeError
from ffe.commands.finetune import finetune
from ffe.commands.scratch import scratch
from ffe.commands.tune import train, tune
from ffe.comparing.answers import answers_of
from ffe.comparing.compare_options import CompareOptions
from ffe.comparing.reasons import reason_of
from ffe.comparing.roads import FINETUNING, FROZEN, HEAD_ONLY, PLAIN, ROADS, VIEWS, Road
from ffe.dataset.assign_sides import ImageSplit
from ffe.errors import StaleStoreError
from ffe.evaluation.scores import evaluate_probabilities
from ffe.extraction.run import ExtractSummary, extract
from ffe.extraction.stage_times import Progress
from ffe.finetuning.base_model import open_base
from ffe.finetuning.head_layers import can_learn
from ffe.finetuning.training_result import TrainingResult
from ffe.splits.holdout import TEST
from ffe.store.journal_records import has_rows
from ffe.store.reader import FeatureStore
from ffe.tuning.search import SearchProgress
from ffe.tuning.tune_result import TuneResult

log = logging.getLogger("ffe")

_MANY = 10_000  # epochs that the time ends, or the patience
_FIRST_STAGE = 5
_STAGES = (0.22, 0.43)  # of the layers
_LEAST_SECONDS = 1.0


class RoadRunner:
    """Runs roads, and remembers what the later ones take from the earlier."""

    def __init__(self, options: CompareOptions) -> None:
        self.options = options
        self.features = options.output / "features.h5"  # of the plain images
        self.interrupted = False  # whether no more roads are gone
        self._extracting = 0.0
        self._reused = False
        self._source = Path()
        self._tested: tuple[str, ...] = ()
        self._frozen: tuple[TuneResult, float] | None = None
        self._training: dict[str, Any] = {}  # what every training is called with
        self._reading: dict[str, Any] = {"workers": options.workers, **options.limits.keywords}

    def extract(self, source: Path) -> None:
        """Extract the features of the plain images, or go on where an earlier run was."""
        known = self.features.exists() or has_rows(self.features)
        done = self._extract(source, self.features)
        self._extracting += done.seconds
        self._reused = known and done.computed < done.images

    def set_split(self, source: Path, assigned: ImageSplit) -> None:
        """Take in the split, which is in its CSV, the source, by now."""
        options, self._source = self.options, source
        self._training = {
            "overwrite": True,
            "split": {assigned.images.sha256[i]: str(assigned.side[i]) for i in np.flatnonzero(assigned.side != "")},
            "seed": options.seed,
            **self._reading,
            "on_decoded": self.on_decoded,
            "on_epoch": options.on_epoch,
            "on_step": options.on_step,
        }
        self._tested = assigned.images.take(assigned.rows(TEST)).sha256
        if self._extracting:
            began = time.monotonic()
            self._extract(source, self.features)
            self._extracting += time.monotonic() - began

    def run_all(self, assigned: ImageSplit, classes: Sequence[str]) -> Iterator[Road]:
        """Run one road after another; yield what each came to, or why it came to nothing."""
        names = self.options.roads
        for number, name in enumerate(names, start=1):
            clock, seconds = self.options.clock, self.options.seconds
            if self.interrupted:
                yield Road(name, "interrupted before its turn")
                continue
            if clock.is_over:
                yield Road(name, f"no time left: the {seconds:g} seconds were over before its turn; give more with --budget")
                continue
            share = None if seconds is None else max(_LEAST_SECONDS, (seconds - clock.elapsed) / (len(names) - number + 1))
            for_it = "" if share is None else f", up to {share:.0f} s"
            log.info("road %d of %d: %s (%s)%s", number, len(names), name, ROADS[name], for_it)
            self._model(name).unlink(missing_ok=True)  # what stood there is of an earlier run
            try:
                road = self.run(name, share)
            except OutOfTimeError:
                reason = f"the {seconds:g} seconds were over before it could learn; what was computed is kept for the next run"
                yield Road(name, reason)
            except Exception as error:
                reason = reason_of(error, "give a smaller --size, or fewer --views")
                log.debug("the road %s", name, exc_info=error)
                yield Road(name, reason)
            except KeyboardInterrupt:
                if number == 1:
                    raise
                self.interrupted = True
                yield Road(name, "interrupted")
            else:
                together = assigned.together(TEST)
                evaluation = evaluate_probabilities(road.probabilities, assigned.labels(TEST), classes, groups=together)
                yield replace(road, evaluation=evaluation)

    def run(self, name: str, seconds: float | None) -> Road:
        """Run one road, for about so many seconds; None = as long as it likes."""
        if name in {FROZEN, VIEWS}:
            return self._search(name, seconds)
        if name in {FINETUNING, HEAD_ONLY}:
            return self._train_on_backbone(name, seconds)
        return self._train_from_scratch(name, seconds)

    def on_decoded(self, done: int, total: int) -> None:
        """Tell how many images are decoded; end where the time is over."""
        self.options.on_decoded(done, total)
        self.options.clock.check(done, total)

    def _progress(self, progress: Progress) -> None:
        self.options.progress(progress)
        self.options.clock.check(progress.done, progress.total)

    def _model(self, name: str) -> Path:
        return self.options.output / f"{name}.ffe"

    def _extract(self, source: Path, output: Path, **views: Any) -> ExtractSummary:
        options = self.options
        asked = {"backbone": options.backbone, "size": options.size, "weights": options.weights, **self._reading, **views}
        try:
            return extract(source, output, prune=True, progress=self._progress, **asked)
        except StaleStoreError:  # an earlier comparison had another backbone, or other views
            return extract(source, output, prune=True, progress=self._progress, overwrite=True, **asked)

    def _with_views(self) -> tuple[Path, bool]:
        """Return the feature file with views, whose plain rows are those that are there; and whether views of it were at hand."""
        path, views = self.options.output / "views.h5", self.options.views
        known = path.exists() or has_rows(path)
        if not path.exists():
            copy_file(self.features, path)
        done = self._extract(self._source, path, views=views.count, augment=views.augment)
        with FeatureStore(path) as store:
            return path, known and done.computed < len(store) - len(store.plain)

    def _search(self, name: str, seconds: float | None) -> Road:
        """Search over heads on the features, or on those with views."""
        began = time.monotonic()
        features, reused = self._with_views() if name == VIEWS else (self.features, False)
        curve: list[tuple[float, float]] = []

        def watch(progress: SearchProgress) -> None:
            now = self._extracting + time.monotonic() - began
            for trial in progress.new:
                best = max([trial.score, *(score for _, score in curve[-1:])])
                curve.append((now - progress.elapsed + trial.finished, best))
            self.options.on_trials(progress)

        result = tune(
            features,
            self._model(name),
            overwrite=True,
            trials=self.options.trials,
            metric="accuracy",
            budget=_left(seconds, began),
            seed=self.options.seed,
            views="all" if name == VIEWS else None,
            weights=self.options.weights,
            on_progress=watch,
        )
        road = self._road(
            name,
            began,
            self._extracting,
            reused=self._reused or reused,
            valid_accuracy=result.leaderboard[0].score,
            trials=len(result.leaderboard),
            best_at=min(at for at, share in curve if share >= result.leaderboard[0].score),
            curve=tuple(curve),
            probabilities=answers_of(result.head, result.calibration.factor, features, self._tested),
        )
        if name == FROZEN:
            self._frozen = result, road.own_seconds
        return road

    def _train_on_backbone(self, name: str, seconds: float | None) -> Road:
        """Train the head, or some of the backbone too, from the head on the frozen features."""
        called, asked = time.monotonic(), self.options
        start, spent = self._warm_start
        options: dict[str, Any]
        if name == FINETUNING:
            stages, last = asked.unfreeze, self._epochs(15)
            if not stages:
                base = open_base(start, asked.weights)
                count = len(build(base.spec, base.found).layers)
                stages = tuple(str(max(1, round(share * count))) for share in _STAGES)
            epochs = (*([last if asked.epochs else _FIRST_STAGE] * (len(stages) - 1)), last)
            options = {"unfreeze": stages, "epochs": epochs, "schedule": "exponential", "hold": _FIRST_STAGE}
        else:
            options = {"unfreeze": 0, "epochs": self._epochs(15), "learning_rate": 1e-3, "augment": asked.views.augment}
        began = time.monotonic()
        result = finetune(
            self._source,
            self._model(name),
            model=start,
            budget=_left(seconds, called),
            cache=asked.output / "activations",
            keep_cache=True,
            weights=asked.weights,
            progress=self._progress,
            **self._training,
            **options,
        )
        more = {"starts_from": start.stem, "reused": self._reused or result.reused}
        return self._trained(name, result, began, self._extracting + spent, **more)

    def _train_from_scratch(self, name: str, seconds: float | None) -> Road:
        began = time.monotonic()
        result = scratch(
            self._source,
            self._model(name),
            size=self.options.scratch_size,
            plain=name == PLAIN,
            epochs=self._epochs(30),
            budget=seconds,
            **self._training,
        )
        return self._trained(name, result, began, 0.0)

    def _epochs(self, without_budget: int) -> int:
        return self.options.epochs or (without_budget if self.options.seconds is None else _MANY)

    @cached_property
    def _warm_start(self) -> tuple[Path, float]:
        """The best model of the frozen features whose head has layers, or else a logistic one, and the seconds that it took."""
        began, spent, head, settings = time.monotonic(), 0.0, "logistic", {}
        path = self._model("start")
        if self._frozen is not None:
            result, spent = self._frozen
            best = next((trial for trial in result.leaderboard if can_learn(trial.head, trial.parameters)), None)
            if best is result.leaderboard[0]:
                path = self._model(FROZEN)
            elif best is not None:
                head, settings = best.head, best.parameters
        if path.stem != FROZEN:
            log.info("the start of what follows is a %s head", head)
            seed, weights = self.options.seed, self.options.weights
            train(self.features, path, overwrite=True, head=head, settings=settings, seed=seed, weights=weights)
        return path, spent + time.monotonic() - began

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
        """Return a road that began at a ``time.monotonic()``, and needs the seconds ``before`` of what was there already."""
        model, own = self._model(name), time.monotonic() - began
        return Road(name, seconds=before + own, own_seconds=own, model=model, size=model.stat().st_size, **known)


def _left(seconds: float | None, began: float) -> float | None:
    """Return what is left of a road's seconds; None = it has as many as it likes."""
    return None if seconds is None else max(_LEAST_SECONDS, seconds - (time.monotonic() - began))
