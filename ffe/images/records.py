"""What a source says of one image, the names of splits, and what a user should know of a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from ffe.redaction import redacted

Split = Literal["", "train", "valid", "test"]
# nothing is made of a source before what is refused is mended
Level = Literal["refused", "warning", "note"]
LEVELS: tuple[Level, ...] = get_args(Level)

SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}  # what a split may be called, in small letters


class LabelledPath(NamedTuple):
    """An image as its source names it: empty texts = none; ``line`` of the CSV from 1, 0 = there is none.

    ``url`` is where it is read from, with its secrets, of which ``path`` has none.
    """

    path: str
    label: str
    split: Split = ""
    group: str = ""
    line: int = 0
    url: str = ""


@dataclass(frozen=True)
class Finding:
    """Something about a source that a user should know."""

    level: Level
    text: str  # what it is and what to do, in a sentence or two
    lines: tuple[int, ...] = ()  # of the CSV, from 1; empty where it is no matter of lines

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", redacted(self.text))
