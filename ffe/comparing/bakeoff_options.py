"""What a bake-off of backbones is asked for, as one value."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ffe.base.clock import Clock
from ffe.base.text import quoted
from ffe.errors import SpecError
from ffe.extraction.stage_times import Progress
from ffe.finetuning.training_options import parts_of
from ffe.images.limits import Limits
from ffe.tuning.search import SearchProgress


@dataclass(frozen=True, kw_only=True)
class BakeoffOptions:
    """What ``ffe.bakeoff`` is asked for; its docstring says what each means."""

    source: str | os.PathLike[str]
    backbones: tuple[str, ...]  # as the user named them, each once, two at least
    output: Path
    weights: str
    seconds: float
    trials: int
    test_fraction: float
    seed: int
    workers: int | None
    limits: Limits  # larger files are skipped
    report: str | os.PathLike[str] | None
    progress: Callable[[Progress], None]
    on_trials: Callable[[SearchProgress], None]
    clock: Clock  # runs since the call began

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> Self:
        """Return the value of the keywords of ``ffe.bakeoff``."""
        rest = dict(keywords)
        seconds, weights, trials = rest["seconds"], rest["weights"], rest["trials"]
        clock = Clock(time.monotonic(), seconds)
        if not 0 < seconds < 1e7:
            raise SpecError(f"a budget of {seconds:g} seconds cannot be kept; give one above 0 with --seconds.")
        if weights not in {"imagenet", "random"}:
            raise SpecError(
                f"The weights '{weights}' cannot be those of several backbones; leave --weights out, and put files of weights "
                "where 'ffe backbones' finds them."
            )
        if trials < 1:
            raise SpecError(f"trials are {trials}, but must be 1 or more.")
        rest |= {
            "backbones": _names(parts_of(rest["backbones"])),
            "output": Path(_folder_of(rest["source"]) if rest["output"] is None else rest["output"]),
            "limits": Limits.taken_from(rest),
        }
        return cls(**rest, clock=clock)


def _names(names: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in names if name.strip())
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise SpecError(f"The backbone {quoted(twice)[0]} is named twice; name each once.")
    if len(names) < 2:
        raise SpecError(
            "A bake-off needs two backbones at least; name them with --backbones A,B (a single one is what 'ffe extract' and "
            "'ffe tune' are for)."
        )
    return names


def _folder_of(source: str | os.PathLike[str]) -> str:
    """Return the name of the folder that a source's bake-off is in where none is named: ``photos-bakeoff``."""
    return f"{Path(os.path.realpath(source)).stem or 'photos'}-bakeoff"
