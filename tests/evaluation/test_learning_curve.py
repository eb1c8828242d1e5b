"""What more photos would bring."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ffe.errors import DataError
from ffe.evaluation.intervals import Z
from ffe.evaluation.learning_curve import LearningCurve, LearningCurvePoint, fit_learning_curve

SIZES = (50, 100, 200, 400)


def curve(a: float, b: float, c: float, sizes: tuple[int, ...] = SIZES) -> list[float]:
    return [1 - a - b * n**-c for n in sizes]


def fit(sizes: Sequence[int], accuracies: Sequence[float], errors: Sequence[float], seed: int = 0) -> LearningCurve:
    """Fit points whose intervals reach down as far as their standard errors let them, and half as far up."""
    points = zip(sizes, accuracies, errors, strict=True)
    return fit_learning_curve([LearningCurvePoint(n, a, (a - Z * e, a + Z * e / 2)) for n, a, e in points], seed=seed)


@pytest.mark.parametrize(("a", "b", "c"), [(0.0, 0.7, 0.5), (0.02, 1.0, 0.7), (0.05, 3.0, 1.0)])
def test_an_exact_curve_is_continued(a: float, b: float, c: float) -> None:
    found = fit(SIZES, curve(a, b, c), [0.0005] * 4)
    assert found.size == 800
    assert found.accuracy == pytest.approx(1 - a - b * 800**-c, abs=0.002)
    assert found.gain == pytest.approx(b * (400**-c - 800**-c), abs=0.002)
    assert found.c == pytest.approx(c, abs=0.03)


def test_the_truth_lies_in_the_interval_mostly() -> None:
    rng = np.random.default_rng(0)
    truth, spread = 1 - 0.01 - 0.7 * 800**-0.5, 0.004
    hits = 0
    for trial in range(60):
        noisy = rng.normal(curve(0.01, 0.7, 0.5), spread)
        low, high = fit(SIZES, noisy.tolist(), [spread] * 4, seed=trial).interval or (1, 0)
        hits += low <= truth <= high
    assert hits >= 50


@pytest.mark.parametrize("share", [0.7, 0.3])
def test_the_gain_is_mostly_not_above_its_interval(share: float) -> None:
    """Also of few photos whose errors go on to fall, to nothing."""
    rng, spread, errors = np.random.default_rng(0), 0.012, np.asarray([share * n**-0.5 for n in SIZES])
    gain, hits = share * (400**-0.5 - 800**-0.5), 0
    for trial in range(60):
        noisy = np.clip(rng.normal(1 - errors, spread), 0, 1)
        found = fit(SIZES, noisy.tolist(), [spread] * 4, seed=trial)
        hits += (found.gain_interval or (0, 0))[1] >= gain
    assert hits >= 50


@pytest.mark.parametrize(
    ("accuracies", "error", "sentence"),
    [
        (curve(0.0, 0.7, 0.5), 0.001, r"^twice as many photos would bring about 1\.0 points \(0\.[6-9] to 1\.[0-2]\)$"),
        ([0.97, 0.971, 0.97, 0.971], 0.002, r"^twice as many photos would bring at most 0\.\d points$"),
        ([0.87, 0.88, 0.88, 0.893], 0.01, r"^twice as many photos would bring about 0\.7 points \(from nothing to 1\.[1-5]\)$"),
        (
            [0.6, 0.7, 0.65, 0.7],
            0.05,
            r"^what twice as many photos would bring cannot be told: anything from nothing to \d\.\d points is possible$",
        ),
        ([1.0, 1.0, 1.0, 1.0], 0.001, r"^twice as many photos would bring at most 0\.1 points$"),
    ],
)
def test_the_sentence(accuracies: list[float], error: float, sentence: str) -> None:
    import re

    found = fit(SIZES, accuracies, [error] * 4)
    assert re.match(sentence, found.sentence), found.sentence


@pytest.mark.parametrize("accuracies", [[0.9, 0.93, 0.92, 0.95], [0.9, 0.97, 0.96, 0.93], [0.8, 0.9, 0.95, 0.97]])
def test_what_is_foreseen_goes_on_from_what_was_measured(accuracies: list[float]) -> None:
    """So that sentence, table and chart of a page say the same."""
    found = fit(SIZES, accuracies, [0.01] * 4)
    assert found.a is not None
    assert found.b is not None
    assert found.c is not None
    assert 1 - found.a - found.b * 400**-found.c == pytest.approx(accuracies[-1])
    assert found.accuracy == pytest.approx(accuracies[-1] + (found.gain or 0))


def test_two_points_are_too_few() -> None:
    found = fit([50, 100], [0.9, 0.92], [0.01, 0.01])
    assert (found.a, found.accuracy, found.gain_interval, found.size) == (None, None, None, 200)
    assert found.sentence == "what twice as many photos would bring cannot be told"


def test_a_curve_that_falls_promises_nothing() -> None:
    found = fit(SIZES, [0.95, 0.94, 0.93, 0.92], [0.002] * 4)
    assert found.gain == 0
    assert found.b == 0


def test_points_come_in_any_order() -> None:
    accuracies, errors = curve(0.0, 0.7, 0.5), [0.004, 0.003, 0.002, 0.001]
    expected = fit(SIZES, accuracies, errors)
    shuffled = fit(SIZES[::-1], accuracies[::-1], errors[::-1])
    assert shuffled.gain_interval == expected.gain_interval
    assert [point.size for point in shuffled.points] == list(SIZES)


def test_what_does_not_fit_is_refused() -> None:
    sentence = r"^A growth curve needs points whose sizes are above 0 and different; give each one once\.$"
    for sizes in ((), (0, 50, 100), (50, 100, 50)):
        with pytest.raises(DataError, match=sentence):
            fit(sizes, [0.5] * len(sizes), [0.1] * len(sizes))
