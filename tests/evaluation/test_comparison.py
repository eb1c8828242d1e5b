"""Which of two classifiers is better, if one is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ffe.errors import DataError
from ffe.evaluation.comparison import compare, differ


def saying(answers: np.ndarray) -> np.ndarray:
    return np.eye(2)[answers] * 0.8 + 0.1


def test_by_hand() -> None:
    labels = np.zeros(100, np.int64)
    a, b = labels.copy(), labels.copy()
    a[:2], b[2:12] = 1, 1
    found = compare(saying(a), saying(b), labels)
    assert (found.n, found.accuracy_a, found.accuracy_b, found.only_a, found.only_b) == (100, 0.98, 0.9, 10, 2)
    assert found.difference == pytest.approx(0.08)
    assert found.p_value == pytest.approx(2 * (1 + 12 + 66) / 2**12)  # 2 or fewer heads of 12, both sides
    assert found.interval == pytest.approx((0.02, 0.15), abs=0.015)
    assert found.real
    assert json.loads(json.dumps(found.to_json()))["interval"] == list(found.interval)


def test_the_other_way_round_is_the_mirror_image() -> None:
    rng = np.random.default_rng(0)
    labels, a, b = rng.integers(0, 2, (3, 200))
    one, other = compare(saying(a), saying(b), labels), compare(saying(b), saying(a), labels)
    assert one.difference == -other.difference
    assert one.p_value == other.p_value
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]), abs=1e-6)


def test_equally_good_ones_are_rarely_told_apart() -> None:
    rng = np.random.default_rng(1)
    labels = np.zeros(150, np.int64)
    real = [compare(*(saying((rng.uniform(size=150) < 0.1).astype(np.int64)) for _ in "ab"), labels).real for _ in range(60)]
    assert sum(real) <= 6


def test_the_same_answers_are_no_difference_and_no_certainty() -> None:
    labels = np.arange(50) % 2
    found = compare(saying(labels), saying(labels), labels)
    assert (found.difference, found.p_value, found.real) == (0, 1, False)
    assert found.interval == pytest.approx((-0.0713, 0.0713), abs=1e-3)  # Wilson's for 0 of 50


def test_one_row_proves_nothing() -> None:
    found = compare(saying(np.asarray([0])), saying(np.asarray([1])), np.asarray([0]))
    assert found.difference == 1
    assert found.interval == pytest.approx((2 * 0.2065 - 1, 1), abs=1e-3)
    assert not found.real


def test_a_lead_in_one_group_is_no_lead() -> None:
    """30 photos of one person decide between the two; with people as groups that is one case."""
    labels = np.zeros(300, np.int64)
    b = np.where(np.arange(300) < 30, 1, 0)
    assert compare(saying(labels), saying(b), labels).real
    assert not compare(saying(labels), saying(b), labels, groups=np.arange(300) // 30).real


def test_different_rows_are_refused() -> None:
    sentence = r"^The two classifiers were not asked about the same rows and classes; score both on the same ones\.$"
    with pytest.raises(DataError, match=sentence):
        compare(np.full((3, 2), 0.5), np.full((2, 2), 0.5), np.zeros(3, np.int64))


def right(count: int, of: int) -> np.ndarray:
    return np.arange(of) < count


def test_two_shares_of_different_images_by_hand() -> None:
    """134 of 150 and 37 of 50: z = 0.1533 / sqrt(0.855 * 0.145 * (1/150 + 1/50)) = 2.667, p = 0.0077."""
    assert differ(right(134, 150), right(37, 50)) == pytest.approx(0.00766, abs=2e-5)
    assert differ(right(37, 50), right(134, 150)) == differ(right(134, 150), right(37, 50))
    assert differ(right(50, 50), right(20, 20)) == 1
    assert differ(right(9, 9), right(0, 50)) == 1  # of so few nothing is told


def test_images_that_belong_together_tell_less_apart() -> None:
    """Groups of five that are right or wrong as one count as one."""
    a, b = np.repeat(right(27, 30), 5), np.repeat(right(14, 20), 5)
    apart = differ(a, b, np.arange(150) // 5, np.arange(100) // 5)
    assert apart == pytest.approx(differ(right(27, 30), right(14, 20)), abs=0.02)
    assert differ(a, b) < 0.01 < apart


def test_chance_alone_is_rarely_called_more() -> None:
    rng = np.random.default_rng(0)
    found = [differ(rng.random(150) < 0.9, rng.random(50) < 0.9) < 0.01 for _ in range(1000)]
    assert sum(found) < 25
