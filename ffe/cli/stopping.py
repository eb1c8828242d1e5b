"""SIGTERM and SIGHUP, as of ``kill``, ``timeout`` and a terminal that is closed: they do what Ctrl-C does."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from typing import Any


def stop_as_by_ctrl_c() -> None:
    """Raise a KeyboardInterrupt on either signal, so that temporary folders go; the process still ends by the signal.

    To be called before other modules note what they do in the end, for that is done in the opposite order.
    """
    received: list[int] = []

    def stop(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends it at once
        received.append(number)
        raise KeyboardInterrupt

    def end() -> None:
        if received:
            with contextlib.suppress(OSError, ValueError):  # that nobody reads, or that is closed
                sys.stdout.flush()
            os.kill(os.getpid(), received[0])

    atexit.register(end)
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one
            signal.signal(number, stop)
