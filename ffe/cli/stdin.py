"""What comes on standard input: one image, or a list of paths."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from ffe.errors import DecodeError, SourceError
from ffe.images.csv_list import encoding_of

PEEK_BYTES = 4096
LONGEST_LINE = 1 << 16
_NUMBER = rb"(?:\s|#[^\r\n]*[\r\n])++\d++"  # and what stands before it in a header; pictures of black and white have two
_PNM = re.compile(rb"P(?:[14]|[2356]%b)%b%b\s" % ((_NUMBER,) * 3))
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def is_image(head: bytes) -> bool:
    """Return whether standard input, by its first bytes, is an image rather than a list of paths."""
    from ffe.images.guards import kind_of

    if encoding_of(head) is not None:
        return False
    try:
        kind = kind_of(head)
    except DecodeError as error:
        return error.reason == "unsupported"  # a picture, though of a kind that ffe does not read
    if kind == "PPM":
        return _PNM.match(head) is not None
    # some images start with letters, as a name may (BM, GIF8); but names have no control characters
    return not head[:2].isalpha() or _CONTROL.search(head[:32]) is not None


def listed_paths(head: bytes, stdin: BinaryIO, *, null: bool) -> Iterator[str]:
    """Yield the paths of a list, of which ``head`` was read already; bytes that are no UTF-8 stay as ``os.fsdecode`` has them.

    Paths end with a line, or where ``null`` is given with a zero byte. A SourceError says that it is no list.
    """
    end = b"\0" if null else b"\n"
    rest = b""
    for block in _utf8(head, stdin):
        *lines, rest = (rest + block).split(end)
        for line in lines:
            yield from _path(line, null)
        if len(rest) > LONGEST_LINE:
            raise SourceError("A line on standard input is too long for a path; give one path on each line, or one image.")
    yield from _path(rest, null)


def _path(line: bytes, null: bool) -> Iterator[str]:
    if not null:
        line = line.rstrip(b"\r")
        if b"\0" in line:
            raise SourceError(
                "Standard input is neither a picture nor a list of paths with one on each line: it holds zero bytes; "
                "for paths that end with one, as 'find -print0' writes them, add -0."
            )
    if line.strip():
        yield os.fsdecode(line)


def _utf8(head: bytes, stdin: BinaryIO) -> Iterator[bytes]:
    """Yield standard input block by block, as UTF-8 without a mark at its start."""
    encoding = encoding_of(head) or "utf-8-sig"
    blocks = iter(lambda: stdin.read(PEEK_BYTES), b"")
    if encoding == "utf-8-sig":  # not decoded: not all names are text
        yield head.removeprefix(codecs.BOM_UTF8)
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in chain([head], blocks):
            yield decoder.decode(block).encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise SourceError(f"The list on standard input is no {encoding.upper()} text ({error}); save it as UTF-8.") from error
