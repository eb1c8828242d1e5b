"""SIGTERM and SIGHUP, as of ``kill``, ``timeout`` and a terminal that is closed: they do what Ctrl-C does."""

from __future__ import annotations

import atexit
import contextlib
import signal
import sys
import time
from typing import Any

GRACE = 10.0  # seconds; a helper process that is not needed any more may take half of them


def stop_as_by_ctrl_c() -> None:
    """Raise a KeyboardInterrupt on either signal, so that temporary folders go; the process still ends by the signal.

    Of those that come less than ``GRACE`` seconds later nothing happens, for where a terminal or a session ends, several are
    sent. One that comes after that ends the process at once. A signal that is ignored stays so, as under ``nohup``.

    To be called before other modules note what they do in the end, for that is done in the opposite order.
    """
    received: list[tuple[int, float]] = []  # the first, and when

    def end_by(number: int) -> None:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def stop(number: int, frame: Any) -> None:
        if not received:
            received.append((number, time.monotonic()))
            raise KeyboardInterrupt
        if time.monotonic() - received[0][1] >= GRACE:
            end_by(number)

    def end() -> None:
        if received:
            with contextlib.suppress(OSError, ValueError):  # that nobody reads, or that is closed
                sys.stdout.flush()
            end_by(received[0][0])

    atexit.register(end)
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stop)
