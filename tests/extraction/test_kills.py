"""Killed at any instant, a run loses nothing: the same command goes on to the very bytes of an undisturbed run.

    python -m pytest -m slow -s tests/extraction/test_kills.py

prints in which phases the kills came. The backbone is the fake one, slowed down,
and the moments that would pass in microseconds are stretched, so that kills land there too.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ffe.extraction.run import extract

ROOT = Path(__file__).resolve().parent.parent.parent
PHASES = ("start", "scan", "loop", "assembly", "rename", "discard")

# Extracts, and says on standard output in which phase it is.
_CHILD = """
import json, os, sys, time
os.write(1, b"start\\n")
from pathlib import Path
from ffe.base import file_stat
from ffe.engines.fake import FakeEngine
from ffe.extraction import feature_file, run
from ffe.extraction.runners import collect
from ffe.store import journal, writer

def say(phase, module, name, pause=0.0):
    inner = getattr(module, name)
    def saying(*rest, **options):
        os.write(1, phase + b"\\n")
        time.sleep(pause)
        return inner(*rest, **options)
    setattr(module, name, saying)

file_stat.RACY_NS = 0
journal._COMMIT_SECONDS = 0.03
say(b"scan", run, "make_job", 0.02)
say(b"loop", collect, "collect")
say(b"assembly", feature_file, "write_store", 0.02)
replace, unlink, whole = os.replace, os.unlink, FakeEngine.extract

def slow_replace(source, target):
    if str(target).endswith("features.h5"):
        os.write(1, b"rename\\n")
        time.sleep(0.03)
        replace(source, target)
        time.sleep(0.03)
    else:
        replace(source, target)

def slow_unlink(path, **options):
    if ".partial" in str(path):
        time.sleep(0.01)
    unlink(path, **options)

def slow_extract(self, images):
    time.sleep(float(sys.argv[3]))
    return whole(self, images)

