"""The body of a request -> photos in memory. Nothing is written to disk."""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ffe.images.input_files import NAMELESS

MOST_PHOTOS = 256  # in one request
MOST_EXPLAINED = 16  # likewise, for each takes as long as many answers


class BrokenFormError(Exception):
    """The body is no multipart form, or ends before its end."""


class TooManyPhotosError(Exception):
    """The form has more parts than it may have."""


class OnePhoto:
    """A body that is the file of a photo."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Take the next piece of the body."""
        self._pieces.append(piece)

    def photos(self) -> list[tuple[str, bytes]]:
        """Return its name, which it has not, and its content."""
        return [(NAMELESS, b"".join(self._pieces))]


class Form:
    """A multipart form whose parts are photos, each called as its file is; parsed as it comes.

    Raises:
        BrokenFormError: the content type names no boundary, or too long a one; ``add`` and ``photos``: it is no form of it.
        TooManyPhotosError: from ``add``.
    """

    def __init__(self, content_type: str, most: int = MOST_PHOTOS) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise BrokenFormError
        self._most, self._photos = most, list[tuple[str, bytearray]]()
        self._header, self._value, self._ended = b"", b"", False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._add_to_header,
                    "on_header_value": self._add_to_value,
                    "on_header_end": self._name,
                    "on_part_data": lambda data, start, end: self._photos[-1][1].extend(data[start:end]),
                    "on_end": self._end,
                },
            )
        except FormParserError as error:  # the boundary is too long
            raise BrokenFormError from error

    def add(self, piece: bytes) -> None:
        """Take the next piece of the body."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise BrokenFormError from error

    def photos(self) -> list[tuple[str, bytes]]:
        """Return the name and the content of each part."""
        if not self._ended:
            raise BrokenFormError
        return [(name, bytes(content)) for name, content in self._photos]

    def _begin(self) -> None:
        if len(self._photos) == self._most:
            raise TooManyPhotosError
        self._photos.append((NAMELESS, bytearray()))

    def _add_to_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _name(self) -> None:
        if self._header.lower() == b"content-disposition":
            name = parse_options_header(self._value.decode("latin-1"))[1].get(b"filename")
            if name:
                self._photos[-1] = (name.decode(errors="replace"), bytearray())
        self._header = self._value = b""

    def _end(self) -> None:
        self._ended = True
