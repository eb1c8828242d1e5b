"""Standard streams that are closed, full or read by nobody: no data file takes their numbers, and only answers need them."""

from __future__ import annotations

import os
import sys
from io import FileIO
from typing import Any

from ffe.base.tensorflow_log import Lossy, hold_descriptors, text_on

ANSWERS = "standard output"


class _Answers(FileIO):
    """Standard output, whose errors say that they are its own."""

    def write(self, data: Any) -> int:
        """Write, and name standard output where that fails."""
        try:
            return super().write(data) or 0
        except OSError as error:
            raise OSError(error.errno, error.strerror, ANSWERS) from error


def hold_standard_streams() -> None:
    """Take the descriptors 0, 1 and 2 where they are closed, and let nothing but an answer fail by them."""
    hold_descriptors()
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stdout is None or os.name == "posix":  # Windows writes to its console in a way of its own
        encoding, errors = (None, None) if sys.stdout is None else (sys.stdout.encoding, sys.stdout.errors)
        sys.stdout = text_on(_Answers(1, "w", closefd=False), encoding, errors)
    if sys.stderr is None or os.name == "posix":
        sys.stderr = text_on(Lossy(2, "w", closefd=False), None if sys.stderr is None else sys.stderr.encoding)


def unprinted(error: OSError) -> str:
    """Return what to say of an answer that could not be printed, and drop what is left of it, which would fail again."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return f"The answer cannot be written to standard output ({error.strerror}); files that were made are kept."
