"""A Python process that works for this one: with another backend of Keras, or with libraries that this one is better without."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import IO, Any

from ffe.base.stopping import stop_as_by_ctrl_c
from ffe.errors import EngineError, one_line

_PATIENCE = 5.0  # seconds in which a process that is not needed any more may clear its temporary folders away


class HelperProcess:
    """Calls functions in a process of its own, which ends with this one; ``preload`` is imported there at once.

    Nothing is waited for but answers. What the functions print is lost. To those there, the packages ``without`` are not
    installed.
    """

    def __init__(self, preload: Sequence[str] = (), without: Sequence[str] = (), **environment: str) -> None:
        run = f"from ffe.base.helper_process import serve; serve({list(preload)!r}, {list(without)!r})"
        code = f"import sys; sys.path[:] = {sys.path!r}; {run}"
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, **environment},
        )
        self._lock = threading.Lock()
        self._of = os.getpid()

    def is_usable(self) -> bool:
        """Return whether it is there, and not that of a process which this one was forked from."""
        return self._of == os.getpid() and self._process.poll() is None

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a function of a module, called there, returns, and raise what it raises.

        An EngineError says that the process has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            try:
                pickle.dump((function, arguments), self._process.stdin)
                self._process.stdin.flush()
                done, answer = pickle.load(self._process.stdout)  # noqa: S301  # of our own making
            except BaseException as error:  # else its answer would be taken for that of the next call
                self._process.terminate()
                try:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(_PATIENCE)
                finally:  # a second Ctrl-C does not leave it behind
                    self._process.kill()
                    self._process.wait()
                if not isinstance(error, (OSError, EOFError, pickle.UnpicklingError)):
                    raise
                self._said.seek(0)
                last = self._said.read().decode(errors="replace").strip().splitlines()[-1:]
                raise EngineError(
                    f"A process that works for this one has ended ({last[0] if last else one_line(error)}); "
                    "run the command again, and see whether memory is short."
                ) from error
        if not done:
            raise answer
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._said.close()


_keras: HelperProcess | None = None


def keras_process(*preload: str) -> HelperProcess | None:
    """Return a process that has Keras, on OpenVINO, for as long as this one runs; None = this one has Keras itself, or must.

    For what builds with Keras and trains nothing, which needs no TensorFlow. What is ``preload`` is imported there if it is
    started now.
    """
    global _keras
    if "keras" in sys.modules or importlib.util.find_spec("openvino") is None:
        return None
    if _keras is None or not _keras.is_usable():
        _keras = keras_on_openvino(*preload)
    return _keras


def keras_on_openvino(*preload: str) -> HelperProcess:
    """Start a process that has Keras on OpenVINO alone; its backend cannot change once it is loaded."""
    return HelperProcess(["keras", *preload], ["tensorflow", "jax", "torch"], KERAS_BACKEND="openvino")


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process that has Keras on OpenVINO: that of ``keras_process``, or one for this call alone."""
    if _keras is not None and _keras.is_usable():
        return _keras.call(function, *arguments)
    process = keras_on_openvino()
    try:
        return process.call(function, *arguments)
    finally:
        process.close()


def with_keras(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that builds with Keras and computes nothing, where Keras is: see ``keras_process``."""
    process = keras_process()
    return function(*arguments) if process is None else process.call(function, *arguments)


class _Without:
    """Finds no module of some packages; a None in ``sys.modules`` would be taken for the package."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in self._packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def serve(preload: Sequence[str], without: Sequence[str]) -> None:
    """Answer calls until there are no more: the other end of ``HelperProcess``."""
    sys.meta_path.insert(0, _Without(without))  # type: ignore[arg-type]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both
    stop_as_by_ctrl_c()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(KeyboardInterrupt):  # what it is of ends this process
        for name in preload:
            with contextlib.suppress(Exception):  # who needs it says what is missing
                importlib.import_module(name)
        _answer(answers)


def _answer(answers: IO[bytes]) -> None:
    while True:
        try:
            function, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301  # of our own making
        except EOFError:
            return
        try:
            answer = (True, function(*arguments))
        except Exception as error:
            answer = (False, _portable(error))
        pickle.dump(answer, answers)
        answers.flush()


def _portable(error: Exception) -> Exception:
    """Return an error that can be sent: itself, or one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        return RuntimeError(one_line(error))
    return error
