"""Numbers, durations, sizes, shares, counts and names, as people write them."""

from __future__ import annotations

import contextlib
import difflib
import math
import numbers
import os
import re
import shlex
import subprocess
import unicodedata
from collections.abc import Iterable, Sequence


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return ``1 photo``, ``2 photos``, ``1,234 photos``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def is_are(count: int) -> str:
    """Return ``is`` or ``are``."""
    return "is" if count == 1 else "are"


def none_could(count: int, one: str) -> str:
    """Return ``None of the 12 files could``, ``The only file could not``."""
    return f"The only {one} could not" if count == 1 else f"None of the {counted(count, one)} could"


def last_layers(count: int) -> str:
    """Return ``the last layer``, ``the last 6 layers``."""
    return "the last layer" if count == 1 else f"the last {counted(count, 'layer')}"


def listed(names: Sequence[str], last: str) -> str:
    """Return ``cat``, ``cat or dog``, ``cat, dog or emu``; ``last`` is the word before the last name."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"


def few(names: Sequence[str], most: int = 3) -> str:
    """Return the first names and how many more there are: ``a``, ``a, b and c``, or ``a, b, c and 7 more``."""
    if len(names) > most:
        names = [*names[:most], f"{len(names) - most:,} more"]
    return listed(names, "and") if names else ""


def quoted(names: Iterable[str]) -> list[str]:
    """Return each name in quotes."""
    return [f"'{name}'" for name in names]


def quoted_argument(text: str) -> str:
    """Return an argument as it is typed in a shell: in Windows' own that is not the way of the others."""
    return subprocess.list2cmdline([text]) if os.name == "nt" else shlex.quote(text)


def composed(name: str) -> str:
    """Return a name in the form NFC, in which ``é`` is one character: names that look the same are then equal."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def numbered(count: int) -> tuple[str, ...]:
    """Return ``photo 1``, ``photo 2``, and so on: names that tell nothing."""
    return tuple(f"photo {i}" for i in range(1, count + 1))


def relabelled(names: Iterable[str], class_names: Sequence[str]) -> list[int]:
    """Return the label among ``class_names`` of each of the names, and behind them -1, which the label -1 (none) finds there."""
    labels = {name: label for label, name in enumerate(class_names)}
    return [*(labels[name] for name in names), -1]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'svm'?``, or nothing where no known name is near; capitals do not count."""
    near = nearest(name, known)
    return f" Did you mean '{near}'?" if near is not None else ""


def nearest(name: str, known: Iterable[str], alike: float = 0.6) -> str | None:
    """Return the known name that is spelt most like one, by ``difflib``'s ratio; None = none is so much ``alike``."""
    names = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.strip().lower(), names, 1, alike)
    return names[near[0]] if near else None


def near_file(path: str | os.PathLike[str]) -> str:
    """Return `` Did you mean 'photos'?`` of a path that is not there, where a name beside it is near; else nothing."""
    folder, name = os.path.split(os.fspath(path).rstrip("/\\"))
    with contextlib.suppress(OSError):
        names = sorted(entry for entry in os.listdir(folder or ".") if not entry.startswith("."))
        if meant := did_you_mean(name, names):
            return meant.replace("mean '", f"mean '{os.path.join(folder, '')}")
    return ""


# endings of other formats; one that is not known may stay
_PICTURES = {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".gif", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".jp2", ".heic", ".svg"}
_PICTURES |= {".ico", ".ppm", ".pgm", ".pbm", ".tga", ".psd", ".eps"}
_TABLES = {".csv", ".tsv", ".json", ".npz", ".npy", ".parquet", ".pkl", ".joblib", ".h5"}
_MODELS = {".ffe", ".onnx", ".keras", ".pt", ".pth", ".safetensors", ".tflite"}
_TEXTS = {".html", ".md", ".txt", ".log", ".xml", ".yaml", ".yml", ".pdf", ".rtf", ".doc", ".docx", ".xls", ".xlsx", ".ods"}
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"}
FILE_ENDINGS = _PICTURES | _TABLES | _MODELS | _TEXTS | _ARCHIVES
_FORMATS = {
    "features": (".h5", "HDF5", FILE_ENDINGS - {".h5"}),
    "model": (".ffe", "ffe's own format", FILE_ENDINGS - {".ffe"} | {".hdf5"}),
    "report": (".html", "HTML", FILE_ENDINGS - {".html"}),
    "table of answers": (".csv", "CSV", FILE_ENDINGS - {".csv"}),
}


