"""The index finds what a comparison of all pairs finds, and does not look at all of them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from ffe.base.digests import bytes_digest
from ffe.splits.groups import Groups, _standardised, find_groups
from ffe.splits.near_index import near_hashes, near_rows
from ffe.splits.whole_numbers import LENGTH, WholeRows, whole_rows

DIMS = 128


def digests(count: int) -> list[str]:
    return [bytes_digest(b"%d" % i) for i in range(count)]


def spread(count: int, seed: int = 0) -> np.ndarray:
    """Return unrelated features, float32 (n, 128), as a trained network sees unlike images."""
    return np.random.default_rng(seed).uniform(0.01, 1, (count, DIMS)).astype(np.float32)


def flipped(hashes: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return hashes with up to ``most`` bits of each turned over."""
    rng = np.random.default_rng(seed)
    result = hashes.copy()
    for _ in range(most):
        result ^= np.where(rng.random(len(hashes)) < 0.8, np.uint64(1) << rng.integers(0, 64, len(hashes)).astype(np.uint64), 0)
    return result


def hashes_of(kind: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    some = rng.integers(1, 2**63, 300).astype(np.uint64)
    return {
        "random": some,
        "altered": np.concatenate([some, flipped(some, 3, 2), flipped(some, 8, 3), flipped(some, 7, 4)]),
        "few": some[:5][rng.integers(0, 5, 900)],
        "unknown": np.where(rng.random(300) < 0.5, some, 0),
        "all unknown": np.zeros(50, np.uint64),
        "one neighbourhood": flipped(np.full(600, some[0]), 5, 5),
        "low bits": rng.integers(1, 2**12, 500).astype(np.uint64),
    }[kind]


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Groups]:
    """Find groups by the index, however few rows there are."""

    def find(*columns: object) -> Groups:
        monkeypatch.setattr("ffe.splits.groups.ALL_PAIRS", 0)
        try:
            return find_groups(*columns)  # type: ignore[arg-type]
        finally:
            monkeypatch.undo()

    return find


def assert_equal(found: Groups, plain: Groups) -> None:
    for cause, level in plain.levels.items():
        np.testing.assert_array_equal(found.levels[cause], level, cause)
    assert found.causes == plain.causes


KINDS = ["random", "altered", "few", "unknown", "all unknown", "one neighbourhood", "low bits"]


@pytest.mark.portable
@pytest.mark.parametrize("kind", KINDS)
def test_hashes_alone_are_found_as_by_all_pairs(kind: str, looked_up: Callable[..., Groups]) -> None:
    hashes = hashes_of(kind)
    plain = find_groups(digests(len(hashes)), hashes)
    found = looked_up(digests(len(hashes)), hashes)
    assert_equal(found, plain)
    assert found.links == plain.links


@pytest.mark.portable
@pytest.mark.parametrize("kind", KINDS)
def test_hashes_and_features_are_found_as_by_all_pairs(kind: str, looked_up: Callable[..., Groups]) -> None:
    """A third of the images is like one of ten others, a third is so to a cosine between the two bounds, and a third unlike."""
    hashes = hashes_of(kind)
    count = len(hashes)
    row = np.random.default_rng(6).permutation(count)
    noise = np.asarray([0.2, 0.65, 0])[row % 3][:, None]
    features = np.where(noise > 0, np.abs(spread(10, 9)[row % 10] + noise * (spread(count, 8) - 0.5)), spread(count))
    plain = find_groups(digests(count), hashes, features)
    found = looked_up(digests(count), hashes, features)
    assert_equal(found, plain)
    assert found.links["re-encoded"] == plain.links["re-encoded"]
    assert (found.links["near"] > 0) == (plain.links["near"] > 0)


