"""Runs numbered cases in a process of their own, so that a crash, a hang or a flood of memory is seen and named.

The process gets a seed, the number of the first case and how many; it prints a
line of JSON before each, and one after it:

    {"started": 3}
    {"done": 3, "outcome": "refused", "seconds": 0.01, "more_mib": 12}

It is started again behind a case that it did not survive.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SEED = 7
_HANGS = 60.0  # seconds without a word; the first one loads libraries
_ENOUGH = 20  # faults
_SLOW, _MUCH = 2.0, 1024  # seconds of the processor for a case, MiB in all


@dataclass
class Watch:
    """What came of the cases.

    Attributes:
        worker: the program.
        arguments: its own, before the seed, the first number and the count.
        files: its own, behind them.
        allowed: outcomes that are no faults.
        outcomes: how often each came.
        faults: crashes, hangs, other outcomes, slow or greedy cases.
    """

    worker: Path
    arguments: Sequence[str]
    files: Sequence[Path]
    allowed: set[str]
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def run(self, count: int) -> None:
        """Go through all cases, or until there are faults enough."""
        index = 0
        while index < count and len(self.faults) < _ENOUGH:
            index, fault = self._one_process(index, count)
            if fault:
                self.faults.append(f"variant {index - 1}: {fault}")

    def _one_process(self, first: int, count: int) -> tuple[int, str]:
        """Run until the end, or until the process is gone; return the number to go on with, and what happened to it."""
        numbers = (SEED, first, count - first)
        command = [sys.executable, str(self.worker), *self.arguments, *map(str, numbers), *map(str, self.files)]
        found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # what the test itself can import
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=found) as process:
            lines: queue.Queue[str] = queue.Queue()
            threading.Thread(target=_read, args=(process, lines), daemon=True).start()
            at, peak = first, 0
            while True:
                try:
                    line = lines.get(timeout=_HANGS)
                except queue.Empty:
                    process.kill()
                    return at + 1, f"no answer in {_HANGS:.0f} s"
                if not line:
                    code = process.wait()
                    return (count, "") if code == 0 else (at + 1, f"the process ended with {code}")
                said: dict[str, Any] = json.loads(line)
                if "started" in said:
                    at = said["started"]
                    continue
                self._count(at, said, peak)
                peak = max(peak, said["more_mib"])

    def _count(self, at: int, said: dict[str, Any], peak: int) -> None:
        self.outcomes[said["outcome"]] += 1
        if said["outcome"] not in self.allowed:
            self.faults.append(f"variant {at}: {said['outcome']}")
        if said["seconds"] > _SLOW:
            self.faults.append(f"variant {at}: {said['seconds']:.1f} s")
        if said["more_mib"] > max(_MUCH, peak):
            self.faults.append(f"variant {at}: {said['more_mib']} MiB")


def _read(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put("")
