"""The hold-out: stable when images are added, near the wish, and never through a group."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffe.base.digests import bytes_digest
from ffe.splits.holdout import SLACK, HoldOut, groups_of_classes, hold_out


def digests(count: int, name: str = "image") -> list[str]:
    return [bytes_digest(f"{name} {i}".encode()) for i in range(count)]


def alone(count: int) -> np.ndarray:
    return np.arange(count)


def of(sides: HoldOut) -> list[str]:
    return sides.side.tolist()


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_the_share_held_out_is_about_that_of_every_class(fraction: float) -> None:
    """Over 20 seeds: every draw within four standard deviations, and their mean as near as it should be."""
    labels = np.repeat([0, 1, 2], [300, 200, 100]).astype(np.int64)
    counts = np.asarray(
        [
            [(hold_out(labels, digests(600), alone(600), fraction, seed).side[labels == i] == "test").sum() for i in range(3)]
            for seed in range(20)
        ]
    )
    for i, size in enumerate((300, 200, 100)):
        deviation = np.sqrt(size * fraction * (1 - fraction))
        assert np.abs(counts[:, i] - size * fraction).max() < 4 * deviation
        assert abs(counts[:, i].mean() - size * fraction) < 4 * deviation / np.sqrt(20)
        assert counts[:, i].std() > 0.4 * deviation  # every image draws for itself


ROW = st.tuples(st.integers(0, 2), st.integers(0, 40), st.sampled_from(["", "", "", "a", "b"]))


def split(table: list[tuple[int, int, str]], joins: dict[int, int], seed: int = 0, tested: Collection[str] = ()) -> HoldOut:
    """Split rows of a label, an image and a name; an image is of the group of that number, or of another one that it joins."""
    labels = np.asarray([label for label, *_ in table], np.int64)
    sha256 = [bytes_digest(b"%d" % image) for _, image, _ in table]
    together = np.asarray([900 + ord(name) if name else joins.get(image, image) for _, image, name in table])
    return hold_out(labels, sha256, together, 0.3, seed, names=[name for *_, name in table], tested=tested)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_what_tested_before_tests_again_whatever_is_added(data: st.DataObject) -> None:
    """Whatever is added, and whatever it belongs to; classes that are too small for chance are named, and left aside."""
    rows = data.draw(st.lists(ROW, min_size=2, max_size=60))
    added = data.draw(st.lists(ROW, max_size=30))
    order = data.draw(st.permutations(range(len(rows) + len(added))))
    joins = data.draw(st.dictionaries(st.integers(0, 40), st.integers(0, 10), max_size=20))
    before = split(rows, {})
    tested = {bytes_digest(b"%d" % image) for (_, image, _), side in zip(rows, before.side, strict=True) if side == "test"}
    everything = rows + added
    after = split([everything[i] for i in order], joins, tested=tested)
    now = np.empty(len(everything), "U5")
    now[order] = after.side
    for i, (_, image, name) in enumerate(rows):
        if before.side[i] == "test":
            ours = [number for number, row in enumerate(everything) if row[1:] == (image, name)]
            if not {everything[number][0] for number in ours} & set(after.unstable):
                assert now[i] == "test" or _shares_a_class(everything, i, joins, after)


def _shares_a_class(table: list[tuple[int, int, str]], row: int, joins: dict[int, int], sides: HoldOut) -> bool:
    """Return whether a row's group holds rows of a class that had to be given a side."""
    _, image, name = table[row]

    def group(image: int, name: str) -> object:
        return name or joins.get(image, image)

    return any(label in sides.unstable for label, *other in table if group(*other) == group(image, name))


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 8), min_size=100, max_size=200),
    fraction=st.floats(0.08, 0.5),
    seed=st.integers(0, 2**31 - 1),
    data=st.data(),
)
def test_groups_stand_whole_and_the_share_is_near(sizes: list[int], fraction: float, seed: int, data: st.DataObject) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    order = np.asarray(data.draw(st.permutations(range(len(groups)))))
    sha256 = digests(len(groups), str(seed))
    labels = groups % 2
    sides = hold_out(labels, sha256, groups, fraction, seed)
    for number in range(len(sizes)):
        assert len(set(sides.side[groups == number])) == 1
    assert set(sides.side) == {"train", "test"}  # none is left out
    if fraction >= 0.25:  # of a small share, a class of fifty groups may have none
        assert sides.unstable == ()
    assert abs((sides.side == "test").mean() - fraction) <= SLACK + 1e-12
    other = hold_out(labels[order], [sha256[i] for i in order], 1000 - groups[order], fraction, seed)
    np.testing.assert_array_equal(other.side, sides.side[order])