def altered(share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return features of images, a noisy copy of each behind them, and the cosines of both as groups see them."""
    rows = spread(len(share), 10)
    features = np.concatenate([rows, np.abs(rows + share[:, None] * (spread(len(share), 11) - 0.5))]).astype(np.float32)
    unit = whole_rows(features, np.arange(len(features))).unit(np.arange(len(features)))
    return features, np.einsum("ij,ij->i", unit[: len(share)], unit[len(share) :])


def test_at_least_0_99_of_near_pairs_are_found_at_the_very_bound() -> None:
    features, cosines = altered(np.random.default_rng(12).uniform(0.5, 1.2, 4000))
    whole = whole_rows(features, np.arange(len(features)))
    order, nothing = np.arange(len(features)), np.zeros(len(features), np.uint64)
    roots = near_rows(whole, 0.77, nothing, 6, order, order).roots
    bound, found = (cosines >= 0.7701) & (cosines < 0.80), roots[:4000] == roots[4000:]
    assert bound.sum() >= 200
    assert found[bound].mean() >= 0.99
    assert found[cosines > 0.85].all()
    assert not found[cosines < 0.7699].any()


@pytest.mark.portable
def test_the_order_of_the_rows_does_not_matter(looked_up: Callable[..., Groups]) -> None:
    features, _ = altered(np.random.default_rng(12).uniform(0.5, 1.2, 300))
    hashes = hashes_of("few")[:600]
    order = np.random.default_rng(4).permutation(600)
    sha256 = digests(600)
    groups = looked_up(sha256, hashes, features)
    shuffled = looked_up([sha256[i] for i in order], hashes[order], features[order])
    together = groups.ids[:, None] == groups.ids
    assert groups.count > 10
    np.testing.assert_array_equal(shuffled.ids[:, None] == shuffled.ids, together[np.ix_(order, order)])


@pytest.mark.portable
def test_products_of_rounded_rows_are_exact() -> None:
    """In float32 and in any order, or groups would hang on the processor; also where one feature is all there is."""
    features = np.concatenate([spread(200), np.eye(40, DIMS, dtype=np.float32) * 1e6])
    whole = whole_rows(features, np.arange(len(features)))
    single, exact = whole.rows.astype(np.float32), whole.rows.astype(np.int64)
    np.testing.assert_array_equal(single @ single.T, exact @ exact.T)
    assert np.abs(np.sqrt(whole.squares) - LENGTH).max() < 4
    assert (np.abs(exact) @ np.abs(exact).T).max() < 2**24  # no partial sum is longer


def test_a_small_spread_about_a_large_mean_is_kept() -> None:
    """Rounded rows point where those of all pairs do, also where a feature hardly stirs."""
    features = (100 + 1e-2 * spread(500)).astype(np.float32)
    unit, plain = whole_rows(features, np.arange(500)).unit(np.arange(500)), _standardised(features, np.arange(500))
    np.testing.assert_allclose(unit @ unit.T, plain @ plain.T, atol=2e-3)


def test_equal_and_empty_rows(looked_up: Callable[..., Groups]) -> None:
    features = np.concatenate([np.tile(spread(3), (50, 1)), spread(200, 5)])
    groups = looked_up(digests(350), None, features)
    assert [len(groups.members(group)) for group in groups.causes] == [50, 50, 50]
    assert groups.links["near"] == 3 * 49
    assert looked_up(digests(20), None, np.ones((20, 8), np.float32)).count == 0
    assert looked_up(digests(5)).count == 0


def equal_hashes(count: int, whole: WholeRows | None) -> int:
    found = near_hashes(np.full(count, 7, np.uint64), 2 if whole is None else 6, np.arange(count), whole, 0.5)
    assert (len(np.unique(found.roots)) == 1) == (whole is None)
    return found.compared


def test_a_million_equal_hashes_are_no_square() -> None:
    assert equal_hashes(1_000_000, None) <= 3 * 1_000_000
    rows = whole_rows(spread(4000), np.arange(4000))
    assert equal_hashes(4000, rows) <= 256 * 4000


@pytest.mark.parametrize("kind", ["unlike", "alike", "classes"])
def test_twice_the_rows_are_compared_about_twice_as_often(kind: str) -> None:
    """Counted, not timed: rows that are all unlike, all alike but not near, and of classes of 200."""

    def compared(count: int) -> int:
        features = spread(count, count)
        if kind == "alike":
            features = features * np.float32(0.02) + 1
        if kind == "classes":
            features += spread(count // 200)[np.arange(count) % (count // 200)]
        whole = whole_rows(features, np.arange(count))
        order, nothing = np.arange(count), np.zeros(count, np.uint64)
        return near_rows(whole, 0.77, nothing, 6, order, order).compared

    small, large = compared(4000), compared(16_000)
    assert small > 0
    assert large <= 4**1.45 * small


def test_memory_is_two_bytes_a_number_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffe.splits.whole_numbers._BLOCK_VALUES", 1 << 14)
    features = np.random.default_rng(8).uniform(0, 1, (4000, 512)).astype(np.float32)
    whole_rows(features[:10], np.arange(10))
    tracemalloc.start()
    whole = whole_rows(features, np.arange(4000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert whole.rows.dtype == np.int16
    assert peak < 1.5 * whole.rows.nbytes + 512 * 1024 * 5  # the planes; the features take twice as much as the rows


def test_bounds_do_not_hang_on_the_last_digits_of_a_product(
    looked_up: Callable[..., Groups], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def stop(_: WholeRows, least: float, *__: object) -> None:
        asked.append(least)
        raise InterruptedError

    monkeypatch.setattr("ffe.splits.near_index.near_rows", stop)
    with pytest.raises(InterruptedError):
        looked_up(digests(40), None, np.random.default_rng(1).random((40, 3), np.float32))
    assert asked == [1 - float(f"{1 - asked[0]:.4g}")]
    assert 0.9999 < asked[0] < 1
