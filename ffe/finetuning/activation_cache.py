"""What flows into the part of a backbone that learns: activations in a cache, or pictures that change in every epoch."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ffe.backbones.weights import Weights
from ffe.base.digests import bytes_digest, canonical_json
from ffe.base.system import free_disk
from ffe.base.text import bytes_text, counted, last_layers, rough_duration
from ffe.dataset.table import ImageTable, table_of_files, table_of_store
from ffe.engines.base import Engine
from ffe.engines.factory import open_engine
from ffe.engines.throughput import images_per_second
from ffe.errors import DiskFullError, SourceError
from ffe.extraction.run import extract
from ffe.extraction.stage_times import Progress
from ffe.extraction.views import counts_of, views_text
from ffe.finetuning.inputs import Activations, DecodedImages
from ffe.finetuning.made_files import MadeFiles
from ffe.finetuning.prefetch import BatchSource
from ffe.finetuning.split_point import Cut
from ffe.finetuning.training_options import FinetuneOptions
from ffe.finetuning.training_result import Stage
from ffe.images.sources import Scan
from ffe.specs import ExtractSpec, ViewsSpec, spec_digest
from ffe.store.disk_space import column_bytes, file_bytes
from ffe.store.journal_records import RECORD_ROW, has_rows, journal_bytes
from ffe.store.reader import FeatureStore

if TYPE_CHECKING:
    import keras

log = logging.getLogger("ffe")

_MEASURED = 8  # images
_MEASURE_SECONDS = 0.5
_BACKWARD = 3  # a step of training, in forward passes


@dataclasses.dataclass(eq=False)
class ActivationCache:
    """Lends each stage its rows, and finds out on the way what images there are."""

    options: FinetuneOptions
    found: Scan
    class_names: tuple[str, ...]  # the label i means ``class_names[i]``
    spec: ExtractSpec  # of the backbone's features, in float32
    weights: Weights
    skipped: int = 0  # files that could not be read
    reused: bool = False  # whether activations of an earlier run were at hand

    def __post_init__(self) -> None:
        training = self.options.spec
        self._views = ViewsSpec(training.views, training.augment) if training.augment is not None and training.views else None
        self._always_new = training.augment is not None and self._views is None  # whether images change in every epoch
        self._images: ImageTable | None = None
        self.made = MadeFiles(self.options)

    @property
    def images(self) -> ImageTable:
        """The images, once a stage had its rows."""
        assert self._images is not None
        return self._images

    def keeps(self, cut: Cut) -> bool:
        """Return whether the activations at a cut are kept."""
        return not self._always_new and cut.place != "input"

    def check_room(self, cuts: list[Cut]) -> None:
        """Say, before anything slow, how much disk all stages take; a DiskFullError where there is not so much."""
        sizes = {self._path(cut): self._bytes(cut) for cut in cuts if self.keeps(cut) and not self._path(cut).exists()}
        if not sizes:
            return
        needed = sum(max(0, size - journal_bytes(path)) for path, size in sizes.items())  # a draft becomes the file
        folder = self.options.folder
        free = free_disk(folder if folder.is_dir() else folder.parent)
        what = f"The activations of {self._what()}"
        where = f"{bytes_text(needed)} in '{folder}', where {bytes_text(free)} are free"
        if needed > free:
            raise DiskFullError(
                f"{what} would take {where}; name a folder on another disk with --cache, or unfreeze fewer layers."
            )
        log.info("%s take up to %s", what, where)

    @contextlib.contextmanager
    def rows(self, stage: Stage, cut: Cut, above: keras.Model | None, count: int) -> Iterator[BatchSource]:
        """Lend the rows of a stage, one of ``count``; ``above`` is the part of the backbone above its cut.

        An OutOfTimeError where the time is over and a stage before had its rows; a SourceError where the images changed since.
        """
        engine = None
        if cut.place != "input" and not (self.keeps(cut) and self._path(cut).exists()):
            engine = open_engine(self._spec_at(cut), self.weights, name=self.options.engine, images=count)
        self._log_stage(stage, cut, above, engine, count)
        if self.keeps(cut):
            with FeatureStore(self._extracted(cut)) as store:
                rows = Activations(store, cut.shape)
                if not rows.in_memory:
                    log.info("they do not fit into memory, so they are read from '%s' in every epoch", store.path)
                self.skipped = len(store.skipped)
                self._take_in(table_of_store(store, rows.plain, self.class_names, self.found))
                yield rows
            return
        pixels, images = self._decoded
        self._take_in(images)
        change, count = self.options.spec.augment, 0 if self._views is None else self._views.count
        with contextlib.closing(
            DecodedImages(pixels, images.sha256, self.spec.preprocess.mode, change, engine, cut.shape, count)
        ) as pictures:
            yield pictures

    def _spec_at(self, cut: Cut) -> ExtractSpec:
        """Return what makes the activations at a cut; at the output, those are the features of the model."""
        layer = self.spec.backbone.layer if cut.place == "output" else cut.layer
        return dataclasses.replace(self.spec, backbone=dataclasses.replace(self.spec.backbone, layer=layer))

    def _path(self, cut: Cut) -> Path:
        views = "" if self._views is None else canonical_json(self._views.to_json()).decode()
        what = bytes_digest(f"{spec_digest(self._spec_at(cut))} {Path(self.options.source).resolve()}{views}".encode())
        return self.options.folder / f"{cut.layer.replace('/', '-')}-{what[:12]}.h5"

    def _bytes(self, cut: Cut) -> int:
        """Return what the file of the activations at a cut takes, until it is whole."""
        rows, records = self._count(), self.found.records
        text = sum(column_bytes(column) for column in zip(*((r.path, r.group) for r in records), strict=True))
        return file_bytes(rows, math.prod(cut.shape), 4, text=text * rows // len(records)) + rows * RECORD_ROW

    def _count(self) -> int:
        """Return how many images and views go through the part that stays."""
        return len(self.found.records) + sum(counts_of(self.found.records, self._views, len(self.found.records)))

    def _what(self) -> str:
        return counted(len(self.found.records), "image") + ("" if self._views is None else f" and {views_text(self._views)}")

    def _log_stage(self, stage: Stage, cut: Cut, above: keras.Model | None, engine: Engine | None, count: int) -> None:
        """Say what a stage trains, and what it takes: disk, and about how long."""
        name, rate = self.spec.backbone.name, 0.0
        what = f"the head learns, all of {name} stays as it is"
        if stage.layers:
            learn, have = "learns" if stage.layers == 1 else "learn", "has" if stage.learning == 1 else "have"
            layers = f"{last_layers(stage.layers)} of {name} {learn}, from {stage.first} on"
            what = f"{layers} ({stage.learning} {have} weights to train)"
        if engine is not None:
            noise = np.random.default_rng(0).integers(0, 256, (_MEASURED, *self.spec.preprocess.size, 3), np.uint8)
            rate = images_per_second(engine, noise, _MEASURE_SECONDS)
        lines = [f"stage {stage.number} of {count}: {what}"]
        if self.keeps(cut) and engine is None:
            with FeatureStore(self._path(cut)) as store:
                known = {*store.paths, *(item.path for item in store.skipped)}
            there = f"the output of {cut.layer} is in '{self._path(cut)}' already"
            if new := sum(record.path not in known for record in self.found.records):
                go = counted(new, "new image, which goes", "new images, which go")
                there += f", but for {go} through the part that stays first"
            lines.append(there)
        elif self.keeps(cut):
            takes = f"{rough_duration(self._count() / rate)} and {bytes_text(self._bytes(cut))}"
            lines.append(f"the output of {cut.layer} stays the same, and is computed once: {self._what()}, about {takes}")
        elif self._always_new:
            lines.append("images change in every epoch, so nothing can be kept for the next")
        else:
            lines.append("it learns from the first layer on, so nothing can be kept")
        seconds = self._step_seconds(above, cut) + (1 / rate if engine is not None and not self.keeps(cut) else 0.0)
        lines.append(f"an epoch takes about {rough_duration(len(self.found.records) * seconds)}")
        log.info("%s", "; ".join(lines))

    def _step_seconds(self, above: keras.Model | None, cut: Cut) -> float:
        """Return about how long a step of training takes above a cut, per image."""
        if above is None:
            return 0.0
        x = np.random.default_rng(0).random((_MEASURED, *cut.shape), np.float32)
        above.predict_on_batch(x)
        started = time.perf_counter()
        above.predict_on_batch(x)
        return _BACKWARD * (time.perf_counter() - started) / _MEASURED

    def _extracted(self, cut: Cut) -> Path:
        """Compute the activations at a cut, as far as they are not there, and return their file."""
        path, spec, options = self._path(cut), self._spec_at(cut), self.options
        if self.made.add(path):
            self.reused |= path.exists() or has_rows(path)
        from_model = self.weights.path is not None and self.weights.path.suffix == ".ffe"
        extract(
            options.source,
            path,
            backbone=str(self.weights.path) if from_model else spec.backbone.name,
            size=spec.preprocess.size,
            weights="imagenet" if from_model else str(self.weights.path or "random"),
            layer=spec.backbone.layer,
            engine=options.engine,
            decode=spec.preprocess.decode,
            workers=options.workers,
            **options.limits.keywords,
            views=0 if self._views is None else self._views.count,
            augment=None if self._views is None else self._views.augment,
            prune=True,
            progress=self._progress,
        )
        return path

    @functools.cached_property
    def _decoded(self) -> tuple[np.ndarray, ImageTable]:
        """All images, decoded: uint8 (N, H, W, 3), RGB, and what they are."""
        preprocess, options = self.spec.preprocess, self.options
        pixels, images, self.skipped = table_of_files(
            self.found, self.class_names, preprocess, options.limits, options.workers, self._on_decoded
        )
        return pixels, images

    def _progress(self, now: Progress) -> None:
        self.options.progress(now)
        self._check_time(now.done, now.total)

    def _on_decoded(self, done: int, total: int) -> None:
        self.options.on_decoded(done, total)
        self._check_time(done, total)

    def _check_time(self, done: int, total: int) -> None:
        """End the preparation of a later stage when the time is over; the first has to have its rows."""
        if self._images is not None:
            self.options.clock.check(done, total)

    def _take_in(self, images: ImageTable) -> None:
        before = self._images
        if before is not None and (before.paths, before.sha256) != (images.paths, images.sha256):
            raise SourceError(f"The images of '{self.found.root}' were changed between two stages; run the command again.")
        self._images = images
