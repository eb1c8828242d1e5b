"""The weighted area under the ROC curve equals scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ffe.evaluation.auc import WeightedAuc


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_areas_equal_sklearn_with_ties(levels: int, share: float) -> None:
    rng = np.random.default_rng(levels)
    positive = rng.uniform(size=200) < share
    scores = np.round(rng.uniform(size=200) + 0.3 * positive, 3) * levels // 1
    weights = rng.integers(0, 4, (200, 6)).astype(np.float32)
    expected = [roc_auc_score(positive, scores, sample_weight=column) for column in weights.T]
    np.testing.assert_allclose(WeightedAuc(scores, positive).areas(weights), expected, atol=1e-6)


def test_no_area_of_many_rows_is_above_1() -> None:
    """A product of 7 and the 6,000,002 halves below each positive is no float32: rounded it is more, of 6,000,006 less."""
    scores = np.asarray([0.0, 1.0])
    weights = np.asarray([[3_000_001, 3_000_003], [7, 7]], np.float32)
    assert WeightedAuc(scores, scores == 1).areas(weights).tolist() == [1, 1]


def test_without_one_side_there_is_no_area() -> None:
    ranking = WeightedAuc(np.asarray([0.1, 0.2, 0.3]), np.asarray([False, True, True]))
    areas = ranking.areas(np.asarray([[0, 1, 1], [2, 0, 0], [1, 0, 1]], np.float32))
    assert np.isnan(areas).tolist() == [True, True, False]
    assert areas[2] == 1
