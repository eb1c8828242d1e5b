"""Groups: what belongs together is found, and what merely looks dull is not."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from ffe.base.digests import bytes_digest
from ffe.extraction.run import extract
from ffe.images.drawings import draw, draw_folder
from ffe.splits.groups import CAUSES, Groups, find_groups
from ffe.store.reader import FeatureStore

N, DIMS = 60, 128


def digests(count: int) -> list[str]:
    return [bytes_digest(b"%d" % i) for i in range(count)]


@pytest.fixture
def features() -> np.ndarray:
    """Unrelated images, as a trained network sees them: independent, and not negative."""
    return np.random.default_rng(0).uniform(0, 1, (N, DIMS)).astype(np.float32) + np.float32(0.01)


@pytest.fixture
def phash() -> np.ndarray:
    return np.random.default_rng(1).integers(1, 2**63, N).astype(np.uint64)


def sets(groups: Groups) -> list[list[int]]:
    return [groups.members(group).tolist() for group in groups.causes]


def test_unrelated_images_have_groups_of_their_own(features: np.ndarray, phash: np.ndarray) -> None:
    groups = find_groups(digests(N), phash, features, [""] * N)
    assert groups.ids.dtype == np.int64
    assert groups.ids.tolist() == list(range(N))
    assert (groups.count, groups.images, groups.causes) == (0, 0, {})
    assert groups.links == dict.fromkeys(CAUSES, 0)


@pytest.mark.portable
def test_every_cause_is_found_and_named(features: np.ndarray, phash: np.ndarray) -> None:
    sha256 = digests(N)
    names = [""] * N
    sha256[7] = sha256[3]
    noise = np.random.default_rng(2).uniform(-1, 1, (2, DIMS)).astype(np.float32)
    features[11] = np.abs(features[10] + 0.3 * noise[0])  # too far to be near
    phash[11] = phash[10] ^ np.uint64(0b10110100)
    features[21] = np.abs(features[20] + 0.05 * noise[1])
    names[30] = names[31] = names[59] = "patient 1"
    groups = find_groups(sha256, phash, features, names)
    assert sets(groups) == [[3, 7], [10, 11], [20, 21], [30, 31, 59]]
    assert list(groups.causes.values()) == [("copies",), ("re-encoded",), ("near",), ("named",)]
    assert groups.links == {"copies": 1, "re-encoded": 1, "near": 1, "named": 2}
    assert (groups.count, groups.images) == (4, 9)
    assert groups.ids[:8].tolist() == [0, 1, 2, 3, 4, 5, 6, 3]
    found = {cause: len(np.unique(groups.levels[cause])) for cause in CAUSES}
    assert found == {"copies": N - 1, "re-encoded": N - 2, "near": N - 3, "named": N - 5}


def test_what_belongs_to_the_same_image_belongs_together(features: np.ndarray) -> None:
    sha256, names = digests(N), [""] * N
    sha256[1] = sha256[0]
    features[2] = features[0] * np.float32(1.01)
    names[2] = names[9] = "burst"
    groups = find_groups(sha256, None, features, names)
    assert sets(groups) == [[0, 1, 2, 9]]
    assert groups.causes == {0: ("copies", "near", "named")}


@pytest.mark.parametrize(("flipped", "joined"), [(6, True), (7, False)])
def test_the_distance_of_hashes_has_a_bound(features: np.ndarray, phash: np.ndarray, flipped: int, joined: bool) -> None:
    phash[1] = phash[0] ^ np.uint64(2**63 + 2 ** (flipped - 1) - 1)
    features[1] = np.abs(features[0] + 0.42 * np.random.default_rng(3).uniform(-1, 1, DIMS).astype(np.float32))
    assert find_groups(digests(N), phash, features).links == {"copies": 0, "re-encoded": joined, "near": 0, "named": 0}


def test_equal_hashes_of_unlike_features_are_not_joined(features: np.ndarray, phash: np.ndarray) -> None:
    phash[:20] = phash[0]
    assert find_groups(digests(N), phash, features).count == 0


def test_unknown_hashes_are_not_equal(features: np.ndarray) -> None:
    features[1] = np.abs(features[0] + 0.42 * np.random.default_rng(3).uniform(-1, 1, DIMS).astype(np.float32))
    assert find_groups(digests(N), np.zeros(N, np.uint64), features).count == 0
    assert find_groups(digests(N), np.ones(N, np.uint64), features).links["re-encoded"] == 1


def test_without_features_hashes_must_be_all_but_equal(phash: np.ndarray) -> None:
    phash[1] = phash[0] ^ np.uint64(3)
    phash[2] = phash[0] ^ np.uint64(4 + 8 + 16)
    assert sets(find_groups(digests(N), phash)) == [[0, 1]]
    assert find_groups(digests(3)).count == 0


@pytest.mark.portable
def test_the_order_of_the_rows_does_not_matter(features: np.ndarray, phash: np.ndarray) -> None:
    sha256 = digests(N)
    sha256[7] = sha256[3]
    features[21], phash[30] = features[20], phash[3]
    order = np.random.default_rng(4).permutation(N)
    groups = find_groups(sha256, phash, features)
    shuffled = find_groups([sha256[i] for i in order], phash[order], features[order])
    together = groups.ids[:, None] == groups.ids
    np.testing.assert_array_equal(shuffled.ids[:, None] == shuffled.ids, together[np.ix_(order, order)])


@pytest.mark.parametrize("block", [7, 60, 61])
def test_blocks_change_nothing(features: np.ndarray, phash: np.ndarray, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where so many pairs are found that they are merged on the way."""
    features[40:] = features[40] + np.random.default_rng(5).uniform(0, 0.01, (20, DIMS)).astype(np.float32)
    phash[5] = phash[44]
    features[5] = np.abs(features[44] + 0.42 * np.random.default_rng(3).uniform(-1, 1, DIMS).astype(np.float32))
    whole = find_groups(digests(N), phash, features)
    assert whole.count == 1
    assert whole.images >= 20
    monkeypatch.setattr("ffe.splits.groups._BLOCK", block)
    monkeypatch.setattr("ffe.splits.groups._MOST_LINKS", 10)
    pieces = find_groups(digests(N), phash, features)
    np.testing.assert_array_equal(pieces.ids, whole.ids)
    assert (pieces.causes, pieces.links) == (whole.causes, whole.links)


