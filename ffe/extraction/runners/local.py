"""Run a plan in this process: decoding threads -> engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Self

from ffe.base.feature_layout import FeatureLayout
from ffe.base.system import cores
from ffe.engines.base import Engine, EngineFacts
from ffe.engines.factory import open_engine
from ffe.extraction.feature_file import Plan
from ffe.extraction.pipeline import ImageFeatures, Pipeline
from ffe.extraction.request import Job
from ffe.extraction.stage_times import Stages
from ffe.extraction.views import counts_of
from ffe.images.loader import ImageStream


def open_images(job: Job, positions: Sequence[int]) -> ImageStream:
    """Return the images of some records, being decoded as soon as they are asked for."""
    made: dict[str, Any] = {}
    if job.views is not None:
        counts = counts_of((job.records[i] for i in positions), job.views, len(positions))
        made = {"views": lambda index: range(1 + counts[index]), "augment": job.views.augment}
    images = ImageStream(
        (job.records[i].file for i in positions),
        job.spec.preprocess,
        workers=job.options.workers,
        limits=job.options.limits,
        **made,
    )
    if job.views is not None:
        images.ahead = max(2, images.ahead // (1 + job.views.count))
    return images


class LocalRunner:
    """The runner of this process."""

    def __init__(self, job: Job) -> None:
        self.opening = 0.0
        self.nodes: Mapping[str, int] = {}
        self._job = job
        self._prefetched: ImageStream | None = None
        self._images: ImageStream | None = None
        self._pipeline: Pipeline | None = None

    @property
    def engine(self) -> EngineFacts | None:
        """What runs the backbone."""
        engine = None if self._pipeline is None else self._pipeline.engine
        return None if engine is None else EngineFacts.of(engine)

    @property
    def stages(self) -> Stages:
        """Where the time went so far."""
        return Stages() if self._pipeline is None else self._pipeline.stages

    @property
    def workers(self) -> int:
        """Threads that decode now."""
        return cores() if self._images is None else self._images.workers

    def prefetch(self, positions: Sequence[int]) -> None:
        """Begin to decode, while the backbone is made."""
        self._prefetched = open_images(self._job, positions)
        self._prefetched.prefetch()

    def run(self, plan: Plan, opened: Callable[[FeatureLayout], None]) -> Generator[list[ImageFeatures]]:
        """Yield what became of the files, batch by batch."""

        def open_backbone() -> Engine:
            before = time.monotonic()
            options = plan.job.options
            engine = open_engine(
                plan.spec,
                plan.job.weights,
                name=options.engine,
                batch_size=options.batch_size,
                quantized=plan.quantized,
                images=sum(plan.known.missing),
            )
            opened(engine.layout)
            self.opening += time.monotonic() - before
            return engine

        self.opening = 0.0
        prefetched, self._prefetched = self._prefetched, None
        with prefetched or open_images(plan.job, plan.known.read) as self._images:
            self._pipeline = Pipeline(
                self._images, open_backbone, batch_size=plan.job.options.batch_size, dtype=plan.spec.dtype, known=plan.has
            )
            yield from self._pipeline

    def noted(self) -> Mapping[str, Sequence[int]]:
        """Return what was noted of files."""
        return {} if self._images is None else self._images.noted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End the threads that decode, where nothing asked for their images."""
        if self._prefetched is not None:
            self._prefetched.__exit__(*error)
