"""Processes that were forked from one with native threads: they have its objects, and none of its threads."""

from __future__ import annotations

import os
import sys

from ffe.errors import EngineError

HOW_TO_START = "start processes with multiprocessing.get_context('spawn')"

_tensorflow_is_lost = False
_torch_process: int | None = None  # that PyTorch began to compute in; those that were forked from it see it too


def check_same_process(process: int, what: str) -> None:
    """Raise an EngineError where this is not the process in which ``what`` began: its threads are not here."""
    if process != os.getpid():
        raise EngineError(f"{what} cannot go on in a forked process; begin anew in each process, or {HOW_TO_START}.")


def check_tensorflow() -> None:
    """Raise an EngineError where TensorFlow ran before a fork: without its threads it would wait for ever."""
    if _tensorflow_is_lost:
        raise EngineError(
            "TensorFlow cannot work in a process that was forked from one which has used it; "
            f"{HOW_TO_START}, or use the engine openvino."
        )


def check_torch() -> None:
    """Call it before PyTorch computes: raises an EngineError where it did so before a fork, and would wait for ever."""
    global _torch_process
    _torch_process = _torch_process or os.getpid()
    check_same_process(_torch_process, "PyTorch")


def _in_child() -> None:
    global _tensorflow_is_lost
    context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    _tensorflow_is_lost = _tensorflow_is_lost or bool(getattr(context, "_initialized", False))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