def test_bursts_are_found_though_all_images_are_in_one() -> None:
    rng = np.random.default_rng(6)
    bursts = rng.uniform(0, 1, (20, DIMS))
    features = np.abs(np.repeat(bursts, 15, axis=0) + rng.uniform(-0.05, 0.05, (300, DIMS))).astype(np.float32)
    groups = find_groups(digests(300), None, features)
    assert sets(groups) == [list(range(15 * i, 15 * i + 15)) for i in range(20)]


@pytest.mark.parametrize("kind", ["one direction", "three features", "equal rows", "random network"])
def test_features_that_are_all_alike_do_not_collapse(kind: str) -> None:
    rng = np.random.default_rng(7)
    features = {
        "one direction": 1 + rng.uniform(0, 1, (200, 1)) * rng.uniform(0.5, 1, (1, 64)) + rng.uniform(0, 0.05, (200, 64)),
        "three features": rng.uniform(0, 1, (200, 3)),
        "equal rows": np.ones((200, 64)),
        "random network": np.maximum(rng.uniform(0, 1, (200, 5)) @ rng.standard_normal((5, 64)), 0) + 5,
    }[kind].astype(np.float32)
    hashes = rng.integers(1, 2**63, 200).astype(np.uint64)
    hashes[:50] = hashes[0]  # plain drawings: many hashes alike
    groups = find_groups(digests(200), hashes, features)
    assert np.bincount(groups.ids).max() <= (50 if kind == "equal rows" else 4)
    assert groups.images <= 50


@pytest.mark.parametrize("backbone", ["fake", "mobilenet_0.25"])
def test_drawn_pictures_and_random_weights_join_hardly_any(backbone: str, tmp_path: Path) -> None:
    draw_folder(tmp_path / "source", 60, (64, 64))
    draw("cat", 3, (64, 64)).save(tmp_path / "source" / "cat" / "again.bmp")
    extract(tmp_path / "source", tmp_path / "f.h5", backbone=backbone, size=64, weights="random")
    with FeatureStore(tmp_path / "f.h5") as store:
        height, width, channels = store.grid
        pooled = store.features().reshape(len(store), height * width, channels).mean(axis=1)
        groups = find_groups(store.sha256, store.phash, pooled, store.group)
        together = [sorted(store.paths[i] for i in groups.members(group)) for group in groups.causes]
    assert ["cat/again.bmp", "cat/cat_003.png"] in together
    assert groups.images <= 6


def test_memory_stays_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the features, and blocks: never the table of all pairs."""
    monkeypatch.setattr("ffe.splits.groups._BLOCK", 128)
    features = np.random.default_rng(8).uniform(0, 1, (2000, 64)).astype(np.float32)
    hashes = np.arange(1, 2001).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    find_groups(digests(10), None, features[:10])  # imports SciPy
    monkeypatch.setattr("ffe.splits.groups._SAMPLE", 200)
    tracemalloc.start()
    find_groups(digests(2000), hashes, features)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20  # the table of all pairs takes 16 MB


def test_real_photos_and_their_copies(shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A small proof of the figures in the module's docstring."""
    from PIL import Image

    monkeypatch.setenv("FFE_WEIGHTS_DIR", str(shared / "weights"))
    folder = tmp_path / "photos"
    for kind in ("cat", "dog"):
        (folder / kind).mkdir(parents=True)
        for i, file in enumerate(sorted((shared / "images" / "dogs_vs_cats" / kind).iterdir())[:40]):
            with Image.open(file) as photo:
                photo.convert("RGB").save(folder / kind / f"{i:02d}.jpg", quality=95)
                if i < 5:
                    photo.convert("RGB").save(folder / kind / f"{i:02d}_q30.jpg", quality=30)
                    photo.convert("RGB").resize((photo.width // 2, photo.height // 2)).save(folder / kind / f"{i:02d}_half.jpg")
    extract(folder, tmp_path / "f.h5", backbone="mobilenet_0.25", size=128)
    with FeatureStore(tmp_path / "f.h5") as store:
        height, width, channels = store.grid
        pooled = store.features().reshape(len(store), height * width, channels).mean(axis=1)
        groups = find_groups(store.sha256, store.phash, pooled)
        together = sorted(sorted(store.paths[i] for i in groups.members(group)) for group in groups.causes)
        monkeypatch.setattr("ffe.splits.groups.ALL_PAIRS", 0)
        looked_up = find_groups(store.sha256, store.phash, pooled)
    assert (looked_up.ids.tolist(), looked_up.causes) == (groups.ids.tolist(), groups.causes)
    names = ("", "_half", "_q30")
    assert together == sorted(sorted(f"{kind}/{i:02d}{name}.jpg" for name in names) for kind in ("cat", "dog") for i in range(5))
