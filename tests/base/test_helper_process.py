"""Functions that are called in a process of its own."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffe.base.helper_process import HelperProcess
from ffe.errors import EngineError


@pytest.fixture(scope="module")
def helper() -> Iterator[HelperProcess]:
    helper = HelperProcess(["no_such_module", "colorsys"], ["wave"], FFE_TEST_SAYS="so")
    yield helper
    helper.close()


def say_and_count(text: str) -> int:
    print(text)
    return len(text)


def complain(name: str) -> None:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class OddError(Exception):
    """It cannot be sent."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def complain_oddly() -> None:
    raise OddError(1, 2)


def leave() -> None:
    os.write(2, b"first\nno room left\n")
    os._exit(3)


def test_answers_come_back_and_prints_do_not(helper: HelperProcess, capfd: pytest.CaptureFixture[str]) -> None:
    assert helper.call(os.getpid) != os.getpid()
    assert helper.call(os.getenv, "FFE_TEST_SAYS") == "so"
    assert [helper.call(say_and_count, text) for text in ("one", "four")] == [3, 4]
    assert "colorsys" in helper.call(list, helper.call(_modules))
    assert capfd.readouterr() == ("", "")


def _modules() -> list[str]:
    return list(sys.modules)


def test_errors_come_back(helper: HelperProcess) -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'x'") as caught:
        helper.call(complain, "x")
    assert caught.value.name == "x"
    with pytest.raises(ModuleNotFoundError, match="No module named 'wave'"):
        helper.call(importlib.import_module, "wave")
    with pytest.raises(RuntimeError, match="1 and 2"):
        helper.call(complain_oddly)
    assert helper.is_usable()


def test_a_process_that_ends_is_said() -> None:
    helper = HelperProcess()
    message = (
        r"^A process that works for this one has ended \(no room left\); "
        r"run the command again, and see whether memory is short\.$"
    )
    with pytest.raises(EngineError, match=message):
        helper.call(leave)
    assert not helper.is_usable()
    helper.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_does_not_take_it_over(helper: HelperProcess) -> None:
    if (child := os.fork()) == 0:
        os._exit(helper.is_usable())
    assert os.waitpid(child, 0)[1] == 0
    assert helper.is_usable()


def interrupt_the_caller(folder: str) -> str:
    with tempfile.TemporaryDirectory(dir=folder):
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(60)
    return "an answer that nobody waits for"


def be_interrupted(folder: str) -> tuple[str, bool]:
    """Return what a call whose caller is interrupted gives, and whether its process is usable after that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    helper = HelperProcess()
    try:
        answer = helper.call(interrupt_the_caller, folder)
    except KeyboardInterrupt:
        answer = "interrupted"
    usable = helper.is_usable()
    helper.close()
    return answer, usable


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system sends no interrupts to one process")
def test_a_process_whose_call_was_interrupted_is_used_no_more_and_leaves_nothing(tmp_path: Path) -> None:
    """In a process of its own: an interrupt that came too early or too late here would end the run of the tests."""
    caller = HelperProcess()
    assert caller.call(be_interrupted, str(tmp_path)) == ("interrupted", False)
    assert not list(tmp_path.iterdir())
    caller.close()


@contextlib.contextmanager
def helper_where(number: signal.Signals, then: signal.Handlers) -> Iterator[HelperProcess]:
    """Start one where a signal is ignored, or is not."""
    before = signal.signal(number, then)
    try:
        helper = HelperProcess()
    finally:
        signal.signal(number, before)
    yield helper
    helper.close()


def be_stopped(folder: str, number: int) -> None:
    with tempfile.TemporaryDirectory(dir=folder):
        os.kill(os.getpid(), number)
        time.sleep(60)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process at once")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_process_that_is_stopped_leaves_nothing(tmp_path: Path, name: str) -> None:
    number = signal.Signals[name]
    with helper_where(number, signal.SIG_DFL) as helper:
        with pytest.raises(EngineError, match=r"^A process that works for this one has ended"):
            helper.call(be_stopped, str(tmp_path), number)
        assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_signal_that_is_ignored_stays_so() -> None:
    """As under nohup."""
    with helper_where(signal.SIGHUP, signal.SIG_IGN) as helper:
        assert helper.call(signal.getsignal, signal.SIGHUP) == signal.SIG_IGN
