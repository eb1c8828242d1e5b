"""How far a run is, where its time goes, and which stage holds the others up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal

from ffe.engines.base import EngineFacts

if TYPE_CHECKING:  # they load h5py, which a prediction does without
    from ffe.store.schema import Row, Skipped

Stage = Literal["read", "decode", "backbone", "write"]

_STARVED = 1.5  # times the processor time that decoding takes, where it is not alone on its cores


@dataclass
class Stages:
    """Seconds of a run, by stage; the stages overlap, so they do not add up to the run."""

    read: float = 0.0  # of all threads together, reading and hashing files
    decode: float = 0.0  # processor time of all threads together, decoding and resizing
    backbone: float = 0.0  # in which the engine was at work
    write: float = 0.0  # writing features to disk
    processor: float = 0.0  # processor time of all but the threads that read and decode: of the backbone, in the main
    shared: bool = False  # whether the backbone runs on the cores that decode
    decoding: float = 0.0  # how long decoding took, waiting for a core included; what reading is compared with
    # waited_for_images, waited_for_backbone, waited_for_disk: in which the run could do nothing but wait for that stage
    waited_for_images: float = 0.0
    waited_for_backbone: float = 0.0
    waited_for_disk: float = 0.0

    def __add__(self, other: Stages) -> Stages:
        """Return the seconds of both, of one process after another or of several at once."""
        sums = {each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)}
        return Stages(**{**sums, "shared": self.shared or other.shared})

    @property
    def limit(self) -> Stage:
        """The stage that the run waited for longest; of two that share the cores, the one that takes more of the processor."""
        images: Stage = "read" if self.read > self.decoding else "decode"
        waits = {"backbone": self.waited_for_backbone, images: self.waited_for_images, "write": self.waited_for_disk}
        longest: Stage = max(waits, key=waits.__getitem__)
        if longest in {"decode", "backbone"} and self.shared and self.decoding > _STARVED * self.decode:
            return "decode" if self.decode > self.processor else "backbone"
        return longest

    @property
    def shares(self) -> tuple[float, float] | None:
        """The backbone's and decoding's shares of the processor's time, in [0, 1]; None if they do not share it."""
        both = self.decode + self.processor
        return (self.processor / both, self.decode / both) if self.shared and both else None

    def to_json(self) -> dict[str, float | str]:
        """Return the seconds of the four stages, the backbone's processor time, and ``limit``."""
        seconds = {stage: round(getattr(self, stage), 3) for stage in ("read", "decode", "backbone", "write")}
        return {**seconds, "backbone_processor": round(self.processor, 3), "limit": self.limit}


@dataclass(frozen=True)
class Progress:
    """How far a run is; ``done`` and ``total`` are images, with all their views."""

    done: int
    total: int
    skipped: int  # files so far that gave no row
    rate: float  # images a second that go through the backbone, with their views; 0 before the first
    remaining: float  # seconds left, if the rest must be computed
    stages: Stages  # seconds spent in each stage so far
    nodes: Mapping[str, float] = field(default_factory=dict)  # images and views a second on each machine of a cluster


def no_progress(_: object) -> None:
    """Take no notice of how far a run is."""


@dataclass(frozen=True)
class Computed:
    """What the image loop of a run did: rows, and skipped files, by position among the records."""

    rows: Mapping[int, Row] = field(default_factory=dict)
    skipped: dict[int, Skipped] = field(default_factory=dict)
    count: int = 0  # images, and views, that went through the backbone
    seconds: float = 0.0  # of the loop, without opening the backbone
    engine: EngineFacts | None = None  # what ran it; None if it was not needed
    workers: int = 1  # threads that decoded, at the end
    nodes: Mapping[str, int] = field(default_factory=dict)  # images, and views, by machine of a cluster
    stages: Stages = field(default_factory=Stages)

    @property
    def rate(self) -> float:
        """Images, and views, a second that went through the backbone."""
        return self.count / self.seconds if self.count else 0.0
