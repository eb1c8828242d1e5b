"""The hold-out: stable when images are added, near the wish, and never through a group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffe.keys import bytes_digest
from ffe.splits.sides import Sides, groups_of_classes, hold_out


def digests(count: int, name: str = "image") -> list[str]:
    return [bytes_digest(f"{name} {i}".encode()) for i in range(count)]


def alone(count: int) -> np.ndarray:
    return np.arange(count)


def of(sides: Sides) -> list[str]:
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


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_images_that_are_added_move_no_old_one_to_the_other_side(data: st.DataObject) -> None:
    """Whatever is added, and whatever it belongs to; classes that are too small for chance are named, and left aside."""
    row = st.tuples(st.integers(0, 2), st.integers(0, 80), st.integers(0, 60), st.sampled_from(["", "", "a", "b"]))
    rows = data.draw(st.lists(row, min_size=2, max_size=60))
    added = data.draw(st.lists(row, max_size=30))
    order = data.draw(st.permutations(range(len(rows) + len(added))))

    def split(table: list[tuple[int, int, int, str]]) -> Sides:
        labels = np.asarray([label for label, *_ in table], np.int64)
        sha256 = [bytes_digest(b"%d" % image) for _, image, _, _ in table]
        together = np.asarray([group for _, _, group, _ in table])
        return hold_out(labels, sha256, together, 0.3, 0, names=[name for *_, name in table])

    everything = rows + added
    before, after = split(rows), split([everything[i] for i in order])
    moved_back = np.empty(len(everything), "U5")
    moved_back[order] = after.side
    # a group may be moved for one class and hold rows of another
    unsure = {group for label, _, group, _ in everything if label in {*before.unstable, *after.unstable}}
    for i, (_, _, group, _) in enumerate(rows):
        if group not in unsure:
            assert {before.side[i], moved_back[i]} != {"train", "test"}


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


def test_of_a_group_on_both_sides_only_the_training_images_stay() -> None:
    labels = np.tile([0, 1], 40)
    plain = hold_out(labels, digests(80), alone(80), 0.4, 0)
    groups = alone(80) // 2
    side = hold_out(labels, digests(80), groups, 0.4, 0).side
    assert plain.unstable == ()
    pairs = list(zip(plain.side.reshape(40, 2).tolist(), side.reshape(40, 2).tolist(), strict=True))
    assert {tuple(before) for before, _ in pairs} == {(a, b) for a in ("train", "test") for b in ("train", "test")}
    for before, after in pairs:
        assert after == ([name if name == "train" else "" for name in before] if "train" in before else before)


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
        assert {"train"} <= set(sides.side[:3]) <= {"train", ""}


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
