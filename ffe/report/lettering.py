"""Text on pictures: a font of the machine that has its letters, or Pillow's own and its few."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont

# usual names on Linux, macOS and Windows; Pillow knows where each keeps its fonts
_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "segoeui.ttf"),
    *("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "msyh.ttc"),
)
_LIKE = {"×": "x", "−": "-", "–": "-", "’": "'"}
_NO_LETTER = "\U0010fffd"  # fonts draw a box for it


def lettering(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont | ImageFont.ImageFont]:
    """Return a font for a text, and the text as that font can write it.

    Args:
        text: one line.
        size: height in pixels.

    Returns:
        The text as it is, where a font of the machine has all its letters;
        otherwise with similar letters, or question marks, for those missing.
    """
    for name in _FONTS:
        font = _font(name, size)
        if font is not None and all(_has(name, size, letter) for letter in set(text)):
            return text, font
    usual = next((name for name in _FONTS if _font(name, size) is not None), "")
    letters = (c if _has(usual, size, c) else _LIKE.get(c, "?") for c in text)
    return "".join(letters), _font(usual, size) or ImageFont.load_default(size)


@lru_cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont | None:
    """Return a font of the machine, or Pillow's own for no name; None where there is none."""
    if not name:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(name, size)
    except (OSError, ImportError):  # no such file, or a Pillow without FreeType
        return None


@lru_cache(4096)
def _has(name: str, size: int, letter: str) -> bool:
    """Return whether a font can write a letter."""
    font = _font(name, size)
    return font is not None and (letter.isspace() or bytes(font.getmask(letter)) != bytes(font.getmask(_NO_LETTER)))
