"""What a scan of a source found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ffe.images.records import Finding, Level


@dataclass(frozen=True)
class Advice:
    """What was found and what to do, in a sentence or two; ``refused``: nothing can be learnt before it is mended."""

    level: Level
    text: str


@dataclass(frozen=True)
class ClassCount:
    """One class."""

    name: str
    photos: int  # how many of it can be read
    different: int  # how many of these are left where those that belong together count once
    splits: dict[str, int]  # split -> photos of it; empty where the source gives no splits
    skipped: int  # files of it that cannot be read

    @property
    def training(self) -> int:
        """Photos that may train."""
        return self.photos - self.splits.get("valid", 0) - self.splits.get("test", 0)


@dataclass(frozen=True)
class Spread:
    """Least, middle and largest of some numbers."""

    least: float
    median: float
    most: float


@dataclass(frozen=True)
class Dimensions:
    """How large the photos are, in pixels, standing upright; the aspect is width / height."""

    width: Spread
    height: Spread
    aspect: Spread
    smaller: int  # photos that are smaller than the backbone's input in height or width
    elongated: int  # photos that are more than twice as long one way as the other


@dataclass(frozen=True)
class SkippedFile:
    """A file that extraction would skip, and why; ``reason`` is one of ``DecodeError``'s; ``line`` of the CSV, 0 = none."""

    path: str
    reason: str
    message: str
    line: int = 0

    def message_and_line(self) -> str:
        """Return the message, and the line of the CSV, for people."""
        return f"{self.message} (line {self.line:,})" if self.line else self.message


@dataclass(frozen=True)
class OtherEnding:
    """A file whose name ends as that of another format."""

    path: str
    format: str


@dataclass(frozen=True)
class Twins:
    """Photos that are the same, or nearly."""

    cause: str  # ``the same file``, or ``saved again or resized``
    paths: tuple[str, ...]  # at least two
    labels: tuple[str | None, ...]  # the class of each; None = no label
    splits: tuple[str, ...]  # the split of each; empty = none


@dataclass(frozen=True)
class ScanResult:
    """What ``ffe scan`` found.

    Attributes:
        source: the folder or CSV.
        kind: how it was understood; see ``ffe.images.sources.Scan``.
        files: files that it names.
        photos: those that can be read; all that follows is of these.
        unlabelled: those without a label.
        bytes: their sizes together.
        classes: in the order of their names.
        splits: split -> photos; empty where the source gives none.
        formats, colours: name -> photos, the most frequent first.
        animated: photos of which only the first picture is taken.
        dimensions: None where nothing can be read.
        twins: groups of equal photos, the largest first.
        skipped: files that extraction would skip.
        left_out: (path, reason) of what lies in the source and is no photo of it.
        other_endings: photos that are named as another format.
        findings: what is odd about the source itself: its folders, the lines of its CSV, the names of its classes.
        backbone, size: what the advice is for; (height, width).
        advice: what to do about it, the gravest first.
        seconds: how long it took.
    """

    source: str
    kind: str
    files: int
    photos: int
    unlabelled: int
    bytes: int
    classes: tuple[ClassCount, ...]
    splits: dict[str, int]
    formats: dict[str, int]
    colours: dict[str, int]
    animated: int
    dimensions: Dimensions | None
    twins: tuple[Twins, ...]
    skipped: tuple[SkippedFile, ...]
    left_out: tuple[tuple[str, str], ...]
    other_endings: tuple[OtherEnding, ...]
    findings: tuple[Finding, ...]
    backbone: str
    size: tuple[int, int]
    advice: tuple[Advice, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return what ``ffe scan --json`` prints."""
        return asdict(self)
