"""Splits: stratified, stable, and never across identical images."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ffe.errors import DataError
from ffe.splits.sides import assign_folds, hold_out


def _digests(count: int, name: str = "image") -> list[str]:
    return [hashlib.sha256(f"{name} {i}".encode()).hexdigest() for i in range(count)]


LABELS = np.repeat([0, 1, 2], [50, 30, 10]).astype(np.int64)
DIGESTS = _digests(90)


def test_the_share_held_out_is_that_of_every_class() -> None:
    held = hold_out(LABELS, DIGESTS, 0.2, 0)
    assert held.dtype == bool
    assert np.bincount(LABELS[held]).tolist() == [10, 6, 2]


@pytest.mark.parametrize(("images", "fraction", "held"), [(1, 0.5, 0), (2, 0.01, 1), (2, 0.99, 1), (3, 0.5, 2), (10, 0.01, 1)])
def test_at_least_one_image_is_held_out_and_one_is_not(images: int, fraction: float, held: int) -> None:
    assert hold_out(np.zeros(images, np.int64), _digests(images), fraction, 0).sum() == held


def test_identical_images_stay_together() -> None:
    digests = _digests(20)
    sha256 = digests * 3
    labels = np.tile(np.arange(20) % 2, 3).astype(np.int64)
    held = hold_out(labels, sha256, 0.3, 0).reshape(3, 20)
    assert held[0].sum() == 6
    assert (held == held[0]).all()
    folds = assign_folds(labels, sha256, 4, 0).reshape(3, 20)
    assert (folds == folds[0]).all()


def test_an_image_in_two_classes_still_stands_on_one_side() -> None:
    sha256 = [*_digests(10), *_digests(10)]
    labels = np.repeat([0, 1], 10).astype(np.int64)
    held = hold_out(labels, sha256, 0.4, 0)
    assert held[:10].sum() == 4
    np.testing.assert_array_equal(held[:10], held[10:])


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_the_rows_does_not_matter(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(LABELS))
    shuffled = [DIGESTS[i] for i in order]
    np.testing.assert_array_equal(hold_out(LABELS[order], shuffled, 0.2, 0), hold_out(LABELS, DIGESTS, 0.2, 0)[order])
    np.testing.assert_array_equal(assign_folds(LABELS[order], shuffled, 5, 0), assign_folds(LABELS, DIGESTS, 5, 0)[order])


def test_another_seed_is_another_choice() -> None:
    assert (hold_out(LABELS, DIGESTS, 0.2, 0) != hold_out(LABELS, DIGESTS, 0.2, 1)).any()
    assert (assign_folds(LABELS, DIGESTS, 5, 0) != assign_folds(LABELS, DIGESTS, 5, 1)).any()
    np.testing.assert_array_equal(hold_out(LABELS, DIGESTS, 0.2, 1), hold_out(LABELS, DIGESTS, 0.2, 1))


def test_a_new_image_moves_few_of_the_old_ones() -> None:
    """Images are ranked by their own digests, so one more shifts the border by one at the most."""
    before = hold_out(np.zeros(50, np.int64), _digests(50), 0.2, 0)
    after = hold_out(np.zeros(51, np.int64), _digests(51), 0.2, 0)[:50]
    assert (before != after).sum() <= 1


def test_every_row_has_one_fold_and_folds_are_balanced() -> None:
    folds = assign_folds(LABELS, DIGESTS, 4, 0)
    assert folds.shape == LABELS.shape
    sizes = np.bincount(folds, minlength=4)
    assert len(sizes) == 4
    assert sizes.max() - sizes.min() <= 1
    for label in range(3):
        of_class = np.bincount(folds[label == LABELS], minlength=4)
        assert of_class.max() - of_class.min() <= 1


def test_too_few_images_for_the_folds_are_refused() -> None:
    labels = np.asarray([0, 0, 0, 0, 1, 1, 1, 1], np.int64)
    sha256 = [*_digests(4), *_digests(2, "other"), *_digests(2, "other")]
    sentence = r"^The class number 1 has 2 different images for 3 folds; add images of it, or use fewer --folds\.$"
    with pytest.raises(DataError, match=sentence):
        assign_folds(labels, sha256, 3, 0)
