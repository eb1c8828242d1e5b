"""How long does it take from the start of a process to the first photo of an extraction, and to the first trial of a search?

    FFE_TEST_DATA=../shared python -m pytest -m benchmark tests/benchmarks/bench_start.py -s

On 200 photos of dogs and cats and the default backbone, whose model is in the cache. Both commands run in turn, with the
bytecode of ffe written; wall time means something on a quiet machine alone, the processor's time nearly everywhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ffe.extraction.run import extract

ROUNDS = 7
# the command line as it is, until it would tell of the first photos, or of the first trials
CODE = """
import json, os, sys, time
from ffe.cli import main, progress
def first(self, now):
    if now.done:
        spent = os.times()
        os.write(1, json.dumps([spent.user + spent.system, time.time()]).encode())
        os._exit(0)
progress.ExtractProgress.__call__ = progress.TrialsProgress.__call__ = first
main()
"""


def _answer(command: list[str], folder: Path, environment: dict[str, str]) -> bytes:
    """Return what a command prints before it ends, and end the processes that it leaves, which would run into the next round."""
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        answer = process.communicate()[0]
        with contextlib.suppress(ProcessLookupError):  # none was left
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0
    return answer


@pytest.mark.benchmark
def test_first_photo_and_first_trial(shared: Path, tmp_path: Path) -> None:
    """Wanted: both within 1.5 s of wall time on a quiet machine."""
    for kind in ("cat", "dog"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for file in sorted((shared / "images" / "dogs_vs_cats" / kind).iterdir())[:100]:
            shutil.copy(file, tmp_path / "photos" / kind)
    extract(tmp_path / "photos", tmp_path / "f.h5")
    commands = {"extract": ["photos", "-o", "g.h5", "--overwrite"], "tune": ["f.h5", "-o", "m.ffe", "--overwrite"]}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(ROUNDS + 1):
        for name, arguments in commands.items():
            shutil.rmtree(tmp_path / "m.ffe.search", ignore_errors=True)
            started = time.time()
            command = [sys.executable, "-c", CODE, name, *arguments]
            path = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
            processor, ended = json.loads(_answer(command, tmp_path, {**os.environ, **path}))
            if number:  # the first writes bytecode
                found[name].append((processor, ended - started))
    for name, seconds in found.items():
        for what, values in zip(("processor", "wall"), zip(*seconds, strict=True), strict=True):
            print(f"\n{name}, {what}: {statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})", end="")
