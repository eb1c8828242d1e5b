"""Corrupted pictures: no crash, no hang, no flood of memory, and no error but ``DecodeError``, by both ways of decoding."""

from __future__ import annotations

from pathlib import Path

import pytest
from watched import Watch

from ffe.specs import Decode

WORKER = Path(__file__).with_name("corrupted_worker.py")
REASONS = {"picture", "not-an-image", "truncated", "broken", "too-large", "unsupported"}


def check(how: Decode, count: int, photos: list[Path]) -> None:
    watch = Watch(WORKER, (how,), photos, REASONS)
    watch.run(count)
    assert watch.faults == []
    assert watch.outcomes.total() == count
    assert watch.outcomes["picture"] > 0.1 * count  # not all are beyond reading
    assert watch.outcomes["broken"] > 0.05 * count
    assert watch.outcomes["truncated"] > 0


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


def test_a_crash_is_seen_and_named(tmp_path: Path) -> None:
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
    watch = Watch(worker, ("exact",), (), REASONS)
    watch.run(5)
    assert watch.outcomes == {"broken": 3, "oh": 1}
    assert watch.faults == [
        "variant 2: the process ended with -6",
        "variant 3: 3.0 s",
        "variant 4: oh",
        "variant 4: 4.0 s",
    ]
