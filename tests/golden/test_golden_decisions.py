"""What decides something comes out the same on every processor: hashes, sides and folds, from whole numbers alone.

``python tests/golden/test_golden_decisions.py`` prints the values, for a change that is meant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from ffe.base.digests import bytes_digest, canonical_json
from ffe.images.phash import perceptual_hash
from ffe.report.confusion import Picture, _choose
from ffe.splits.folds import assign_folds
from ffe.splits.groups import find_groups
from ffe.splits.holdout import hold_out

pytestmark = pytest.mark.portable

SIZES = ((32, 32), (224, 224), (150, 150), (33, 70), (300, 20))


def numbers(seed: int) -> Iterator[int]:
    """Yield whole numbers in [0, 2**16), by a linear congruence (Numerical Recipes, section 7.1)."""
    while True:
        seed = (1664525 * seed + 1013904223) % 2**32
        yield seed >> 16


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Return uint8 (H, W, 3): blocks and noise, drawn in whole numbers."""
    stream = numbers(seed)
    blocks = [[next(stream) % 256 for _ in range(3)] for _ in range(64)]
    pixels = [
        [[(3 * c + next(stream) % 256) // 4 for c in blocks[8 * (8 * y // height) + 8 * x // width]] for x in range(width)]
        for y in range(height)
    ]
    return np.asarray(pixels, np.uint8)


def naive_hash(pixels: np.ndarray) -> int:
    """Return the perceptual hash in Python's own whole numbers, as its docstring says it."""
    height, width, _ = pixels.shape
    cosines = [[round(4096 * math.cos(math.pi / 32 * k * (i + 0.5))) for i in range(32)] for k in range(1, 9)]
    grey = [[306 * int(r) + 601 * int(g) + 117 * int(b) for r, g, b in row] for row in pixels]
    tall, wide = max(1, height // 32), max(1, width // 32)
    boxes = [
        [sum(grey[i * height // 32 + y][j * width // 32 + x] for y in range(tall) for x in range(wide)) for j in range(32)]
        for i in range(32)
    ]
    lines = [[sum(box * cosine for box, cosine in zip(row, wave, strict=True)) >> 10 for wave in cosines] for row in boxes]
    waves = [sum(wave[i] * lines[i][k] for i in range(32)) for wave in cosines for k in range(8)]
    ordered = sorted(waves)
    return int("".join("1" if 2 * wave > ordered[31] + ordered[32] else "0" for wave in waves), 2)


def rows() -> tuple[np.ndarray, list[str], list[str]]:
    """Return labels int64 (600,), digests and group names of images, of which some are there twice."""
    stream = numbers(1)
    images = [next(stream) % 500 for _ in range(600)]
    names = [f"g{next(stream) % 40}" if next(stream) % 8 == 0 else "" for _ in range(600)]
    return np.asarray([image % 3 for image in images], np.int64), [bytes_digest(b"%d" % i) for i in images], names


def hashes() -> str:
    return ",".join(f"{perceptual_hash(picture(*size, seed=i)):016x}" for i, size in enumerate(SIZES))


def sides() -> str:
    labels, sha256, names = rows()
    groups = find_groups(sha256, names=names).ids
    return bytes_digest(canonical_json([hold_out(labels, sha256, groups, 0.2, s, names=names).side.tolist() for s in range(3)]))


def folds() -> str:
    labels, sha256, names = rows()
    groups = find_groups(sha256, names=names).ids
    return bytes_digest(canonical_json([assign_folds(labels, sha256, groups, 5, seed, ()).tolist() for seed in range(3)]))


GOLDEN = {
    "hashes": "858b953e1e17a0eb,80d8e5f468c5e3f8,562515f6869cfe21,a4b5fc7ce4380cc3,0b949ef1c95656a3",
    "sides": "ced2d35dc2b4658f3f8643a1196635fb92aa8761031cec47f52e1209813c4862",
    "folds": "a0538ec0db0118122f69aa5435306d66572e39ef6da5186824c75b4ab2b1b5e4",
}


@pytest.mark.parametrize("decide", [hashes, sides, folds])
def test_decisions_are_those_of_every_machine(decide: Callable[[], str]) -> None:
    assert decide() == GOLDEN[decide.__name__]


@pytest.mark.parametrize("size", SIZES)
def test_hash_is_that_of_whole_numbers(size: tuple[int, int]) -> None:
    for pixels in (picture(*size, seed=7), picture(*size, seed=8) // 2 + 100):
        assert perceptual_hash(pixels) == naive_hash(pixels)


def test_last_bits_do_not_choose_the_pictures_of_a_report() -> None:
    above = float(np.nextafter(0.9, 1))
    for first, second in ((0.9, above), (above, 0.9)):
        pictures = [Picture(name, None, 0, 1, p) for name, p in (("b", first), ("a", second), ("c", 0.91))]
        assert [picture.path for picture in _choose({(0, 1): pictures})[0, 1]] == ["c", "a", "b"]


if __name__ == "__main__":
    for made in (hashes, sides, folds):
        print(f'    "{made.__name__}": "{made()}",')
