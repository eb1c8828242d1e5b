"""Every error that ffe raises on purpose.

    FfeError
    ├── SpecError               an option has a value that ffe does not know
    ├── SourceError             the folder, CSV or list of images cannot be used
    ├── DecodeError             one image cannot be decoded (extraction turns it into a /skipped row)
    ├── BackboneError           no such backbone, layer or input size
    │   └── WeightsError        its weights are missing, or do not fit
    ├── EngineError             no such engine, or it cannot run here
    ├── StoreError              a feature file is missing, damaged or not ours
    │   ├── StaleStoreError     ... or was made by another spec than the one asked for
    │   └── DiskFullError       ... or there is no room for it
    ├── DataError               the rows cannot be split, fitted or scored
    ├── HeadError               no such head or parameter
    ├── ReportError             a report cannot be written where it is to go
    └── BundleError             a model file is missing, damaged or not ours
        └── ModelMismatchError  ... or was made for other features or classes

Each message is one plain sentence, or two, and says what to do next. The
command line prints it behind ``ffe: `` and leaves with the code 3.
"""

from __future__ import annotations

import errno
import os

from ffe.redaction import redacted

__all__ = [
    "BackboneError",
    "BundleError",
    "DataError",
    "DecodeError",
    "DiskFullError",
    "EngineError",
    "FfeError",
    "HeadError",
    "ModelMismatchError",
    "ReportError",
    "SourceError",
    "SpecError",
    "StaleStoreError",
    "StoreError",
    "WeightsError",
]


def one_line(error: BaseException) -> str:
    """Return what a library's error says, with its kind, on one line of at most 200 characters, without secrets of URLs."""
    return " ".join(redacted(f"{type(error).__name__}: {error}").split())[:200]


_SIGNS_OF_FULL_MEMORY = (
    *("out of memory", "out_of_memory", "outofmemory", "bad_alloc", "bad alloc", "bad allocation"),
    *("resourceexhausted", "resource_exhausted", "oom when", "insufficient memory", "not enough memory"),
    *("cannot allocate", "can't allocate", "could not allocate", "failed to allocate", "unable to allocate"),
    *("memory allocation failed", "terminatedworkererror", "brokenprocesspool"),  # of the last two, memory is the usual cause
)


def ran_out_of_memory(error: BaseException) -> bool:
    """Return whether something, or what it was raised from, failed for want of memory; every library says so in its own way."""
    seen: BaseException | None = error
    while seen is not None:
        text = f"{type(seen).__name__} {seen}".lower()
        if isinstance(seen, MemoryError) or any(sign in text for sign in _SIGNS_OF_FULL_MEMORY):
            return True
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False


def sentence_of(error: BaseException, less_memory: str) -> str | None:
    """Return the sentence of an error of ours, or for want of memory, with what takes ``less_memory``; None = it has none."""
    ours = isinstance(error, FfeError)
    if not ran_out_of_memory(error) or (ours and "memory" in str(error)):
        return str(error) if ours else None
    what = " ".join(str(error).split())
    said = f" ({what})" if isinstance(error, MemoryError) and 0 < len(what) <= 150 else ""
    return f"There is not enough memory{said}; {less_memory and less_memory + ', or '}close other programs."


_UNWRITTEN = {
    errno.ENOSPC: "the disk of '{folder}' is full; make room there",
    getattr(errno, "EDQUOT", -1): "your share of the disk of '{folder}' is used up; make room there",
    errno.EFBIG: "the disk of '{folder}', or a limit of yours (ulimit -f), takes no file so large; raise it",
    errno.EROFS: "the disk of '{folder}' can only be read; mount it for writing",
    errno.EACCES: "'{folder}' may not be written to; allow it (chmod)",
    errno.EPERM: "'{folder}' may not be written to; allow it (chmod)",
    errno.EIO: "the disk of '{folder}' or the connection to it fails; look after it",
}


def is_unwritten(error: OSError) -> bool:
    """Return whether an error comes of writing alone: what may not be read, or fails then, has others in common with it."""
    return error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", -1), errno.EFBIG, errno.EROFS}


def unwritten(path: str | os.PathLike[str], error: OSError, what: str = "file") -> str:
    """Return the sentence for an output that cannot be written: which file, called ``what``, why, and what to do."""
    folder = os.path.dirname(os.path.abspath(os.path.realpath(path)))
    why = _UNWRITTEN.get(error.errno or 0, f"{error.strerror or error}; mend that").format(folder=folder)
    return f"The {what} '{os.fspath(path)}' cannot be written: {why}, or choose another place."


def missing(what: str, *packages: str, instead: str = "") -> str:
    """Return the sentence for packages that are not installed; ``what`` needs them, ``instead`` does without them.

    It names them as the package index does, and no extra of ours: that is right wherever ffe came from.
    """
    one = len(packages) == 1
    return (
        f"{what} needs the package{'' if one else 's'} {' and '.join(packages)}, which {'is' if one else 'are'} not installed; "
        f"install {'it' if one else 'them'} with 'pip install {' '.join(packages)}'{f', or {instead}' if instead else ''}."
    )


class FfeError(Exception):
    """Base of all errors that ffe raises on purpose; passwords and signatures of URLs are left out of what they say."""

    def __str__(self) -> str:
        return redacted(super().__str__())


class SpecError(FfeError):
    """An option, or a field of a file, has a value that ffe does not know."""


class SourceError(FfeError):
    """The folder, CSV or list of images cannot be used."""


class DecodeError(FfeError):
    """One image cannot be decoded.

    Attributes:
        reason: one of ``missing``, ``not-a-file``, ``unreadable``, ``empty``,
            ``not-an-image``, ``truncated``, ``broken``, ``too-large``, ``unsupported``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str]]:
        """Travel to other processes with the reason."""
        return type(self), (self.reason, str(self))


class BackboneError(FfeError):
    """There is no such backbone, layer or input size."""


class WeightsError(BackboneError):
    """The weights of a backbone are missing, or do not fit it."""


class EngineError(FfeError):
    """There is no such engine, or it cannot run on this machine."""


class StoreError(FfeError):
    """A feature file is missing, damaged, or was not written by ffe."""


class StoreInUseError(StoreError):
    """A feature file cannot be opened now, whatever it holds."""


class StaleStoreError(StoreError):
    """A feature file was made by another spec than the one asked for."""


class DiskFullError(StoreError):
    """There is not enough room on the disk; what was computed is kept."""


class DataError(FfeError):
    """The rows at hand cannot be split, fitted or scored."""


class HeadError(FfeError):
    """There is no such head, or no such parameter."""


class ReportError(FfeError):
    """A report cannot be written where it is to go."""


class BundleError(FfeError):
    """A model file is missing, damaged, or was not written by ffe."""


class ModelMismatchError(BundleError):
    """A model was made for other features or classes than the ones given."""
