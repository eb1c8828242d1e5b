"""Rows to search on, and evaluators that cost nothing."""

from __future__ import annotations

import numpy as np
import pytest

from ffe.base.feature_layout import FeatureLayout
from ffe.testing.head import separable_rows
from ffe.tuning.problem import Problem, fold_parts
from ffe.tuning.search import SCORERS

from .fake_evaluators import FakeEvaluators

LAYOUT = FeatureLayout.of_shape((2, 3, 4))


@pytest.fixture(scope="session")
def problem() -> Problem:
    """30 rows of two classes that overlap, in three folds; treat it as read-only."""
    features, labels = separable_rows(2, 15)
    features += np.random.default_rng(0).normal(0, 1.5, features.shape).astype(np.float32)
    train = np.arange(30)
    return Problem(features, labels, train, fold_parts(train, train % 3), 2, LAYOUT)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEvaluators:
    """Evaluators that cost nothing, for every head."""
    evaluators = FakeEvaluators()
    for head in SCORERS:
        monkeypatch.setitem(SCORERS, head, evaluators.of(head))
    return evaluators
