"""Folds: stratified, balanced, and never through a group."""

from __future__ import annotations

import numpy as np
import pytest

from ffe.base.digests import bytes_digest
from ffe.errors import DataError
from ffe.splits.folds import assign_folds


def digests(count: int) -> list[str]:
    return [bytes_digest(b"%d" % i) for i in range(count)]


NAMES = ("cat", "dog", "emu")
LABELS = np.repeat([0, 1, 2], [50, 30, 10]).astype(np.int64)


def test_every_fold_has_its_share_of_every_class() -> None:
    folds = assign_folds(LABELS, digests(90), np.arange(90), 4, 0, NAMES)
    assert folds.dtype == np.int64
    assert np.ptp(np.bincount(folds, minlength=4)) <= 1
    for label in range(3):
        assert np.ptp(np.bincount(folds[label == LABELS], minlength=4)) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_dealt_whole_and_evenly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 8, 60)
    groups = np.repeat(np.arange(60), sizes)
    labels = np.repeat(np.arange(60) % 3, sizes)
    folds = assign_folds(labels, digests(len(groups)), groups, 5, seed, NAMES)
    assert all(len(set(folds[groups == group])) == 1 for group in range(60))
    for label in range(3):
        assert np.ptp(np.bincount(folds[labels == label], minlength=5)) <= 7  # the largest group
    assert np.ptp(np.bincount(folds, minlength=5)) <= 10


def test_a_group_of_two_classes_is_dealt_once() -> None:
    labels = np.repeat([0, 1], 10).astype(np.int64)
    folds = assign_folds(labels, digests(20), np.tile(np.arange(10), 2), 5, 0, NAMES)
    np.testing.assert_array_equal(folds[:10], folds[10:])


@pytest.mark.portable
def test_order_and_numbers_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    order, groups, sha256 = rng.permutation(90), rng.integers(0, 80, 90), digests(90)
    groups = np.where(LABELS == 0, groups, 100 + np.arange(90))  # of one class each
    one = assign_folds(LABELS, sha256, groups, 5, 0, NAMES)
    other = assign_folds(LABELS[order], [sha256[i] for i in order], 1000 - groups[order], 5, 0, NAMES)
    np.testing.assert_array_equal(other, one[order])


def test_another_seed_is_another_choice() -> None:
    one, other = (assign_folds(LABELS, digests(90), np.arange(90), 5, seed, NAMES) for seed in (0, 1))
    assert (one != other).any()


def test_too_few_images_are_refused() -> None:
    labels = np.asarray([0, 0, 0, 0, 1, 1], np.int64)
    sentence = r"^The class 'dog' has 2 different images for 3 folds; add images of it, or use fewer --folds\.$"
    with pytest.raises(DataError, match=sentence):
        assign_folds(labels, digests(6), np.arange(6), 3, 0, NAMES)


def test_too_few_groups_of_a_class_are_refused() -> None:
    labels = np.repeat([0, 1], 4).astype(np.int64)
    sentence = (
        r"^The 4 images of the class 'dog' form only 2 groups that must stay together, for 3 folds; "
        r"add other images of it, or use fewer --folds\.$"
    )
    with pytest.raises(DataError, match=sentence):
        assign_folds(labels, digests(8), np.asarray([0, 1, 2, 3, 4, 4, 5, 5]), 3, 0, NAMES)


def test_more_folds_than_groups_are_refused() -> None:
    sentence = r"^There are 5 folds, but only 4 groups of images to deal into them; use fewer --folds, or add other images\.$"
    with pytest.raises(DataError, match=sentence):
        assign_folds(np.zeros(9, np.int64), digests(9), np.arange(9) % 4, 5, 0, NAMES)
