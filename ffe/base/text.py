"""Words that any sentence for users may need: counts, names in a row, equal names, and the nearest of known names."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return ``1 photo``, ``2 photos``, ``1,234 photos``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


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
    shown = list(names[:most])
    if len(names) > most:
        shown.append(f"{len(names) - most:,} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def quoted(names: Iterable[str]) -> list[str]:
    """Return each name in quotes."""
    return [f"'{name}'" for name in names]


def composed(name: str) -> str:
    """Return a name in the form NFC, in which ``é`` is one character: names that look the same are then equal."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def numbered(count: int) -> tuple[str, ...]:
    """Return ``photo 1``, ``photo 2``, and so on: names that tell nothing."""
    return tuple(f"photo {i}" for i in range(1, count + 1))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'svm'?``, or nothing where no known name is near; capitals do not count.

    Args:
        name: what was asked for.
        known: the names that there are.
    """
    names = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.strip().lower(), names, n=1)
    return f" Did you mean '{names[near[0]]}'?" if near else ""


def near_file(path: str | os.PathLike[str]) -> str:
    """Return `` Did you mean 'photos'?`` of a path that is not there, where a name beside it is near; else nothing."""
    folder, name = os.path.split(os.fspath(path).rstrip("/\\"))
    with contextlib.suppress(OSError):
        names = sorted(entry for entry in os.listdir(folder or ".") if not entry.startswith("."))
        if meant := did_you_mean(name, names):
            return meant.replace("mean '", f"mean '{os.path.join(folder, '')}")
    return ""


_FORMATS = {
    "features": (".h5", "HDF5", {".csv", ".npz", ".npy", ".parquet", ".json", ".pkl", ".ffe", ".onnx", ".keras", ".html"}),
    "model": (
        ".ffe",
        "ffe's own format",
        {".h5", ".hdf5", ".keras", ".pkl", ".joblib", ".onnx", ".csv", ".json", ".pt", ".html"},
    ),
    "report": (".html", "HTML", {".pdf", ".png", ".jpg", ".svg", ".docx", ".md", ".csv", ".json", ".h5", ".ffe"}),
}


def suffix_refusal(path: str | os.PathLike[str], what: str) -> str | None:
    """Return what to say of an output whose ending is that of another format; None = it may stay, as any unknown one.

    Args:
        path: the output.
        what: ``features``, ``model`` or ``report``.
    """
    stem, suffix = os.path.splitext(os.fspath(path))
    right, called, wrong = _FORMATS[what]
    if suffix.lower() not in wrong:
        return None
    verb = "are" if what == "features" else "is"
    return f"The {what} {verb} written as {called}, not as '{suffix}'; name the output '{stem}{right}'."


REPLACE = "choose another output, or replace it with --overwrite"


def overwrite_refusal(path: str | os.PathLike[str], what: str, *, overwrite: bool) -> str | None:
    """Return what to say of an output that exists; None = there is none, or it was asked for.

    The rule for all commands: what takes long to make, feature files and
    models, is replaced only where ``overwrite`` is given, and refused before
    anything is computed. A feature file of the same spec is brought up to date
    instead. Pages, pictures and tables of ffe are made again in seconds, and
    replaced. What is none of ffe's is never replaced, and neither is an input
    of the same command, but for the model that ``finetune`` goes on from.

    Args:
        path: the output.
        what: what is there: ``feature file`` or ``model file``.
        overwrite: whether it may be replaced.
    """
    if overwrite or not os.path.exists(path):
        return None
    return f"'{path}' exists and is {f'a {what}' if os.path.getsize(path) else 'empty'}; {REPLACE}."


def url_refusal(path: str | os.PathLike[str]) -> str | None:
    """Return what to say of a URL where a file or folder is wanted; None = it is none.

    ``pathlib`` makes ``https:/example.org`` of ``https://example.org``, which is known too.
    """
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text := os.fspath(path)):
        return None
    return f"'{text}' is a URL, and ffe works with files on this machine only; download it first, and give the file or folder."