def test_images_that_are_added_move_no_old_one_of_a_large_set() -> None:
    """Copies of any image, and new ones; a group changes sides where its first member is new, and else never."""
    sha256 = digests(3000)
    old = hold_out(np.arange(2000) % 2, sha256[:2000], alone(2000), 0.2, 0)
    groups = np.where(np.arange(3000) < 2500, alone(3000), alone(3000) - 2500)  # the last 500 belong to the first 500
    new = hold_out(np.arange(3000) % 2, sha256, groups, 0.2, 0)
    assert (old.moved, new.moved) == (0, 0)
    as_was = np.asarray([sha256[i] < sha256[2500 + i] for i in range(500)] + [True] * 1500)
    assert 200 < as_was[:500].sum() < 300
    np.testing.assert_array_equal(new.side[:2000][as_was], old.side[as_was])
    tested = {sha256[i] for i in np.flatnonzero(old.side == "test")}
    again = hold_out(np.arange(3000) % 2, sha256, groups, 0.2, 0, tested=tested)
    assert (again.side[:2000][old.side == "test"] == "test").all()
    assert again.kept == (new.side[:2000][old.side == "test"] == "train").sum() > 0


def test_a_share_that_chance_makes_too_small_or_too_large_is_brought_near() -> None:
    found = [hold_out(alone(60) % 2, digests(60), alone(60), 0.3, seed) for seed in range(40)]
    assert min(sides.moved for sides in found) < 0 < max(sides.moved for sides in found)
    for sides in found:
        assert 15 <= of(sides).count("test") <= 21
        if sides.moved:
            assert of(sides).count("test") == (15 if sides.moved > 0 else 21)  # no more than needed


def test_one_large_group_is_not_moved_where_that_would_help_nothing() -> None:
    groups = np.minimum(alone(60), 30)  # the last 30 belong together
    for seed in range(20):
        sides = hold_out(alone(60) % 2, digests(60), groups, 0.2, seed)
        assert of(sides).count("test") in range(9, 16) or set(sides.side[30:]) == {"test"}
        assert len(set(sides.side[30:])) == 1


def test_the_order_of_the_rows_does_not_matter() -> None:
    labels = np.arange(90) % 3
    order = np.random.default_rng(0).permutation(90)
    groups = np.random.default_rng(1).integers(0, 70, 90)
    sha256 = digests(90)
    one = hold_out(labels, sha256, groups, 0.2, 0).side
    other = hold_out(labels[order], [sha256[i] for i in order], groups[order] + 5, 0.2, 0).side
    np.testing.assert_array_equal(other, one[order])


def test_another_seed_is_another_choice() -> None:
    labels = np.arange(60) % 2
    one, other = (of(hold_out(labels, digests(60), alone(60), 0.3, seed)) for seed in (0, 1))
    assert one != other
    assert one == of(hold_out(labels, digests(60), alone(60), 0.3, 0))


def test_copies_stand_on_one_side() -> None:
    sha256 = digests(40) * 3
    side = hold_out(np.tile(np.arange(40) % 2, 3), sha256, np.tile(alone(40), 3), 0.3, 0).side.reshape(3, 40)
    assert set(side[0]) == {"train", "test"}
    assert (side == side[0]).all()


