"""What it costs to run the same command again, and what it costs that nothing can be lost.

    FFE_TEST_DATA=... python -m pytest -m benchmark -s tests/benchmarks/bench_cache.py

Both sides of each figure are measured in turn in one run, over several rounds:
seconds alone mean little on a shared machine.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ffe.base import atomic
from ffe.base.feature_layout import FeatureLayout
from ffe.extraction.run import ExtractSummary, extract
from ffe.store import journal as journal_module
from ffe.store.journal import Journal

pytestmark = pytest.mark.benchmark

ROUNDS = 9
PAIRS = 8
BASELINE = "import ffe.cli, h5py, numpy"  # what `ffe --help` loads, and what reads a feature file


def seconds_of(*command: str) -> tuple[float, float]:
    """Run a process from start to exit; return its seconds, and those that it kept a core busy."""
    used, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, env=dict(os.environ))
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


@pytest.mark.parametrize(("backbone", "count"), [("fake", 10_000), ("mobilenet_0.25", 10_000)])
def test_ten_thousand_unchanged_files(tmp_path: Path, backbone: str, count: int) -> None:
    """The second run ends within a second more than its libraries take to load."""
    for i in range(count):
        file = tmp_path / "photos" / ("cat", "dog")[i % 2] / f"{i:05d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(file)
    time.sleep(2.1)  # files that have just changed are read again
    command = [sys.executable, "-m", "ffe", "extract", str(tmp_path / "photos"), "-o", str(tmp_path / "f.h5")]
    command += ["--backbone", backbone, "--size", "32", "--weights", "random"]
    first, _ = seconds_of(*command)
    rounds = []
    for _ in range(ROUNDS):
        shown = seconds_of(sys.executable, "-m", "ffe", "--help")
        loaded = seconds_of(sys.executable, "-c", BASELINE)
        again = seconds_of(*command)
        rounds.append((shown, loaded, again))
    (shown, shown_cpu), (loaded, loaded_cpu), (again, again_cpu) = (
        [min(part) for part in zip(*(each[i] for each in rounds), strict=True)] for i in range(3)
    )
    usual = statistics.median(again[0] - loaded[0] for _, loaded, again in rounds)
    print(
        f"\n{backbone}, {count:,} files, the best of {ROUNDS} rounds: ffe --help {shown:.2f} s ({shown_cpu:.2f} s of a core), "
        f"libraries {loaded:.2f} s ({loaded_cpu:.2f}), second run {again:.2f} s ({again_cpu:.2f}), {again - loaded:.2f} s more "
        f"than these (median {usual:.2f}); the first run took {first:.1f} s"
    )
    assert again - loaded <= 1.0  # other work on the machine only makes it longer


def without_sync(patch: pytest.MonkeyPatch) -> None:
    """Write everything, and wait for none of it to reach the disk."""
    for module in (journal_module, atomic):
        patch.setattr(module, "sync", lambda descriptor: None)
        patch.setattr(module, "sync_folder", lambda folder: None)


def without_journal(patch: pytest.MonkeyPatch) -> None:
    """Keep features in memory until the file is written, and wait for nothing: a crash would take all of them."""
    without_sync(patch)
    rows: dict[str, np.ndarray] = {}

    def append(
        journal: Journal,
        names: Sequence[str],
        features: Iterable[np.ndarray | None],
        layout: FeatureLayout,
        phash: Sequence[int],
    ) -> None:
        journal.layout = layout
        journal._phash.update(zip(names, phash, strict=True))
        rows.update((name, row) for name, row in zip(names, features, strict=True) if row is not None)

    patch.setattr(Journal, "append", append)
    patch.setattr(Journal, "draft", lambda journal, names: None)
    patch.setattr(Journal, "row", lambda journal, sha256: rows[sha256])


@pytest.mark.parametrize("options", [{}, {"precision": "int8", "decode": "fast"}], ids=["default", "fastest"])
@pytest.mark.parametrize("way", [without_sync, without_journal], ids=lambda way: way.__name__)
def test_crash_safety(
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[pytest.MonkeyPatch], None],
    options: dict[str, Any],
) -> None:
    """MobileNet over real photos, by default and by the fastest way there is, with all safety and with less, in turn.

    Its 50,176 features are 200 kB a photo: the faster the way, the more that
    weighs. Both sides at the same time would not do: one takes the cores while
    the other waits for the disk.
    """
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(shared / "weights"))
    source = shared / "images" / "dogs_vs_cats"
    extract(source, tmp_path / "warm.h5", backbone="mobilenet", **options)  # converts and calibrates
    content = (tmp_path / "warm.h5").read_bytes()

    def run() -> ExtractSummary:
        summary = extract(source, tmp_path / "f.h5", backbone="mobilenet", **options)
        assert (tmp_path / "f.h5").read_bytes() == content
        (tmp_path / "f.h5").unlink()
        os.sync()  # nobody pays for another's writes
        return summary

    ratios, waits = [], []
    for i in range(PAIRS):
        summaries = {}
        for safe in (True, False) if i % 2 else (False, True):
            with monkeypatch.context() as patch:
                if not safe:
                    way(patch)
                summaries[safe] = run()
        ratios.append(summaries[False].seconds / summaries[True].seconds)
        waits.append(summaries[True].stages.waited_for_disk / summaries[True].seconds)
    print(
        f"\n{options or 'default'}, safe / {way.__name__}: {statistics.median(ratios):.3f} of the rate "
        f"({min(ratios):.3f} to {max(ratios):.3f}, {PAIRS} pairs); waited for the disk {statistics.median(waits):.1%} of the time"
    )
    if way is without_sync:
        assert statistics.median(ratios) >= 0.95
