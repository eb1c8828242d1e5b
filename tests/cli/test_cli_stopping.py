"""SIGTERM and SIGHUP end a command as Ctrl-C does: no temporary folder is left, and who sent it sees that it worked."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# a command that waits, with a folder of each kind: one that goes with a block, and one that goes when the process ends; the
# first goes once a line was read
_CODE = r"""
import os, signal, sys, tempfile, time
for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):  # nohup ignores one
    signal.signal(number, signal.SIG_DFL)
import ffe.cli.cache as module
from ffe.base import stopping
from ffe.base.system import _temporary_folder
from ffe.cli import main

def wait(**options):
    with tempfile.TemporaryDirectory(prefix="ffe-"):
        _temporary_folder()
        try:
            os.write(1, b"begun\n")  # at once, whatever comes then
            time.sleep(60)
        finally:
            os.write(1, b"clearing\n")
            sys.stdin.readline()
            os.write(1, b"cleared\n")

stopping.GRACE = float(sys.argv[1])
module.command.callback = wait
sys.argv = ["ffe", "cache"]
main()
"""
TERM, HUP = signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process at once")


@contextlib.contextmanager
def clearing(folder: Path, number: signal.Signals, grace: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command, send it a signal, and wait until it clears away."""
    command = [sys.executable, "-c", _CODE, grace]
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, env=environment, **streams) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "begun\n"
        assert len(list(folder.iterdir())) == 2
        process.send_signal(number)
        assert process.stdout.readline() == "clearing\n"
        yield process


@pytest.mark.parametrize("number", [TERM, HUP], ids=lambda number: number.name)
@pytest.mark.parametrize("others", [(), (TERM,), (HUP, TERM, HUP)], ids=len)
def test_a_signal_ends_it_and_leaves_nothing(tmp_path: Path, number: signal.Signals, others: tuple[signal.Signals, ...]) -> None:
    """Others soon after change nothing, as where a terminal is closed and its session ends."""
    with clearing(tmp_path, number, "inf") as process:
        for other in others:
            process.send_signal(other)
        stdout, stderr = process.communicate(timeout=30)
    assert stdout == "cleared\n"
    assert stderr.splitlines()[-1] == "ffe: interrupted"
    assert process.returncode == -number
    assert not list(tmp_path.iterdir())


def test_another_signal_later_ends_it_at_once(tmp_path: Path) -> None:
    with clearing(tmp_path, HUP, "0") as process:
        process.send_signal(TERM)
        assert process.wait(30) == -TERM


_ENDS = r"""
import atexit, os, signal, sys
import ffe.cli.cache as module
from ffe.cli import main

@atexit.register
def last():  # what is asked for first is done last
    os.write(1, b"ending\n")
    os.read(0, 1)

signal.signal(signal.SIGINT, signal.default_int_handler)
module.command.callback = lambda **options: None
sys.argv = ["ffe", "cache"]
main()
"""


def test_ctrl_c_while_python_ends_changes_nothing() -> None:
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", _ENDS], text=True, **streams) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "ending\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate("\n", timeout=30) == ("", "")
    assert process.returncode == 0


# OpenVINO begins as its own code does where a signal comes meanwhile: pybind11 says ImportError of whatever is raised
_BEGINS = r"""
import signal, sys
from importlib.machinery import ExtensionFileLoader
number = signal.Signals[sys.argv[1]]
signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
exec_module = ExtensionFileLoader.exec_module

def begin(self, module):
    if module.__name__ != "openvino._pyopenvino":
        return exec_module(self, module)
    try:
        signal.raise_signal(number)
        exec_module(self, module)
        print("whole", flush=True)
    except KeyboardInterrupt as error:
        raise ImportError("initialization failed") from error

ExtensionFileLoader.exec_module = begin
"""
_COMMAND = r"""
import ffe.cli.cache as module
from ffe.base.openvino_ir import import_openvino
from ffe.cli import main
module.command.callback = lambda **options: import_openvino()
sys.argv = ["ffe", "cache"]
main()
"""
_LIBRARY = r"""
import ffe
Error = ffe.FfeError
from ffe.base.openvino_ir import import_openvino
try:
    import_openvino()
except KeyboardInterrupt:
    sys.exit("interrupted")
"""


@pytest.mark.parametrize(
    ("code", "name", "says", "left"),
    [
        (_COMMAND, "SIGINT", "ffe: interrupted\n", 130),
        (_COMMAND, "SIGTERM", "ffe: interrupted\n", -TERM),
        (_LIBRARY, "SIGINT", "interrupted\n", 1),
    ],
)
def test_a_library_that_is_interrupted_while_it_begins_is_not_taken_for_a_broken_one(
    code: str, name: str, says: str, left: int
) -> None:
    done = subprocess.run([sys.executable, "-c", _BEGINS + code, name], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("whole\n", says, left)