def suffix_refusal(path: str | os.PathLike[str], what: str) -> str | None:
    """Return what to say of an output whose ending is that of another format; None = it may stay, as any unknown one.

    ``what``: ``features``, ``model``, ``report`` or ``table of answers``; of anything else nothing is known.
    """
    stem, suffix = os.path.splitext(os.fspath(path))
    right, called, wrong = _FORMATS.get(what, ("", "", set()))
    if suffix.lower() not in wrong:
        return None
    verb = "are" if what == "features" else "is"
    return f"The {what} {verb} written as {called}, not as '{suffix}'; name the output '{stem}{right}'."


FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")  # by which a spreadsheet takes the cell of a CSV for a formula


def no_formula(text: str) -> str:
    """Return a text of a CSV with an apostrophe before it where a spreadsheet would calculate it; numbers stay numbers."""
    if not text.startswith(FORMULA_SIGNS):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


OVERWRITE = "--overwrite (in Python overwrite=True)"
REPLACE = f"choose another output, or replace it with {OVERWRITE}"


def overwrite_refusal(path: str | os.PathLike[str], what: str, *, overwrite: bool) -> str | None:
    """Return what to say of a ``feature file`` or ``model file`` that exists; None = there is none, or it was asked for.

    What takes long to make is replaced only where ``overwrite`` is given. Pages, pictures and tables of ffe always are, files
    that are none of ffe's never.
    """
    if overwrite or not os.path.exists(path):
        return None
    return f"'{path}' exists and is {f'a {what}' if os.path.getsize(path) else 'empty'}; {REPLACE}."


def url_refusal(path: str | os.PathLike[str]) -> str | None:
    """Return what to say of a URL where a file or folder is wanted; None = it is none."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text := os.fspath(path)):  # pathlib leaves one slash of two
        return None
    only = f"'{text}' is a URL, and ffe works with files on this machine only"
    return f"{only}; name a file or folder here, and download first what is to be read."


THIN = "\u202f"  # a narrow space that does not break

_NOTHING = "–"

# what turns the direction of the text around it, and breaks of lines: shown by number, so that a name cannot pass for another
_TURNING = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029)
_NO_CHARACTERS = (*range(0xFDD0, 0xFDF0), *(code for first in range(0xFFFE, 0x110000, 0x10000) for code in (first, first + 1)))
_SHOWN = {
    **dict.fromkeys((*range(0xD800, 0xE000), *_NO_CHARACTERS), "\ufffd"),
    **{0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)},  # of a file name that is not UTF-8
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    **{code: f"\\u{code:04x}" for code in _TURNING},
    **str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"}),
}


def plain(text: object, longest: int = 300) -> str:
    """Return any text so that it can be written as UTF-8 and seen as it is, its middle left out where it is longer.

    Control characters and undecodable bytes become ``\\n`` and ``\\x80``; HTML is not escaped.
    """
    shown = str(text)
    if len(shown) > longest:
        half = longest // 2
        shown = f"{shown[:half]} … {shown[-half:]}"
    return shown.translate(_SHOWN)


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
    """Return a share in [0, 1] as ``97.9 %``, with a narrow space; never all or none of it where that is not so."""
    if value is None or not math.isfinite(value):
        return _NOTHING
    least = 10.0**-digits
    text = f"{100 * value:.{0 if value in (0, 1) else digits}f}"
    if float(text) == 100 and value < 1:
        text = f">{100 - least:.{digits}f}"
    elif float(text) == 0 and value > 0:
        text = f"<{least:.{digits}f}"
    return f"{text}{THIN}%"


def share_text(value: float) -> str:
    """Return a share as ``percent`` does, with an ordinary space, for terminals."""
    return percent(value).replace(THIN, " ")


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
    """Return a time for pages, with narrow spaces: ``0.42 s``, ``12 s``, ``3 min 20 s``, ``1 h 4 min``."""
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


def duration_text(seconds: float) -> str:
    """Return a time for terminals: ``42 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def rough_duration(seconds: float) -> str:
    """Return an estimated time: ``1 s`` at least, ``90 s``, ``2 min``, ``80 min``."""
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{max(1.0, seconds):.0f} s"


def of_a_hundred(accuracy: float, interval: Sequence[float] | None, n: int) -> str:
    """Return an accuracy in [0, 1], and its interval, on n photos in words; its ends have a digit only where they are the same.

    ``Of 100 new photos like these, about 98 would be named rightly; with 280 tested photos it may be 96 to 99.``
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


def bytes_text(count: float) -> str:
    """Return a size for people: ``812 B``, ``1.4 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def shorten(name: str, most: int = 30) -> str:
    """Return a name of at most so many characters, its middle left out."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}...{name[-(most - most // 2 - 2) :]}"
