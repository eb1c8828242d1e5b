"""Planted wrong labels are found."""

from __future__ import annotations

import numpy as np
import pytest

from ffe.evaluation.label_errors import find_label_errors
from ffe.evaluation.temperature import softmax


@pytest.mark.parametrize("classes", [2, 5])
def test_planted_errors_are_found(classes: int) -> None:
    rng = np.random.default_rng(classes)
    true = rng.integers(0, classes, 1000)
    scores = rng.normal(0, 1, (1000, classes))
    scores[np.arange(1000), true] += 4
    labels = true.copy()
    wrong = rng.choice(1000, 60, replace=False)
    labels[wrong] = (true[wrong] + rng.integers(1, classes, 60)) % classes
    issues = find_label_errors(softmax(scores), labels)
    assert issues is not None
    found = {issue.row for issue in issues}
    assert len(found & set(wrong)) / 60 > 0.65  # recall: the method leaves what it is unsure of
    assert len(found & set(wrong)) / len(found) > 0.9  # precision
    surest = issues[:30]
    assert np.mean([issue.row in set(wrong) for issue in surest]) > 0.95
    assert np.mean([issue.suggested == true[issue.row] for issue in surest]) > 0.95
    margins = [issue.probability_given - issue.probability_suggested for issue in issues]
    assert margins == sorted(margins)


def test_thresholds_by_hand() -> None:
    """Class 0 is said with 0.9 and 0.1, so from 0.5; class 1 with 0.8, 0.6 and 0.35, so from 0.583."""
    of_one = np.asarray([0.1, 0.9, 0.8, 0.6, 0.35])
    issues = find_label_errors(np.stack([1 - of_one, of_one], axis=1), np.asarray([0, 0, 1, 1, 1]))
    assert issues is not None
    assert [issue.to_json() for issue in issues] == [
        {"row": 1, "given": 0, "suggested": 1, "probability_given": pytest.approx(0.1), "probability_suggested": 0.9},
        {"row": 4, "given": 1, "suggested": 0, "probability_given": 0.35, "probability_suggested": pytest.approx(0.65)},
    ]


def test_a_weak_doubt_is_no_issue() -> None:
    of_one = np.asarray([0.55, 0.1, 0.95, 0.9])
    assert find_label_errors(np.stack([1 - of_one, of_one], axis=1), np.asarray([0, 0, 1, 1])) == ()


def test_a_class_without_rows_is_never_suggested() -> None:
    assert find_label_errors(np.asarray([[0.1, 0.0, 0.9], [0.1, 0.9, 0.0]]), np.asarray([0, 1])) == ()


@pytest.mark.parametrize("classes", [2, 5, 20])
def test_what_hardly_learnt_anything_can_tell_nothing(classes: int) -> None:
    rng = np.random.default_rng(classes)
    probabilities = softmax(rng.normal(0, 0.05, (200, classes)))
    assert find_label_errors(probabilities, rng.integers(0, classes, 200)) is None


def test_the_other_class_is_to_be_likely_and_far_ahead() -> None:
    """Class 0 is said with 0.2 to 0.6, and is suggested from its mean on; that alone is not enough."""
    least = np.asarray([[0.2, 0.6, 0.2], [0.49, 0.2, 0.31], [0.55, 0.4, 0.05], [0.6, 0.35, 0.05], [0.4, 0.35, 0.25]])
    issues = find_label_errors(least, np.asarray([0, 1, 1, 1, 0]))
    assert issues is not None
    assert [issue.row for issue in issues] == [0, 3]


def test_of_a_photo_with_several_labels_all_but_the_likeliest_come_first() -> None:
    """Photo 5 is labelled 0, 1 and 1, photo 3 twice 0, photo 2 has an answer of even chances, photo 9 is doubted for itself."""
    of_one = np.asarray([0.45, 0.45, 0.45, 0.2, 0.2, 0.5, 0.5, 0.95, 0.8, 0.1])
    labels, photos = np.asarray([0, 1, 1, 0, 0, 1, 0, 0, 1, 0]), np.asarray([5, 5, 5, 3, 3, 2, 2, 9, 8, 7])
    probabilities = np.stack([1 - of_one, of_one], axis=1)
    found, alone = find_label_errors(probabilities, labels, photos), find_label_errors(probabilities, labels)
    assert found is not None
    assert alone is not None
    assert [(issue.row, issue.given, issue.suggested, issue.probability_suggested) for issue in found] == [
        (1, 1, 0, 0.55),
        (2, 1, 0, 0.55),
        (5, 1, 0, 0.5),
        (7, 0, 1, 0.95),
    ]
    assert [issue.row for issue in alone] == [7]
