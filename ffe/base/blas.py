"""BLAS held to the thread that asks, by all who need that, in one way: its number of threads is one for the whole process."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_inside = 0  # how many are in the block
_limit: Any = None  # of threadpoolctl, while there are any
_keeper: ThreadPoolExecutor | None = None  # one thread: threadpoolctl lets only the thread that has set a limit lift it
_libraries: tuple[int, ThreadpoolController] | None = None  # those that were loaded when there were so many modules


def _begin() -> Any:
    global _libraries
    modules = len(sys.modules)
    if _libraries is None or _libraries[0] != modules:  # it takes milliseconds
        try:
            _libraries = modules, ThreadpoolController()
        except OSError:  # it opens each, and a server may have no free file descriptor
            if _libraries is None:
                raise
    return _libraries[1].limit(limits=1, user_api="blas").__enter__()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread; it has as many as before once all that are in such a block have left it."""
    global _inside, _limit, _keeper
    with (mine := _lock):
        _keeper = _keeper or ThreadPoolExecutor(1, thread_name_prefix="ffe-blas")
        if not _inside:
            _limit = _keeper.submit(_begin).result()
        _inside += 1
    try:
        assert _libraries is not None
        with _libraries[1].limit(limits=1, user_api="blas"):  # of this thread: MKL, and BLAS on OpenMP, have one for each
            yield
    finally:
        with mine:
            if mine is _lock:  # else this process was forked from within
                _inside -= 1
                if not _inside:
                    _keeper.submit(_limit.__exit__, None, None, None).result()


def _begin_anew() -> None:
    """In a forked process nobody is in a block, and the thread that held BLAS is not there."""
    global _lock, _inside, _keeper
    held, _lock, _inside, _keeper = _inside, threading.Lock(), 0, None
    if held:
        _limit.__exit__(None, None, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