def test_a_named_group_draws_once() -> None:
    names = [f"patient {i // 6}" for i in range(120)]
    side = hold_out(np.tile([0, 1], 60), digests(120), alone(120) // 6, 0.3, 0, names=names).side.reshape(20, 6)
    assert (side == side[:, :1]).all()
    assert set(side[:, 0]) == {"train", "test"}
    renamed = hold_out(np.tile([0, 1], 60), digests(120, "other"), alone(120) // 6, 0.3, 0, names=names).side
    np.testing.assert_array_equal(renamed, side.ravel())  # by its name alone


def test_the_first_member_draws_for_its_group() -> None:
    labels = np.tile([0, 1], 200)
    sha256 = digests(400)
    single = hold_out(labels, sha256, alone(400), 0.4, 0).side
    side = hold_out(labels, sha256, alone(400) // 4, 0.4, 0).side
    for start in range(0, 400, 4):
        first = min(range(start, start + 4), key=lambda i: sha256[i])
        assert set(side[start : start + 4]) == {single[first]}


def test_rows_that_must_not_test_keep_those_that_belong_to_them_out_of_the_test() -> None:
    labels = np.tile([0, 1], 40)
    fixed = np.arange(80) < 40
    groups = np.tile(alone(40), 2)
    sides = hold_out(labels, digests(80), groups, 0.4, 0, training=fixed)
    assert set(sides.side[:40]) == {"train"}
    assert set(sides.side[40:]) == {"train", ""}


@pytest.mark.parametrize(("fraction", "tests"), [(1e-9, 1), (1 - 1e-9, 4)])
def test_a_class_that_chance_leaves_without_a_side_gets_one_image(fraction: float, tests: int) -> None:
    labels = np.repeat([0, 1], 5).astype(np.int64)
    sides = hold_out(labels, digests(10), alone(10), fraction, 0)
    assert [(sides.side[labels == i] == "test").sum() for i in (0, 1)] == [tests, tests]
    assert sides.unstable == (0, 1)


def test_the_image_that_is_picked_is_the_one_that_came_nearest() -> None:
    labels = np.zeros(8, np.int64)
    picked = of(hold_out(labels, digests(8), alone(8), 1e-9, 0)).index("test")
    by_fraction = [of(hold_out(labels, digests(8), alone(8), f, 0)) for f in np.linspace(0.01, 0.9, 90)]
    first = next(side for side in by_fraction if side.count("test") > 1)
    assert first[picked] == "test"


def test_a_class_of_a_single_group_trains() -> None:
    labels = np.asarray([0, 0, 0, *[1] * 20])
    groups = np.asarray([0, 0, 0, *range(1, 21)])
    for seed in range(10):
        sides = hold_out(labels, digests(23), groups, 0.5, seed)
        assert set(sides.side[:3]) == {"train"}


def test_a_class_gets_no_test_image_at_the_cost_of_another_class() -> None:
    labels = np.asarray([0, 0, 1, 1, 1])
    groups = np.asarray([0, 1, 0, 2, 2])  # the only groups of class 1 are 0, with an image of class 0, and 2
    for seed in range(20):
        side = hold_out(labels, digests(5), groups, 0.3, seed).side
        assert {"train", "test"} <= {*side[:2], ""} or {"train"} <= set(side[:2])
        for label in (0, 1):
            assert "train" in side[labels == label]


def test_a_group_counts_for_each_of_its_classes() -> None:
    labels = np.asarray([0, 0, 1, 1, 1, 2])
    assert groups_of_classes(labels, np.asarray([5, 5, 5, 7, 8, 8])) == {0: 1, 1: 3, 2: 1}


class Counting(np.ndarray):
    """Numbers that count how many of them are compared."""

    compared = 0

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        Counting.compared += max(np.size(value) for value in inputs)
        plain = [value.view(np.ndarray) if isinstance(value, Counting) else value for value in inputs]
        return getattr(ufunc, method)(*plain, **options)


def test_many_small_classes_are_no_square() -> None:
    """Two images of each of 3,000 classes: chance puts both on one side of most, and one is moved."""
    labels = np.repeat(np.arange(3000), 2).view(Counting)
    Counting.compared = 0
    sides = hold_out(labels, digests(6000), alone(6000).view(Counting), 0.2, 0)
    assert len(sides.unstable) > 1500
    assert Counting.compared < 50 * 6000  # one look at all rows for each class would be 18 million
