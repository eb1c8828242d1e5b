"""What a training is asked for, as one value; stages as people write them: text or values, one or several."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import operator
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ffe.backbones.convnet import DROPOUT
from ffe.base.clock import Clock
from ffe.base.output_file import check_output_folder
from ffe.bundle.build import check_page, check_place
from ffe.errors import ReportError, SpecError
from ffe.extraction.stage_times import Progress
from ffe.finetuning.epochs import Epoch, tensorboard_log
from ffe.finetuning.trainer import Step
from ffe.finetuning.unfreeze import ALL
from ffe.images.augment_text import parse_augment
from ffe.images.limits import Limits
from ffe.specs import Decode, TrainingSpec


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What ``finetune`` and ``scratch`` are both asked for; their docstrings say what each option means."""

    source: str | os.PathLike[str]
    output: Path
    overwrite: bool
    spec: TrainingSpec  # how to train: the options that ``TrainingSpec`` has, and ``budget`` as its ``seconds``
    split: Mapping[str, str] | None
    workers: int | None
    limits: Limits  # ``max_pixels``, ``max_bytes`` and ``truncated``
    report: Path | None
    anonymous: bool
    tensorboard: Path | None
    on_decoded: Callable[[int, int], None]
    on_epoch: Callable[[Epoch], None]
    on_step: Callable[[Step], None]
    clock: Clock  # runs since the call began

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> Self:
        """Return the value of the keywords of a public function; those of ``TrainingSpec`` become ``spec``."""
        rest = dict(keywords)
        clock = Clock(time.monotonic(), rest["budget"])
        names = {field.name for field in dataclasses.fields(TrainingSpec)} & rest.keys()
        asked = {name: rest.pop(name) for name in names}
        if asked["hold"] is not None and asked["schedule"] != "exponential":
            raise SpecError("--hold belongs to --schedule exponential; add that, or leave --hold out.")
        changes = None if asked["augment"] == "none" else asked["augment"]
        asked |= {
            **{name: read(asked[name]) for name, read in _STAGES.items()},
            "hold": TrainingSpec.hold if asked["hold"] is None else asked["hold"],
            "augment": parse_augment(changes) if isinstance(changes, str) else changes,
        }
        spec = TrainingSpec(**asked, seconds=rest.pop("budget"))
        limits = Limits.taken_from(rest)
        paths = {name: Path(rest[name]) for name in _PATHS & rest.keys() if rest[name] is not None}
        return cls(**{**rest, **paths}, spec=spec, limits=limits, clock=clock)

    def check_outputs(self, *inputs: str | os.PathLike[str]) -> None:
        """Make sure, before anything slow, that the files can be written, and that no input is one of them."""
        check_place(self.output, overwrite=self.overwrite, inputs=(self.source, *inputs))
        check_page(self.report, self.output)
        if self.tensorboard is not None:
            _make_folder(self.tensorboard)

    @contextlib.contextmanager
    def logged(self) -> Iterator[Self]:
        """Lend the same options, whose epochs go into TensorBoard's logs too, if they are wanted."""
        with contextlib.ExitStack() as stack:
            tensorflow = logging.getLogger("tensorflow")
            tensorflow.addFilter(_is_no_tracing_advice)
            stack.callback(tensorflow.removeFilter, _is_no_tracing_advice)
            if self.tensorboard is None:
                yield self
                return
            add = stack.enter_context(tensorboard_log(self.tensorboard))

            def on_epoch(epoch: Epoch) -> None:
                add(epoch)
                self.on_epoch(epoch)

            yield dataclasses.replace(self, on_epoch=on_epoch)


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TrainingOptions):
    """What ``finetune`` is asked for."""

    model: Path
    cache: Path | None
    keep_cache: bool
    weights: str
    engine: str
    progress: Callable[[Progress], None]

    @property
    def folder(self) -> Path:
        """Where activations are kept; without ``cache`` beside the output, and for this one alone."""
        return self.cache if self.cache is not None else self.output.with_name(self.output.name + ".cache")


@dataclass(frozen=True, kw_only=True)
class ScratchOptions(TrainingOptions):
    """What ``scratch`` is asked for."""

    size: int | tuple[int, int]
    plain: bool
    test_fraction: float
    decode: Decode

    @classmethod
    def of(cls, keywords: Mapping[str, Any]) -> Self:
        """Return the value of the keywords; there is one stage, and all of the network learns in it."""
        for name, example in (("epochs", "30"), ("learning_rate", "1e-4")):
            option, count = f"--{name.replace('_', '-')}", len(_STAGES[name](keywords[name]))
            if count != 1:
                raise SpecError(
                    f"A network from scratch is trained in one stage, so {option} takes one value, not {count}; "
                    f"write, for example, {option} {example}."
                )
        plain = {"dropout": 0.0, "augment": None} if keywords["plain"] else {"dropout": DROPOUT}
        return super().of({**keywords, "unfreeze": ALL, **plain})


def parts_of(asked: str | int | Iterable[str | int]) -> tuple[str, ...]:
    """Return ``6,19``, 6, or ``["6", 19]`` as one text for each; nothing for an empty text."""
    if isinstance(asked, str):
        return tuple(part.strip() for part in asked.split(",")) if asked else ()
    return tuple(map(str, asked)) if isinstance(asked, Iterable) else (str(asked),)


def _numbers(asked: Any, kind: Callable[[Any], Any], option: str, takes: str) -> tuple[Any, ...]:
    """Return ``15,10``, 15, or ``[15, 10]`` as numbers."""
    values = asked.split(",") if isinstance(asked, str) else asked if isinstance(asked, Iterable) else (asked,)
    try:
        return tuple(map(kind, values))
    except (TypeError, ValueError):
        raise SpecError(f"{option} is {asked!r}, but takes {takes}.") from None


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, str) else operator.index(value)


_STAGES: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "unfreeze": parts_of,
    "epochs": lambda asked: _numbers(asked, _whole, "--epochs", "whole numbers; write, for example, 15 or 15,10"),
    "learning_rate": lambda asked: _numbers(asked, float, "--learning-rate", "numbers; write, for example, 1e-4 or 1e-4,1e-5"),
}
_PATHS = {"output", "report", "tensorboard", "model", "cache"}


def _is_no_tracing_advice(record: logging.LogRecord) -> bool:
    """Return whether the user is to read it: TensorFlow takes the models of the stages for one that is traced anew each time."""
    return "triggered tf.function retracing" not in str(record.msg)


def _make_folder(board: Path) -> None:
    """Make the folder for TensorBoard's logs, and write to it."""
    check_output_folder(board, "TensorBoard log", ReportError, option="--tensorboard")
    try:
        board.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=board) as file:
            file.write(b"log")
    except OSError as error:
        raise ReportError(
            f"TensorBoard's logs cannot be written into '{board}' ({error.strerror}); name another folder with --tensorboard."
        ) from error
