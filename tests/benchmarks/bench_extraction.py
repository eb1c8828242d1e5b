"""How much of the backbone's own rate does extraction keep?

    FFE_WEIGHTS_DIR=... python -m pytest -m benchmark tests/benchmarks/bench_extraction.py -s

Both sides run in turn in one process, on the same backbone: the bare forward
pass over images that lie decoded in memory, and the whole of ``ffe extract``
from files (reading, hashing, decoding, backbone, writing), each over all
photos. The figure is the ratio of their rates; rates alone mean little on a
shared machine.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from photo_lists import listed

from ffe.backbones.resolve import make_spec
from ffe.engines.factory import open_engine
from ffe.extraction.run import extract
from ffe.images.loader import ImageStream
from ffe.specs import PreprocessSpec

ROUNDS = 5
BATCH = 32


@pytest.mark.benchmark
@pytest.mark.parametrize(("backbone", "size", "photos"), [("mobilenet", 224, 640), ("vgg19", 150, 96)])
def test_extraction_against_bare_forward_pass(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str, size: int, photos: int
) -> None:
    """Extraction runs at 0.85 of the bare forward pass, or better."""
    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(shared / "weights"))
    files = sorted((shared / "images" / "dogs_vs_cats").glob("*/*.jpg"))[:photos]
    listing = listed(tmp_path / "photos.csv", files)
    spec, weights = make_spec(backbone, size)
    engine = open_engine(spec, weights, name="keras", batch_size=BATCH)
    monkeypatch.setattr("ffe.extraction.runners.local.open_engine", lambda *args, **options: engine)
    with ImageStream(files[:BATCH], PreprocessSpec((size, size), "none")) as images:
        batch = np.stack([item.pixels for item in images if item.pixels is not None])
    engine.extract(batch)

    ratios = []
    for number in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(photos // BATCH):
            engine.extract(batch)
        bare = photos / (time.perf_counter() - started)
        summary = extract(listing, tmp_path / f"{number}.h5", backbone=backbone, size=size, batch_size=BATCH)
        ratios.append(summary.images_per_second / bare)
        print(f"{backbone} {size}: bare {bare:.1f}/s, extract {summary.images_per_second:.1f}/s, ratio {ratios[-1]:.3f}")
        (tmp_path / f"{number}.h5").unlink()
    print(f"{backbone} {size}: median ratio {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
    assert statistics.median(ratios) >= 0.85