os.replace, os.unlink, FakeEngine.extract = slow_replace, slow_unlink, slow_extract
say(b"discard", journal.Journal, "discard")
run.extract(Path(sys.argv[1]), Path(sys.argv[2]), backbone="fake", batch_size=16, **json.loads(sys.argv[4]))
os.write(1, b"end\\n")
"""


class _Run:
    """An extraction in a process of its own, and the phases that it has come to so far."""

    def __init__(self, source: Path, output: Path, pause: float, options: dict[str, Any]) -> None:
        self.seen: list[tuple[str, float]] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(source), str(output), str(pause), json.dumps(options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.seen.append((line.strip(), time.monotonic()))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, phase: str) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: phase in [name for name, _ in self.seen] or self.process.poll() is not None, timeout=300
            )

    def end(self) -> list[tuple[str, float]]:
        assert self.process.stderr is not None
        errors = self.process.stderr.read()
        self.process.wait(timeout=300)
        self._reader.join()
        assert self.process.returncode in {0, -signal.SIGKILL}, errors
        return self.seen


def durations_of(source: Path, output: Path, pause: float, options: dict[str, Any]) -> dict[str, float]:
    """Run undisturbed, and return the seconds of each phase."""
    seen = _Run(source, output, pause, options).end()
    assert [name for name, _ in seen] == [*PHASES, "end"]
    return {name: after - before for (name, before), (_, after) in pairwise(seen)}


def killed(source: Path, output: Path, pause: float, options: dict[str, Any], phase: str, delay: float) -> str:
    """Kill a run so many seconds after it comes to a phase; return the phase that it was killed in."""
    running = _Run(source, output, pause, options)
    running.wait_for(phase)
    time.sleep(delay)
    running.process.kill()
    return running.end()[-1][0]


def draw_many(folder: Path, count: int, seed: int = 0) -> None:
    """Write small pictures, all different, in two classes."""
    for i in range(count):
        target = folder / ("cat", "dog")[i % 2] / f"{seed}_{i:04d}.bmp"
        target.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([seed, i]).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(target)


def assert_resumes(source: Path, output: Path, expected: bytes, options: dict[str, Any], whole: int) -> bool:
    """Run the same command again, and compare every byte; nothing is left beside the file, and what was kept is used.

    Returns:
        Whether anything was kept.
    """
    kept = output.exists() or any(output.with_name(f"{output.name}.partial").glob("*.json"))
    summary = extract(source, output, backbone="fake", batch_size=16, **options)
    assert summary.computed < whole if kept else summary.computed == whole
    assert output.read_bytes() == expected
    assert [file.name for file in output.parent.iterdir()] == [output.name]
    return kept


def prove(
    source: Path,
    folder: Path,
    before: bytes | None,
    *,
    kills: int,
    pause: float,
    seed: int,
    phases: Sequence[str] = PHASES,
    again: Callable[[int], bool] = lambda i: False,
    **options: Any,
) -> Counter[str]:
    """Kill so many runs at random instants of some phases, and check each; return how many were killed in which phase."""
    output = folder / "work" / "features.h5"

    def reset() -> None:
        shutil.rmtree(output.parent, ignore_errors=True)
        output.parent.mkdir(parents=True)
        if before is not None:
            output.write_bytes(before)

    reset()
    durations = durations_of(source, output, pause, options)
    expected = output.read_bytes()
    whole = extract(source, folder / "fresh.h5", backbone="fake", **options).computed
    assert expected == (folder / "fresh.h5").read_bytes()
    chance, counts, kept = random.Random(seed), Counter[str](), 0
    for i in range(kills):
        reset()
        for attempt in range(2 if again(i) else 1):  # some are killed twice
            phase = phases[(i + attempt) % len(phases)]
            counts[killed(source, output, pause, options, phase, chance.uniform(0, durations[phase]))] += 1
            if output.exists():  # the old file, as it was, or the new one, whole
                assert output.read_bytes() in {before, expected}
            else:
                assert before is None
        kept += assert_resumes(source, output, expected, options, whole)
    print(f"\n{counts.total()} kills: {', '.join(f'{phase} {counts[phase]}' for phase in (*PHASES, 'end'))}; {kept} kept work")
    assert kept
    return counts


def change(source: Path, few: int) -> None:
    """Add, change, remove, rename and relabel some pictures."""
    files = sorted(source.glob("*/*.bmp"))
    for i, file in enumerate(files[:few]):
        file.write_bytes(files[-1 - i].read_bytes()[:-1] + bytes([i % 256]))
    for file in files[few : 2 * few]:
        file.unlink()
    for file in files[2 * few : 3 * few]:
        file.rename(file.with_name(f"renamed_{file.name}"))
    for file in files[3 * few : 4 * few]:
        file.rename(source / ("dog" if file.parent.name == "cat" else "cat") / f"moved_{file.name}")
    draw_many(source, 3 * few, seed=1)


def test_a_few_kills_of_a_first_run(tmp_path: Path) -> None:
    draw_many(tmp_path / "source", 120)
    counts = prove(tmp_path / "source", tmp_path, None, kills=3, pause=0.01, seed=3, phases=PHASES[2:5])
    assert counts.total() == 3


def test_a_few_kills_of_an_incremental_run(tmp_path: Path) -> None:
    source, old = tmp_path / "source", tmp_path / "old.h5"
    draw_many(source, 120)
    extract(source, old, backbone="fake")
    change(source, 10)
    counts = prove(source, tmp_path, old.read_bytes(), kills=2, pause=0.02, seed=4, phases=("loop", "rename"))
    assert counts.total() == 2


def test_a_kill_while_views_are_added(tmp_path: Path) -> None:
    source, old = tmp_path / "source", tmp_path / "old.h5"
    draw_many(source, 60)
    extract(source, old, backbone="fake")
    views = {"views": 2, "augment": "flip,zoom,brightness"}
    counts = prove(source, tmp_path, old.read_bytes(), kills=2, pause=0.02, seed=5, phases=("loop", "assembly"), **views)
    assert counts.total() == 2


@pytest.mark.slow
def test_kills_of_a_run_that_makes_views(tmp_path: Path) -> None:
    """Of 300 images with 4 views each; every third run is killed a second time as it goes on."""
    draw_many(tmp_path / "source", 300)
    views = {"views": 4, "augment": "flip,zoom,rotate,brightness"}
    counts = prove(tmp_path / "source", tmp_path, None, kills=21, pause=0.01, again=lambda i: i % 3 == 2, seed=6, **views)
    assert counts.total() == 28
    assert all(counts[phase] for phase in PHASES)


@pytest.mark.slow
def test_fifty_kills_of_a_first_run(tmp_path: Path) -> None:
    """Of 1,200 images; every third run is killed a second time as it goes on."""
    draw_many(tmp_path / "source", 1200)
    counts = prove(tmp_path / "source", tmp_path, None, kills=50, pause=0.01, again=lambda i: i % 3 == 2, seed=1)
    assert counts.total() == 66
    assert all(counts[phase] for phase in PHASES)


@pytest.mark.slow
def test_kills_of_an_incremental_run(tmp_path: Path) -> None:
    """Some of 1,000 images were added, changed, removed, renamed and relabelled."""
    source, old = tmp_path / "source", tmp_path / "old.h5"
    draw_many(source, 1000)
    extract(source, old, backbone="fake")
    change(source, 60)
    counts = prove(source, tmp_path, old.read_bytes(), kills=18, pause=0.02, again=lambda i: i % 5 == 4, seed=2)
    assert counts.total() >= 20
    assert all(counts[phase] for phase in PHASES)
