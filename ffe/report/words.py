"""Numbers and foreign text -> words that are safe and short enough to show on a page."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

from ffe.base.text import counted as counted
from ffe.base.text import listed as listed

THIN = "\u202f"  # a narrow space that does not break
_NOTHING = "–"
_LONGEST = 300

# what turns the direction of the text around it: shown by its number, so that a name cannot pass for another
_TURNING = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}

_BREAKS = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def plain(text: object, longest: int = _LONGEST) -> str:
    """Return any text so that it can be written as UTF-8 and seen as it is.

    Control characters and undecodable bytes are shown as ``\\n`` and ``\\x80``,
    characters that turn the direction of the text as ``\\u202e``; the middle of a
    very long text is left out. HTML is not escaped here.

    Args:
        text: a path, a name, a sentence.
        longest: characters that are kept.
    """
    shown = str(text)
    if len(shown) > longest:
        half = longest // 2
        shown = f"{shown[:half]} … {shown[-half:]}"
    return "".join(map(_visible, shown)) if not (shown.isascii() and shown.isprintable()) else shown


def _visible(letter: str) -> str:
    code = ord(letter)
    if letter in _BREAKS:
        return _BREAKS[letter]
    if code < 0x20 or 0x7F <= code < 0xA0:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code in _TURNING or code in {0x2028, 0x2029}:
        return f"\\u{code:04x}"
    if 0xD800 <= code <= 0xDFFF or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
        return "\ufffd"
    return letter


def prose(text: object) -> str:
    """Return a sentence or two on one line, of at most 2,000 characters."""
    return plain(" ".join(str(text).split()), 2000)


def short_path(path: str) -> str:
    """Return the folder and the name at the end of a path, about 40 characters."""
    return plain("/".join(path.replace("\\", "/").rstrip("/").split("/")[-2:]), 40)


def is_number(value: object) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, numbers.Real) and math.isfinite(value)


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share in [0, 1] as ``97.9 %``; what is not all is never rounded to all, nor a little to nothing."""
    if value is None or not math.isfinite(value):
        return _NOTHING
    least = 10.0**-digits
    if value in (0, 1):
        return f"{100 * value:.0f}{THIN}%"
    if 100 * value > 100 - least / 2 and value < 1:
        return f">{100 - least:.{digits}f}{THIN}%"
    if 0 < 100 * value < least / 2:
        return f"<{least:.{digits}f}{THIN}%"
    return f"{100 * value:.{digits}f}{THIN}%"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many digits that count: ``0.0481``, ``12``, ``1,234``."""
    if value is None or not math.isfinite(value):
        return _NOTHING
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def span(pair: Sequence[float] | None, *, share: bool = True) -> str:
    """Return an interval, (low, high), as ``96.3 to 98.9 %``, or as two numbers."""
    if pair is None or len(pair) != 2 or not all(is_number(end) for end in pair):
        return ""
    low, high = ((percent if share else number)(end) for end in pair)
    return f"{low.removesuffix(f'{THIN}%')} to {high}"


def duration(seconds: float | None) -> str:
    """Return a time for people: ``0.42 s``, ``12 s``, ``3 min 20 s``, ``1 h 4 min``."""
    if seconds is None or not math.isfinite(seconds):
        return _NOTHING
    if seconds == 0:
        return f"0{THIN}s"
    if seconds < 0.995:
        return f"{seconds:.2f}{THIN}s"
    if seconds < 9.95:
        return f"{seconds:.1f}{THIN}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{THIN}s"
    if whole < 3600:
        return f"{whole // 60}{THIN}min" + (f" {whole % 60}{THIN}s" if whole % 60 else "")
    return f"{whole // 3600}{THIN}h {whole % 3600 // 60}{THIN}min"


def of_a_hundred(accuracy: float, interval: Sequence[float] | None, n: int) -> str:
    """Return an accuracy in words.

    Args:
        accuracy: in [0, 1].
        interval: (low, high) of it, or None.
        n: photos tested.

    Returns:
        ``Of 100 new photos like these, about 98 would be named rightly; with 280
        tested photos it may be 96 to 99.`` The ends are rounded to the nearest,
        as the interval beside it is; only where both are the same they have a digit more.
    """
    nearest = round(100 * accuracy)
    about = f"about {nearest}"
    if nearest == 100 and accuracy < 1:
        about = "more than 99"
    elif accuracy in (0, 1):
        about = "nearly all" if accuracy else "hardly any"
    sentence = f"Of 100 new photos like these, {about} would be named rightly"
    if interval is None or not span(interval):
        return f"{sentence} ({counted(n, 'photo')} tested)."
    low, high = (round(100 * end) for end in interval)
    ends = f"{low} to {high}" if low < high else span(interval).removesuffix(f"{THIN}%")
    return f"{sentence}; with {counted(n, 'tested photo')} it may be {ends}."
