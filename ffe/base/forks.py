"""Processes that were forked from one with native threads: they have its objects, and none of its threads."""

from __future__ import annotations

import os
import sys

from ffe.errors import EngineError

HOW_TO_START = "start processes with multiprocessing.get_context('spawn')"

_tensorflow_is_lost = False


def check_same_process(process: int, what: str) -> None:
    """Refuse to wait for threads that a fork has left behind.

    Args:
        process: the one in which ``what`` began.

    Raises:
        EngineError: this is another one.
    """
    if process != os.getpid():
        raise EngineError(f"{what} cannot go on in a forked process; begin anew in each process, or {HOW_TO_START}.")


def check_tensorflow() -> None:
    """Refuse what would wait for ever.

    Where TensorFlow has run before a fork, its threads are missing in the child,
    and it cannot make new ones.

    Raises:
        EngineError: this is such a process.
    """
    if _tensorflow_is_lost:
        raise EngineError(
            "TensorFlow cannot work in a process that was forked from one which has used it; "
            f"{HOW_TO_START}, or use the engine openvino."
        )


def _in_child() -> None:
    global _tensorflow_is_lost
    context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    _tensorflow_is_lost = _tensorflow_is_lost or bool(getattr(context, "_initialized", False))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
