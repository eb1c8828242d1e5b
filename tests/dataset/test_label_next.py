"""Which photos are chosen: unsure ones, from all regions, the same each time, out of few that are kept."""

from __future__ import annotations

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout
from ffe.dataset.label_next import Candidates, most_kept, spread_out, uncertainty

LAYOUT = FeatureLayout.of_shape((1, 1, 8))


def seen(features: np.ndarray, probabilities: np.ndarray, most: int, block: int) -> Candidates:
    found = Candidates.none()
    for start in range(0, len(features), block):
        rows = np.arange(start, min(start + block, len(features)))
        found = found.joined(rows, features[rows], probabilities[rows], LAYOUT, by="margin", most=most)
    return found


def test_uncertainty_by_margin_and_by_entropy() -> None:
    answers = np.asarray([[1, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3], [0.2, 0.7, 0.1]])
    assert uncertainty(answers, "margin").tolist() == [0, 1, 1, 0.5]
    by_entropy = uncertainty(answers, "entropy")
    assert by_entropy[[0, 2]].tolist() == [0, 1]
    assert by_entropy[1] == pytest.approx(np.log(2) / np.log(3), abs=1e-6)
    assert 0 < by_entropy[3] < 1


def test_the_least_sure_stay_whatever_the_blocks_are() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(500, 8)).astype(np.float32)
    first = np.round(rng.uniform(size=500), 2)  # many are equal
    answers = np.stack([first, 1 - first], axis=1)
    wanted = np.argsort(-uncertainty(answers, "margin"), kind="stable")[:40]
    for block in (7, 40, 500):
        found = seen(features, answers, 40, block)
        assert found.rows.tolist() == wanted.tolist()
        assert np.allclose(np.linalg.norm(found.directions, axis=1), 1, atol=1e-6)
        assert np.allclose(found.directions, features[wanted] / np.linalg.norm(features[wanted], axis=1)[:, None], atol=1e-6)
        assert found.guesses.tolist() == answers[wanted].argmax(axis=1).tolist()


def test_one_photo_of_each_crowd_is_chosen_before_a_second_of_any() -> None:
    """Five crowds of unsure photos, of 100 to 5, and one of sure ones: by uncertainty alone the largest fills the list."""
    rng = np.random.default_rng(0)
    sizes = (100, 50, 20, 10, 5, 200)
    crowd = np.repeat(np.arange(6), sizes)
    features = (np.eye(8)[crowd] + rng.normal(scale=0.02, size=(len(crowd), 8))).astype(np.float32)
    margin = np.where(crowd == 5, 0.95, rng.uniform(0, 0.05, len(crowd))) + np.where(crowd == 0, 0, 0.03)
    answers = np.stack([(1 + margin) / 2, (1 - margin) / 2], axis=1)
    found = seen(features, answers, most_kept(5), 64)
    chosen = found.rows[spread_out(found, 5)]
    assert sorted(crowd[chosen].tolist()) == [0, 1, 2, 3, 4]
    assert (crowd[found.rows[:5]] == 0).all()
    assert chosen[0] == found.rows[0]
    assert spread_out(found, 5).tolist() == spread_out(found, 20)[:5].tolist()


def test_copies_come_last_and_all_are_given_where_there_are_few() -> None:
    features = np.repeat(np.eye(8, dtype=np.float32)[:2], 3, axis=0)
    answers = np.tile([0.5, 0.5], (6, 1))
    found = seen(features, answers, 100, 6)
    order = spread_out(found, 10).tolist()
    assert order[:2] == [0, 3]
    assert sorted(order) == list(range(6))


def test_what_is_kept_is_bounded() -> None:
    assert [most_kept(count) for count in (1, 50, 100, 2000, 30_000)] == [1000, 1000, 2000, 20_000, 30_000]
