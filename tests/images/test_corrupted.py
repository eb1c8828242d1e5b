"""Corrupted pictures: no crash, no hang, no flood of memory, and no error but ``DecodeError``, by both ways of decoding.

Decoders are C; where one crashes, the process is gone. So they run in a process
of their own, which says which file it has before it, and is started again
behind a file that it did not survive.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ffe.specs import Decode

WORKER = Path(__file__).with_name("corrupted_worker.py")
REASONS = {"picture", "not-an-image", "truncated", "broken", "too-large", "unsupported"}
_SEED = 7
_HANGS = 30.0  # seconds without a word
_ENOUGH = 20  # faults
_SLOW, _MUCH = 2.0, 1024  # seconds of the processor for a file, MiB in all


def decode_variants(how: Decode, count: int, photos: list[Path]) -> tuple[Counter[str], list[str]]:
    """Return how often each outcome came, and what must not be: crashes, hangs, other errors, slow or greedy files."""
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    index = 0
    while index < count and len(faults) < _ENOUGH:
        index, fault = _one_process(how, index, count, photos, outcomes, faults)
        if fault:
            faults.append(f"variant {index - 1}: {fault}")
    return outcomes, faults


def _one_process(
    how: Decode, first: int, count: int, photos: list[Path], outcomes: Counter[str], faults: list[str]
) -> tuple[int, str]:
    """Decode until the end, or until the process is gone; return the number to go on with, and what happened to it."""
    command = [sys.executable, str(WORKER), how, str(_SEED), str(first), str(count - first), *map(str, photos)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
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
            outcomes[said["outcome"]] += 1
            if said["outcome"] not in REASONS:
                faults.append(f"variant {at}: {said['outcome']}")
            if said["seconds"] > _SLOW:
                faults.append(f"variant {at}: {said['seconds']:.1f} s")
            if said["more_mib"] > max(_MUCH, peak):
                faults.append(f"variant {at}: {said['more_mib']} MiB")
            peak = max(peak, said["more_mib"])


def _read(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put("")


def check(how: Decode, count: int, photos: list[Path]) -> None:
    outcomes, faults = decode_variants(how, count, photos)
    assert faults == []
    assert outcomes.total() == count
    assert outcomes["picture"] > 0.1 * count  # not all are beyond reading
    assert outcomes["broken"] > 0.05 * count
    assert outcomes["truncated"] > 0


@pytest.mark.parametrize("how", ["exact", "fast"])
def test_corrupted_pictures(how: Decode) -> None:
    check(how, 200, [])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exact", "fast"])
def test_many_corrupted_pictures(how: Decode) -> None:
    check(how, 2000, [])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exact", "fast"])
def test_many_corrupted_photos(how: Decode, shared: Path) -> None:
    photos = sorted((shared / "images" / "dogs_vs_cats" / "cat").glob("*.jpg"))[:4]
    odd = [file for file in sorted((shared / "images" / "odd").iterdir()) if file.name.startswith(("hopper", "tiff", "trans"))]
    check(how, 2000, photos + odd)


def test_a_crash_is_seen_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness itself: a worker that dies at its third file, hangs never, and is started again."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, os, sys\n"
        "for i in range(int(sys.argv[3]), int(sys.argv[3]) + int(sys.argv[4])):\n"
        "    print(json.dumps({'started': i}), flush=True)\n"
        "    if i == 2:\n"
        "        os.abort()\n"
        "    print(json.dumps({'done': i, 'outcome': 'oh' if i == 4 else 'broken', 'seconds': i, 'more_mib': 0}), flush=True)\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "WORKER", worker)
    outcomes, faults = decode_variants("exact", 5, [])
    assert outcomes == {"broken": 3, "oh": 1}
    assert faults == [
        "variant 2: the process ended with -6",
        "variant 3: 3.0 s",
        "variant 4: oh",
        "variant 4: 4.0 s",
    ]
