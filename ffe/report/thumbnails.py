"""Image files -> small pictures that stand inside a page, as data URIs."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np

from ffe.base.text import plain
from ffe.errors import DecodeError
from ffe.explaining.overlay import overlay
from ffe.images.image_handle import ImageFile
from ffe.specs import PreprocessSpec

SIDE = 160  # pixels of the longer side: more than a gallery shows, so that a photo can be enlarged
_QUALITY = 70


@dataclass(frozen=True)
class Thumbnail:
    """A small picture."""

    uri: str  # ``data:image/jpeg;base64,...``, or an SVG tile for a picture that is gone
    # width, height: pixels, in [1, SIDE]
    width: int
    height: int
    found: bool  # whether it shows the picture


@dataclass(frozen=True, eq=False)
class Heat:
    """A map over what the network sees of a picture; see ``ffe.explaining.overlay.overlay``."""

    cells: np.ndarray  # float32 (h, w), log-odds
    exact: bool  # whether each is of one cell alone
    preprocess: PreprocessSpec  # how the network is given pictures


def thumbnail(file: ImageFile | None, name: str, heat: Heat | None = None) -> Thumbnail:
    """Return a small upright picture of an image file, or of a map over it; a grey tile where the file is gone or damaged."""
    from PIL import Image

    from ffe.images.decode import decode, read_image, upright_size

    if file is None:
        return _tile(name)
    try:
        data = read_image(file)
        height, width = upright_size(data) if heat is None else heat.preprocess.size
        scale = SIDE / max(height, width, SIDE)
        size = max(1, round(height * scale)), max(1, round(width * scale))
        if heat is None:
            picture = Image.fromarray(decode(data, PreprocessSpec(size, "none", decode="fast")))
        else:
            seen = overlay(decode(data, heat.preprocess), heat.cells, exact=heat.exact)
            picture = Image.fromarray(seen).resize(size[::-1], Image.Resampling.BILINEAR)
    except (DecodeError, ValueError):  # a null character in a path is a ValueError
        return _tile(name)
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=_QUALITY, optimize=True)
    return Thumbnail(_uri("jpeg", jpeg.getvalue()), size[1], size[0], True)


def _tile(name: str) -> Thumbnail:
    letters = plain(name.replace("\\", "/").rsplit("/", 1)[-1], 42)
    lines = [letters[i : i + 14] for i in range(0, len(letters), 14)][:4]
    text = "".join(f'<text x="48" y="{40 + 13 * i}">{escape(line)}</text>' for i, line in enumerate(lines))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIDE}" height="{SIDE}" viewBox="0 0 96 96">'
        '<rect width="96" height="96" fill="#8a8a8a"/><path d="M36 12h24v14h-24z" fill="none" stroke="#fff" stroke-width="2"/>'
        f'<g fill="#fff" font-family="system-ui,sans-serif" font-size="10" text-anchor="middle">{text}</g></svg>'
    )
    return Thumbnail(_uri("svg+xml", svg.encode()), SIDE, SIDE, False)


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@dataclass(frozen=True)
class Shot:
    """A picture on the page: its number in the album, its whole name, short lines below it, and whether it shows a mistake.

    ``heat`` is the number of the same under its map; None = there is none.
    """

    key: int
    path: str
    notes: tuple[str, ...] = ()
    wrong: bool = False
    heat: int | None = None


class Album:
    """Collects the pictures that a page shows."""

    def __init__(self) -> None:
        self._keys: dict[tuple[ImageFile | None, str, Heat | None], int] = {}
        self._made: list[Thumbnail] = []

    def __contains__(self, item: tuple[ImageFile | None, str]) -> bool:
        return (*item, None) in self._keys

    def __getitem__(self, key: int) -> Thumbnail:
        return self._made[key]

    def key(self, file: ImageFile | None, path: str, heat: Heat | None = None) -> int:
        """Return the number of a picture; it is taken into the album if it is new."""
        return self._keys.setdefault((file, path, heat), len(self._keys))

    def shot(self, file: ImageFile | None, path: str, *notes: str, wrong: bool = False, heat: Heat | None = None) -> Shot:
        """Return a picture with the lines below it."""
        return Shot(self.key(file, path), path, notes, wrong, None if heat is None else self.key(file, path, heat))

    def make(self) -> None:
        """Make all pictures that were asked for, in threads."""
        from ffe.images.loader import threads_for

        with ThreadPoolExecutor(threads_for(file for file, _, _ in self._keys)) as pool:
            self._made = list(pool.map(lambda item: thumbnail(*item), self._keys))

    @property
    def gone(self) -> int:
        """Pictures that could not be shown."""
        return sum(not picture.found for (_, _, heat), picture in zip(self._keys, self._made, strict=True) if heat is None)
