"""What every runner promises; ``ffe.testing.RunnerContract`` checks it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Protocol

from ffe.base.feature_layout import FeatureLayout
from ffe.engines.base import EngineFacts
from ffe.extraction.feature_file import Plan
from ffe.extraction.pipeline import ImageFeatures
from ffe.extraction.request import Job
from ffe.extraction.runners.runner_names import RUNNERS
from ffe.extraction.stage_times import Stages


class Runner(Protocol):
    """Pushes the images of a plan through a backbone: here, or on other machines; as a context it ends what it began.

    It may be given one plan after another; what it says of itself is of the last one.
    """

    @property
    def engine(self) -> EngineFacts | None:
        """What runs the backbone; None until the first image needed it."""
        ...

    @property
    def stages(self) -> Stages:
        """Seconds spent in each stage so far, of all processes together."""
        ...

    @property
    def workers(self) -> int:
        """Threads that decode, of all processes together."""
        ...

    @property
    def opening(self) -> float:
        """Seconds that the run has waited for a backbone to be opened so far."""
        ...

    @property
    def nodes(self) -> Mapping[str, int]:
        """Images, and views, that each machine of a cluster has computed; empty where there is none."""
        ...

    def __enter__(self) -> Runner:
        """Return the runner."""
        ...

    def __exit__(self, *error: object) -> None:
        """End what it began."""
        ...

    def prefetch(self, positions: Sequence[int]) -> None:
        """Begin with some records of the job before there is a plan, as far as that can be done."""
        ...

    def run(self, plan: Plan, opened: Callable[[FeatureLayout], None]) -> Generator[list[ImageFeatures]]:
        """Yield what became of the files of ``plan.known.read``, in order, in lists of any length.

        ``index`` is the position among those files; a file has one item, or one for each view. Features are None where
        ``plan.has`` them already, where an equal file came by, and where an ``error`` says why there are none. ``opened`` is
        called once, with how features lie in a row, before the first of them comes.
        """
        ...

    def noted(self) -> Mapping[str, Sequence[int]]:
        """Return the positions of files that were taken and had better be looked at, by what was noted of them."""
        ...


def open_runner(job: Job) -> Runner:
    """Return the runner that a job asks for."""
    module, _, name = RUNNERS[job.options.runner][0].partition(":")
    runner: Runner = getattr(importlib.import_module(module), name)(job)
    return runner
