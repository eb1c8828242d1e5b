"""What a comparison of roads is asked for, as one value."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ffe.backbones.catalog import DEFAULT, check_size, find
from ffe.backbones.convnet import LEAST_SIZE
from ffe.backbones.registry import check_of_keras
from ffe.base.clock import Clock
from ffe.comparing.roads import check_roads
from ffe.errors import SpecError
from ffe.extraction.request import existing_specs
from ffe.extraction.stage_times import Progress
from ffe.finetuning.epochs import Epoch
from ffe.finetuning.trainer import Step
from ffe.finetuning.training_options import parts_of
from ffe.images.augment_text import parse_augment
from ffe.images.limits import Limits
from ffe.specs import ViewsSpec
from ffe.tuning.search import SearchProgress

log = logging.getLogger("ffe")

_MOST_SIZE = 150  # of the convnet's input: what the article gave it


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """What ``ffe.compare`` is asked for; its docstring says what each means."""

    source: str | os.PathLike[str]
    output: Path
    roads: tuple[str, ...]  # in the order of ``ROADS``
    backbone: str  # its name
    size: tuple[int, int]  # (height, width) of its input in pixels
    weights: str
    seconds: float | None
    trials: int | None
    epochs: int | None
    unfreeze: tuple[str, ...]
    views: ViewsSpec  # of each training image
    test_fraction: float
    valid_fraction: float
    seed: int
    workers: int | None
    limits: Limits  # larger files are skipped
    report: str | os.PathLike[str] | None
    progress: Callable[[Progress], None]
    on_trials: Callable[[SearchProgress], None]
    on_decoded: Callable[[int, int], None]
    on_epoch: Callable[[Epoch], None]
    on_step: Callable[[Step], None]
    clock: Clock  # runs since the call began

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> Self:
        """Return the value of the keywords of ``ffe.compare``; without a backbone, that of the features in the folder."""
        rest = dict(keywords)
        clock, seconds, epochs = Clock(time.monotonic(), rest["seconds"]), rest["seconds"], rest["epochs"]
        if seconds is not None and not 0 < seconds < 1e7:
            raise SpecError(f"a budget of {seconds:g} seconds cannot be kept; give one above 0 with --budget.")
        if epochs is not None and not 1 <= epochs <= 10_000:
            raise SpecError(f"epochs are {epochs}, but must be from 1 to 10000.")
        augment, output = rest.pop("augment"), Path(rest["output"])
        backbone, size = _backbone_of(output, rest["backbone"], rest["size"])
        rest |= {
            "output": output,
            "roads": check_roads(parts_of(rest["roads"])),
            "backbone": backbone,
            "size": size,
            "unfreeze": parts_of(rest["unfreeze"]),
            "views": ViewsSpec(rest["views"], parse_augment(augment) if isinstance(augment, str) else augment),
            "limits": Limits.taken_from(rest),
        }
        return cls(**rest, clock=clock)

    @property
    def scratch_size(self) -> tuple[int, int]:
        """(height, width) of the convnet's input in pixels."""
        height, width = (max(LEAST_SIZE, min(_MOST_SIZE, side)) for side in self.size)
        return height, width


def _backbone_of(output: Path, backbone: str | None, size: int | tuple[int, int] | None) -> tuple[str, tuple[int, int]]:
    """Return the name of the backbone, and (height, width) of its input."""
    if backbone is None:
        own, _ = existing_specs(output / "features.h5")
        backbone, size = (DEFAULT, size) if own is None else (own.backbone.name, size or own.preprocess.size)
        if own is not None and backbone != DEFAULT:
            log.info("the features in '%s' were made with the backbone %s: going on with that", output, backbone)
    check_of_keras(backbone, "training cannot be compared with it")
    row = find(backbone)
    side = row.size if size is None else size
    height_width = (side, side) if isinstance(side, int) else side
    check_size(row, height_width)
    return backbone, height_width
