"""Does anything beat frozen features, in the time that there is? All roads on the same photos, as ``ffe compare`` goes them.

    FFE_TEST_DATA=... python -m pytest -m benchmark -s tests/benchmarks/bench_compare.py

Dogs and cats, MobileNet at 224 pixels, six minutes for everything; the
environment variables FFE_BENCH_SET, FFE_BENCH_SECONDS and FFE_BENCH_FOLDER
take other photos, another time, or a folder where models and the page stay.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ffe.commands.compare import compare
from ffe.comparing.roads import ROADS
from ffe.wording.compare_text import compare_text

pytestmark = pytest.mark.benchmark


def test_which_road_is_best(shared: Path, weights: None, tmp_path: Path) -> None:
    folder = Path(os.environ.get("FFE_BENCH_FOLDER") or tmp_path)
    source = shared / "images" / os.environ.get("FFE_BENCH_SET", "dogs_vs_cats")
    seconds = float(os.environ.get("FFE_BENCH_SECONDS", "360"))
    result = compare(source, folder / "roads", seconds=seconds, report=folder / "compare.html")
    print(f"\n{compare_text(result.to_json())}\n\n{result.seconds:.0f} s in all")
    assert [road.name for road in result.roads] == list(ROADS)
    frozen, scratch = result.road("frozen"), result.road("scratch-plain")
    assert frozen.evaluation is not None
    if scratch.evaluation is not None:
        assert frozen.evaluation.accuracy > scratch.evaluation.accuracy
