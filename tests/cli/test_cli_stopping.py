"""SIGTERM and SIGHUP end a command as Ctrl-C does: no temporary folder is left, and who sent it sees that it worked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

# a command that waits, with a folder of each kind: one that goes with a block, and one that goes when the process ends
_CODE = """
import signal, sys, tempfile, time
for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):  # nohup ignores one
    signal.signal(number, signal.SIG_DFL)
import ffe.cli.cache as module
from ffe.base.system import _temporary_folder
from ffe.cli import main

def wait(**options):
    with tempfile.TemporaryDirectory(prefix="ffe-"):
        _temporary_folder()
        print("begun", flush=True)
        time.sleep(60)

module.command.callback = wait
sys.argv = ["ffe", "cache"]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process at once")
@pytest.mark.parametrize("number", [signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)], ids=lambda number: number.name)
def test_a_signal_ends_it_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", _CODE]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert len(list(tmp_path.iterdir())) == 2
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
    assert stderr.splitlines()[-1] == "ffe: interrupted"
    assert process.returncode == -number
    assert not list(tmp_path.iterdir())
