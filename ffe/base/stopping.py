"""SIGTERM and SIGHUP, as of ``kill``, ``timeout`` and a closed terminal, do what Ctrl-C does; none breaks into an import."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from ffe.base.tensorflow_log import without_greetings

GRACE = 10.0  # seconds; a helper process that is not needed any more may take half of them
_NAMES = ("SIGTERM", "SIGHUP", "SIGINT")  # Windows has no SIGHUP


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Let a signal that comes in this block be handled after it; outside the main thread, where none is, change nothing."""
    held: list[int] = []
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    usual = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    if threading.current_thread() is not threading.main_thread():
        usual = {}
    try:
        for number in usual:
            signal.signal(number, lambda number, frame: held.append(number))
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        if held:
            usual[held[0]](held[0], None)


class _Finder:
    """Finds what ``PathFinder`` does; has signals held while a library in native code begins, and TensorFlow greet nobody.

    Such a library runs Python meanwhile, and what that raises, a KeyboardInterrupt too, is often said to be an ImportError, as if
    the library did not work: https://github.com/pybind/pybind11/blob/v2.13.6/include/pybind11/detail/common.h
    """

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path)
        if spec is not None and isinstance(loader := spec.loader, ExtensionFileLoader):
            for step in ("create_module", "exec_module"):
                setattr(loader, step, signals_held()(getattr(loader, step)))
        elif spec is not None and spec.loader is not None and name == "tensorflow":
            spec.loader.exec_module = without_greetings()(spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


def watch_imports() -> None:
    """Import libraries in native code whole, and TensorFlow quietly, whenever they come to be imported.

    A signal meanwhile is handled after it. Where ``TF_CPP_MIN_LOG_LEVEL`` is set below 3, TensorFlow is heard.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if PathFinder in sys.meta_path and _Finder not in sys.meta_path:
        sys.meta_path.insert(sys.meta_path.index(PathFinder), _Finder)


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
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done, but Python would now end by a Ctrl-C
        if received:
            with contextlib.suppress(OSError, ValueError):  # that nobody reads, or that is closed
                sys.stdout.flush()
            end_by(received[0][0])

    watch_imports()
    atexit.register(end)
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stop)
