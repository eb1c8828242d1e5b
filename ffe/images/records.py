"""What a source says of one image, the names of splits, and what a user should know of a source."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from ffe.base.texts import Repeated, Texts
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


class LabelledPaths(Sequence[LabelledPath]):
    """Images as a source names them, in columns: a list of them takes four times as much memory."""

    def __init__(self, images: Iterable[LabelledPath] = ()) -> None:
        self.paths, self.labels, self.splits, self.groups = Texts(), Repeated[str](), Repeated[Split](), Repeated[str]()
        self.lines, self._urls = array("i"), Texts()
        for image in images:
            self.append(image)

    def append(self, image: LabelledPath) -> None:
        """Put an image behind the others."""
        path, label, split, group, line, url = image
        if url and not self._urls:
            self._urls = Texts([""] * len(self))
        if url or self._urls:
            self._urls.append(url)
        self.paths.append(path)
        self.labels.append(label)
        self.splits.append(split)
        self.groups.append(group)
        self.lines.append(line)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        """Return the image at a position."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return LabelledPath(self.paths[index], *self._rest(index))

    def _rest(self, index: int) -> tuple[str, Split, str, int, str]:
        url = self._urls[index] if self._urls else ""
        return self.labels[index], self.splits[index], self.groups[index], self.lines[index], url


@dataclass(frozen=True)
class Finding:
    """Something about a source that a user should know."""

    level: Level
    text: str  # what it is and what to do, in a sentence or two
    lines: tuple[int, ...] = ()  # of the CSV, from 1; empty where it is no matter of lines

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", redacted(self.text))
