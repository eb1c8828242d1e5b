"""Small pictures with captions, in rows on one sheet, as a picture file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont

from ffe.base.output_file import PICTURE_MARK, check_output, write_output
from ffe.base.text import plain
from ffe.errors import ReportError

LEAST_SIDE, MOST_SIDE = 176, 288  # of a picture on the sheet, in pixels

_PAPER, _INK, _SOFT, _EDGE, _MARK = "#fbfbf9", "#1d2126", "#59616b", "#dddfdc", "#0072b2"  # those of the page
_MARGIN, _GAP, _FRAME = 24, 14, 3
_TITLE, _HEADING, _CAPTION = 24, 17, 13  # heights of letters
_LINE = 1.35  # from one line to the next, in heights


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture, uint8 (H, W, 3), RGB; the words below it, between which a line is broken; and whether it stands out."""

    pixels: np.ndarray
    words: Sequence[str]
    marked: bool = False


@dataclass(frozen=True, eq=False)
class Strip:
    """Pictures of one size that belong together, below a heading; empty = none."""

    heading: str
    tiles: Sequence[Tile]


def check_picture(path: str | Path) -> Path:
    """Return where a picture is to go; a ReportError says that it cannot, or that its ending is of no picture format."""
    place = check_output(path, "picture", "grid.png", PICTURE_MARK)
    kind = Image.registered_extensions().get(place.suffix.lower())
    if kind not in Image.SAVE or kind in {"PDF", "HDF5"}:
        raise ReportError(f"The picture '{place}' has no ending of a picture format; name it '{place.stem}.png'.")
    return place


def write_sheet(place: Path, sheet: Image.Image) -> int:
    """Write a sheet in the format of its ending; return the bytes."""
    content, exif = io.BytesIO(), sheet.getexif()
    exif[ExifTags.Base.Software] = PICTURE_MARK.decode()
    try:
        sheet.save(content, Image.registered_extensions()[place.suffix.lower()], exif=exif)
    except (OSError, ValueError) as error:  # a format may want other colours, or fewer pixels
        raise ReportError(f"The picture '{place}' cannot be written ({error}); name it '{place.stem}.png'.") from error
    return write_output(place, content.getvalue(), "picture")


def contact_sheet(title: str, note: str, strips: Sequence[Strip], columns: int) -> Image.Image:
    """Return an RGB picture of strips, a title and a note (empty = none) above them; all pictures are of one size.

    Each has its own shape, with a longer side of 176 to 288 pixels. A strip of more than ``columns`` goes on in the next row.
    """
    height, width, _ = strips[0].tiles[0].pixels.shape
    scale = min(max(max(height, width), LEAST_SIDE), MOST_SIDE) / max(height, width)
    tall, wide = max(1, round(height * scale)), max(1, round(width * scale))
    pitch = max(wide, LEAST_SIDE) + _GAP
    rows = [
        (strip.heading if not i else "", strip.tiles[i : i + columns])
        for strip in strips
        for i in range(0, len(strip.tiles), columns)
    ]
    captions = [[_lines(tile.words, pitch - _GAP) for tile in tiles] for _, tiles in rows]
    most = max(len(tiles) for _, tiles in rows)
    head = _MARGIN + _step(_TITLE) + (_step(_CAPTION) if note else 0)
    tops, below = [], head + _GAP
    for (heading, _), lines in zip(rows, captions, strict=True):
        below += _step(_HEADING) + _GAP // 2 if heading else 0
        tops.append(below)
        below += tall + _GAP // 2 + max(map(len, lines)) * _step(_CAPTION) + _GAP
    sheet_width = 2 * _MARGIN + most * pitch - _GAP
    sheet = Image.new("RGB", (max(sheet_width, 2 * _MARGIN + 2 * LEAST_SIDE), below + _MARGIN - _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    room = sheet.width - 2 * _MARGIN
    _write(pen, (_MARGIN, _MARGIN), title, _TITLE, _INK, room)
    _write(pen, (_MARGIN, _MARGIN + _step(_TITLE)), note, _CAPTION, _SOFT, room)
    for (heading, tiles), lines, top in zip(rows, captions, tops, strict=True):
        _write(pen, (_MARGIN, top - _step(_HEADING) - _GAP // 2), heading, _HEADING, _INK, room)
        for i, tile in enumerate(tiles):
            left = _MARGIN + i * pitch
            frame = _FRAME if tile.marked else 1
            box = (left - frame, top - frame, left + wide + frame - 1, top + tall + frame - 1)
            pen.rectangle(box, outline=_MARK if tile.marked else _EDGE, width=frame)
            picture = Image.fromarray(tile.pixels)
            sheet.paste(picture if scale == 1 else picture.resize((wide, tall), Image.Resampling.LANCZOS), (left, top))
            for j, line in enumerate(lines[i]):
                place = (left, top + tall + _GAP // 2 + j * _step(_CAPTION))
                _write(pen, place, line, _CAPTION, _MARK if tile.marked else _SOFT, pitch - _GAP)
    return sheet


def _step(height: int) -> int:
    return round(height * _LINE)


def _lines(words: Sequence[str], room: int) -> list[str]:
    """Return the caption of a picture, in lines that fit below it."""
    lines = [*words[:1]]
    for word in words[1:]:
        if _width(f"{lines[-1]}, {word},", _CAPTION) > room:
            lines[-1] += ","
            lines.append(word)
        else:
            lines[-1] += f", {word}"
    return lines


def _width(text: str, height: int) -> float:
    shown, font = lettering(text, height)
    return font.getlength(shown)


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, height: int, colour: str, room: float) -> None:
    """Write one line; the middle of one that is too long is left out."""
    shown = plain(text)
    most = len(shown)
    while _width(shown, height) > room and most > 8:
        most = min(most - 2, int(most * room / _width(shown, height)) + 2)
        shown = plain(f"{text[: most // 2]}…{text[-(most - most // 2) :]}")
    shown, font = lettering(shown, height)
    pen.text(place, shown, colour, font)


# usual names on Linux, macOS and Windows; Pillow knows where each keeps its fonts
_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "segoeui.ttf"),
    *("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "msyh.ttc"),
)
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_LIKE = {"×": "x", "−": "-", "–": "-", "’": "'"}
_NO_LETTER = "\U0010fffd"  # fonts draw a box for it


def lettering(text: str, size: int) -> tuple[str, _Font]:
    """Return a line as a font of so many pixels can write it, and the font; similar letters, or ?, stand for those missing."""
    fonts = [font for name in _FONTS if (font := _font(name, size)) is not None] or [_own_font(size)]
    for font in fonts:
        if all(_has(font, letter) for letter in set(text)):
            return text, font
    return "".join(letter if _has(fonts[0], letter) else _LIKE.get(letter, "?") for letter in text), fonts[0]


_own_font = lru_cache(ImageFont.load_default)


@lru_cache
def _font(name: str, size: int) -> _Font | None:
    """Return a font of the machine; None where there is none."""
    try:
        return ImageFont.truetype(name, size)
    except (OSError, ImportError):  # no such file, or a Pillow without FreeType
        return None


@lru_cache(4096)
def _has(font: _Font, letter: str) -> bool:
    return letter.isspace() or bytes(font.getmask(letter)) != bytes(font.getmask(_NO_LETTER))
