"""Where the time of a run goes, and which stage holds the others up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Stage = Literal["read", "decode", "backbone", "write"]


@dataclass
class Stages:
    """Seconds of a run, by stage; the stages overlap, so they do not add up to the run.

    Attributes:
        read: of all threads together, reading and hashing files.
        decode: processor time of all threads together, decoding and resizing.
        backbone: in which the engine was at work.
        write: writing features to disk.
        decoding: how long decoding took, waiting for a core included; what reading is compared with.
        waited_for_images, waited_for_backbone, waited_for_disk: in which the
            run could do nothing but wait for that stage.
    """

    read: float = 0.0
    decode: float = 0.0
    backbone: float = 0.0
    write: float = 0.0
    decoding: float = 0.0
    waited_for_images: float = 0.0
    waited_for_backbone: float = 0.0
    waited_for_disk: float = 0.0

    @property
    def limit(self) -> Stage:
        """The stage that the run waited for longest."""
        images: Stage = "read" if self.read > self.decoding else "decode"
        waits: dict[Stage, float] = {"backbone": self.waited_for_backbone}
        waits[images] = self.waited_for_images
        waits["write"] = self.waited_for_disk
        return max(waits, key=lambda stage: waits[stage])

    def to_json(self) -> dict[str, float | str]:
        """Return the seconds of the four stages, and ``limit``."""
        seconds = {stage: round(getattr(self, stage), 3) for stage in ("read", "decode", "backbone", "write")}
        return {**seconds, "limit": self.limit}
