"""What a source says of one image, the names of splits, and what a user should know of a source."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, overload

from ffe.base.columns import Made, Numbers, Repeated, Texts, in_pieces, sorted_rows, zeros
from ffe.images.image_handle import ImageFile
from ffe.redaction import redacted

if TYPE_CHECKING:  # it is imported where it is needed: listing is part of the start of every command
    import numpy as np

UNLABELLED = -1

FileOf = Callable[[str], ImageFile]  # where the file of a path lies

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
        self.lines, self._urls = Numbers("i"), Texts()
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
class ImageRecord:
    """One image file that a source names."""

    path: str  # relative to the source, with ``/`` between the parts; unique
    file: ImageFile  # where it lies
    label: int  # index into ``Scan.class_names``; -1 = unlabelled
    split: Split  # ``train``, ``valid``, ``test``, or empty where the source gives none
    # name of what must not be torn apart by a split (a burst, a patient, a video), or empty where the source gives none
    group: str = ""
    line: int = 0  # of the CSV that names it, from 1; 0 = none does

    @classmethod
    def found_later(cls, find: Callable[[], ImageFile], **others: Any) -> ImageRecord:
        """Return a record that finds its file when it is asked for: of most records nobody asks."""
        record = cls.__new__(cls)
        record.__dict__.update(others, _find=find)
        return record

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name != "file" or (find := self.__dict__.get("_find")) is None:
                raise AttributeError(name)
            self.__dict__["file"] = found = find()
            return found


class Records(Sequence[ImageRecord]):
    """The images of a source, in columns; a record is made each time that it is asked for.

    ``labels`` are those of the classes that ``images`` name, ``order`` says which image comes where, uint32 (N,), and ``file_of``
    where the file of a path lies; ``files`` are those of images that are no files of their own, in the order of ``images``.
    """

    def __init__(
        self, images: LabelledPaths, labels: Mapping[str, int], order: np.ndarray, file_of: FileOf, files: Sequence[ImageFile]
    ) -> None:
        self._images, self._order, self._file_of, self._files = images, order, file_of, files
        self._label_of = [labels[name] for name in images.labels.values]

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: int | slice) -> ImageRecord | Records:
        if isinstance(index, slice):
            return self._ordered(self._order[index])
        at, images = int(self._order[index]), self._images
        path = images.paths[at]
        return ImageRecord.found_later(
            partial(self._files.__getitem__, at) if self._files else partial(self._file_of, path),
            path=path,
            label=self._label_of[images.labels.codes[at]],
            split=images.splits[at],
            group=images.groups[at],
            line=images.lines[at],
        )

    def __iter__(self) -> Iterator[ImageRecord]:
        return (self[i] for i in range(len(self)))

    def _ordered(self, order: np.ndarray) -> Records:
        found = copy.copy(self)
        found._order = order
        return found

    @property
    def paths(self) -> Sequence[str]:
        """The paths of the images, without all else."""
        paths, order = self._images.paths, self._order
        return Made(len(order), lambda i: paths[int(order[i])])

    def sorted(self, key: Callable[[str], str]) -> Records:
        """Return the images in the order of what 64 digits a function gives for their paths."""
        import numpy as np

        rows = sorted_rows(map(bytes.fromhex, map(key, self.paths)), 32, len(self))
        order = zeros((len(self),), np.uint32)
        for place, piece in in_pieces(rows["position"], np.uint32, len(self)):
            order[place] = self._order[piece]
        return self._ordered(order)


@dataclass(frozen=True)
class Finding:
    """Something about a source that a user should know."""

    level: Level
    text: str  # what it is and what to do, in a sentence or two
    lines: tuple[int, ...] = ()  # of the CSV, from 1; empty where it is no matter of lines

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", redacted(self.text))
