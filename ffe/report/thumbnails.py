"""Image files -> small pictures that stand inside a page, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from ffe.base.text import plain
from ffe.errors import DecodeError

SIDE = 160  # pixels of the longer side: more than a gallery shows, so that a photo can be enlarged
_QUALITY = 70


@dataclass(frozen=True)
class Thumbnail:
    """A small picture.

    Attributes:
        uri: ``data:image/jpeg;base64,...``, or an SVG tile for a picture that is gone.
        width, height: pixels, in [1, side].
        found: whether it shows the picture.
    """

    uri: str
    width: int
    height: int
    found: bool


def thumbnail(file: Path | None, name: str, side: int = SIDE) -> Thumbnail:
    """Return a small picture of a file, upright and in its own shape.

    Args:
        file: an image file; None = not at hand.
        name: what to write on the grey tile where the picture cannot be shown.
        side: pixels of the longer side.

    Returns:
        The picture as JPEG; or a grey tile, never an error, if it is gone or damaged.
    """
    from PIL import Image

    from ffe.images.decode import decode, read_image, upright_size

    if file is None:
        return _tile(name, side)
    try:
        data = read_image(file)
        height, width = upright_size(data)
        scale = side / max(height, width, side)
        size = max(1, round(height * scale)), max(1, round(width * scale))
        pixels = decode(data, size, "fast")
    except (DecodeError, ValueError):  # a null character in a path is a ValueError
        return _tile(name, side)
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=_QUALITY, optimize=True)
    return Thumbnail(f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}", size[1], size[0], True)


def thumbnails(files: Sequence[tuple[Path | None, str]], *, side: int = SIDE, workers: int | None = None) -> list[Thumbnail]:
    """Return small pictures of many files, in their order.

    Args:
        files: (image file, name) of each.
        side: pixels of the longer side.
        workers: threads; None = one for each core.
    """
    from concurrent.futures import ThreadPoolExecutor

    from ffe.base.system import cores

    with ThreadPoolExecutor(workers or cores()) as pool:
        return list(pool.map(lambda item: thumbnail(item[0], item[1], side), files))


def _tile(name: str, side: int) -> Thumbnail:
    """Return a grey square with the end of a name on it."""
    letters = plain(name.replace("\\", "/").rsplit("/", 1)[-1], 42)
    lines = [letters[i : i + 14] for i in range(0, len(letters), 14)][:4]
    text = "".join(f'<text x="48" y="{40 + 13 * i}">{escape(line)}</text>' for i, line in enumerate(lines))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}" viewBox="0 0 96 96">'
        '<rect width="96" height="96" fill="#8a8a8a"/><path d="M36 12h24v14h-24z" fill="none" stroke="#fff" stroke-width="2"/>'
        f'<g fill="#fff" font-family="system-ui,sans-serif" font-size="10" text-anchor="middle">{text}</g></svg>'
    )
    return Thumbnail(f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}", side, side, False)


@dataclass(frozen=True)
class Shot:
    """A picture on the page with what stands below it.

    Attributes:
        key: its number in the album.
        path: its whole name.
        notes: short lines below it.
        wrong: whether it shows a mistake.
    """

    key: int
    path: str
    notes: tuple[str, ...] = ()
    wrong: bool = False


class Album:
    """Collects the pictures that a page shows."""

    def __init__(self) -> None:
        self._keys: dict[tuple[Path | None, str], int] = {}
        self._made: list[Thumbnail] = []

    def __contains__(self, item: tuple[Path | None, str]) -> bool:
        return item in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, file: Path | None, path: str) -> int:
        """Return the number of a picture; it is taken into the album if it is new."""
        return self._keys.setdefault((file, path), len(self._keys))

    def shot(self, file: Path | None, path: str, *notes: str, wrong: bool = False) -> Shot:
        """Return a picture with the lines below it."""
        return Shot(self.key(file, path), path, notes, wrong)

    def make(self) -> None:
        """Make all pictures that were asked for."""
        self._made = thumbnails(list(self._keys))

    def __getitem__(self, key: int) -> Thumbnail:
        return self._made[key]

    @property
    def gone(self) -> int:
        """Pictures that could not be shown."""
        return sum(not picture.found for picture in self._made)
