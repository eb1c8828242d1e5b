"""Where the processor's time for a photo goes before the backbone: decoding, and what comes with it.

    FFE_TEST_DATA=../shared python -m pytest -m benchmark tests/benchmarks/bench_decode.py -s

Of each photo and stage the least processor time of several rounds over all photos counts, in one thread, so that other
programs disturb little; the figures are means over the photos. The photos are of 5 to 20 KB; some are enlarged too, to the
sizes that cameras and phones make.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ffe.base.digests import bytes_digest
from ffe.images.decode import decode, decode_with_hash, read_image
from ffe.images.phash import perceptual_hash
from ffe.specs import PreprocessSpec

PHOTOS, ROUNDS, BATCH = 64, 9, 8
LARGE_PHOTOS, LARGE_ROUNDS, QUALITY = 16, 3, 90
STAGES = ("read", "sha256", "decode", "perceptual hash", "copy")


@pytest.mark.benchmark
@pytest.mark.parametrize("size", [224, 150])
@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("name", ["dogs_vs_cats", "faces", "flowers"])
def test_what_comes_with_decoding(shared: Path, name: str, mode: str, size: int) -> None:
    """Digest, perceptual hash and copy into the batch together, beside decoding and resizing."""
    _measure(name, _photos(shared, name, PHOTOS), mode, size, ROUNDS)


@pytest.mark.benchmark
@pytest.mark.parametrize("side", [1024, 3000])
@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_photos_as_large_as_those_of_cameras(shared: Path, tmp_path: Path, mode: str, side: int) -> None:
    """The same of photos whose longer side has so many pixels."""
    files = []
    for file in _photos(shared, "dogs_vs_cats", LARGE_PHOTOS):
        with Image.open(file) as photo:
            scale = side / max(photo.size)
            files.append(tmp_path / f"{len(files)}.jpg")
            photo.resize([round(scale * length) for length in photo.size]).save(files[-1], quality=QUALITY)
    kib = sum(file.stat().st_size for file in files) / len(files) / 1024
    _measure(f"dogs_vs_cats enlarged to {side}, {kib:.0f} KiB each,", files, mode, 224, LARGE_ROUNDS)


def _photos(shared: Path, name: str, count: int) -> list[Path]:
    files = sorted((shared / "images" / name).rglob("*.jpg"))
    return files[:: len(files) // count][:count]


def _measure(name: str, files: Sequence[Path], mode: str, size: int, rounds: int) -> None:
    way = PreprocessSpec((size, size), "tf", decode=mode)  # type: ignore[arg-type]
    least = np.full((len(STAGES), len(files)), np.inf)

    def timed(stage: int, number: int, work: Callable[..., Any], *arguments: Any) -> Any:
        started = time.thread_time()
        answer = work(*arguments)
        least[stage, number] = min(least[stage, number], time.thread_time() - started)
        return answer

    for _ in range(rounds):
        batch: list[np.ndarray] = []
        for number, file in enumerate(files):
            data = timed(0, number, read_image, file)
            timed(1, number, bytes_digest, data)
            pixels = timed(2, number, decode, data, way)
            phash = timed(3, number, perceptual_hash, pixels)
            batch = [*batch, pixels][-BATCH:]
            timed(4, number, np.stack, batch) if len(batch) == BATCH else None
            assert phash == decode_with_hash(data, way)[1]
    micro = 1e6 * least[:, BATCH - 1 :].mean(axis=1)
    micro[-1] /= BATCH
    share = micro[[1, 3, 4]].sum() / micro[2]
    stages = ", ".join(f"{stage} {value:.0f}" for stage, value in zip(STAGES, micro, strict=True))
    print(f"\n{name} at {size}, {mode}: {stages} µs; digest, hash and copy are {share:.1%} of decoding")
    assert share < 1
