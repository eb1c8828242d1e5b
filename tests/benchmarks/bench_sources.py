"""How fast is extraction from archives, beside that from files?

    python -m pytest -m benchmark tests/benchmarks/bench_sources.py -s

All sides run in turn in one process, over the same 5,000 small photos, through a backbone that costs nothing: the
figures are the medians of the ratios of their rates, with the listing of the source and the writing of the file.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffe.extraction.run import extract
from tests.images.archives import class_files, put_parquet, put_tar, put_zip

ROUNDS = 5
PHOTOS = 5000


@pytest.mark.benchmark
def test_archives_against_files(tmp_path: Path) -> None:
    """Tar and Parquet keep 0.9 of the rate from files, or better."""
    pytest.importorskip("pyarrow")
    draw = np.random.default_rng(0)
    for number in range(PHOTOS):
        file = tmp_path / "files" / ("cat", "dog")[number % 2] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (12, 12, 3), dtype=np.uint8)).resize((160, 120)).save(file, quality=90)
    files = class_files(tmp_path / "files")
    members = {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}
    labels = [int(file.parent.name == "dog") for file in files]
    sources = {
        "files": tmp_path / "files",
        "tar": put_tar(tmp_path / "a.tar", members),
        "zip": put_zip(tmp_path / "a.zip", members),
        "parquet": put_parquet(tmp_path / "a.parquet", list(members.values()), ("cat", "dog"), 100, label=labels),
    }
    rates: dict[str, list[float]] = {name: [] for name in sources}
    for number in range(ROUNDS):
        for name, source in sources.items():
            started = time.perf_counter()
            assert extract(source, tmp_path / f"{name}-{number}.h5", backbone="fake", size=64).rows == PHOTOS
            rates[name].append(PHOTOS / (time.perf_counter() - started))
    for name, found in rates.items():
        ratio = statistics.median(a / b for a, b in zip(found, rates["files"], strict=True))
        print(f"{name:8} {statistics.median(found):7,.0f} photos/s, {ratio:.2f} of files")
        assert ratio >= 0.9 or name in {"files", "zip"}
