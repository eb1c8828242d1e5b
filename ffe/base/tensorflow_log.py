"""Keep what TensorFlow writes to standard error while it is imported, or converts, away from the user."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

# lines of absl's log, of TensorFlow's own before it, the second line of one of them, of TensorFlow Lite's, and of Ray's
_GREETING = re.compile(
    rb"WARNING: All log messages before absl::|[IWE]\d{4} [\d:.]+ |\d{4}-\d\d-\d\d [\d:.]+: [IWE] |To enable the following instr"
    rb"|INFO: |fully_quantize: |\[\d{4}-\d\d-\d\d [\d:,]+ [IWE] \d+ \d+\] "
)


class Lossy(io.FileIO):
    """A descriptor whose reader may be gone or whose disk may be full: what cannot be written is lost, and nothing stops."""

    def write(self, data: Any) -> int:
        """Write what can be written, and say that all of it was."""
        try:
            return super().write(data) or len(data)
        except OSError:
            return len(data)


def text_on(raw: io.FileIO, encoding: str | None = None, errors: str | None = "backslashreplace") -> io.TextIOWrapper:
    """Return a text stream that writes each line at once."""
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding or "utf-8", errors, line_buffering=True)


def hold_descriptors() -> None:
    """Take the descriptors 0, 1 and 2 where they are closed: else a file gets the number, and what libraries print."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY)  # cannot be written to, so that no answer is lost in silence
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


@contextlib.contextmanager
def without_greetings() -> Iterator[None]:
    """Hold back what is not Python's on descriptor 2, and write it afterwards without greetings; all of it after an error."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":  # somebody wants them
        yield
        return
    try:
        kept, file = os.dup(2), tempfile.TemporaryFile()  # noqa: SIM115
    except OSError:  # there is no standard error, or no place for a file: nothing is held back
        yield
        return
    stream, beside = sys.stderr, None
    try:
        stream.flush()
        if stream.fileno() == 2:
            beside = Lossy(os.dup(kept), "w")
            sys.stderr = text_on(beside, stream.encoding, stream.errors)
    except (AttributeError, OSError, ValueError):  # it is closed, or no file
        pass
    os.dup2(file.fileno(), 2)
    failed = False
    try:
        yield
    except Exception:
        failed = True
        raise
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        if beside is not None:
            sys.stderr.flush()
            sys.stderr = stream
            beside.__init__(2, "w", closefd=False)  # type: ignore[misc]  # stays open for handlers that kept it
        file.seek(0)
        with contextlib.suppress(OSError):  # standard error is a pipe that nobody reads
            os.write(2, b"".join(line for line in file if failed or not _GREETING.match(line)))
        file.close()
